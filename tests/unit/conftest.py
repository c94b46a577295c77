"""What several unit tests need: a small training set, small networks, small parameters."""

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extracter import params
from extracter.data import manifest
from extracter.data.degradation import downscale, upscale

# A shell starts background jobs with SIGINT ignored, and so would be the commands that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_preset() -> params.Preset:
    """The demo preset, small enough for a step in milliseconds."""
    demo = params.read(Path(__file__).parents[2] / "params.yaml").presets["demo"].model_dump()
    demo["model"] |= {
        "features": 8, "dfe_width": 4, "ife_blocks": 1, "csfi_blocks": [1, 1, 1], "gde_blocks": [1, 1, 1],
        "ttsr_blocks": [1, 1, 1, 1],
    }  # fmt: skip
    demo["train"] |= {
        "batch": 2, "rec_steps": 6, "full_steps": 4, "validate_every": 2, "checkpoint_every": 2, "dfe_lr": 1.0e-4,
    }  # fmt: skip
    demo["data"]["train"] |= {"size": 32, "pairs": 5, "validation": 1}
    return params.validate({"preset": "demo", "presets": {"demo": demo}}).selected


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six prepared pairs of 32 x 32 pixels, the last held out: smooth noise and its shifted copy."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(7)
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("hr", "lr", "lr_up", "ref", "ref_lr", "ref_du")}
    for _ in range(6):
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (48, 48), Image.Resampling.BICUBIC
        )
        for name, low, up, box in (
            ("hr", "lr", "lr_up", (0, 0, 32, 32)),
            ("ref", "ref_lr", "ref_du", (5, 3, 37, 35)),
        ):
            crop = noise.crop(box)
            for key, image in ((name, crop), (low, downscale(crop)), (up, upscale(downscale(crop)))):
                arrays[key].append(np.asarray(image))
    for name, images in arrays.items():
        np.save(folder / f"{name}.npy", np.stack(images))
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "name", "split"])
        writer.writerows([i, f"pair{i}", "validation" if i == 5 else "train"] for i in range(6))
    files = [manifest.describe(folder, path.name) for path in sorted(folder.iterdir())]
    manifest.write(folder, "train", "demo", stand_in=True, files=files)
    return folder
