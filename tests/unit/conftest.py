"""Fixtures shared by the unit tests: small photographs, training sets, networks and parameter blocks."""

import csv
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from devices import DEVICE
from PIL import Image

from extracter import params
from extracter.data import manifest, pair_arrays
from extracter.models.blocks import _bicubic_matrix
from extracter.presets import Preset, TestData, TrainData
from extracter.search.block_grid import constants

# A shell starts background jobs with SIGINT ignored, and so would be the commands that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def device() -> str:
    """Where the tests compute: the environment variable EXTRACTER_TEST_DEVICE, by default the CPU."""
    return DEVICE


@pytest.fixture
def no_kept_tensors() -> Iterator[None]:
    """Fake tensors of one test must not be kept for the next, nor for real ones."""

    def forget() -> None:
        constants.cache_clear()
        _bicubic_matrix.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture(scope="session")
def tiny_preset() -> Preset:
    """The demo preset, small enough for a step in milliseconds."""
    demo = params.read(Path(__file__).parents[2] / "params.yaml").presets["demo"].model_dump()
    demo["model"] |= {
        "features": 8, "dfe_width": 4, "ife_blocks": 1, "csfi_blocks": [1, 1, 1], "gde_blocks": [1, 1, 1],
        "ttsr_blocks": [1, 1, 1, 1], "srntt_blocks": 2, "ssen_blocks": [1, 1], "c2_blocks": 1,
        "masa_blocks": [1, 1, 1, 1, 1],
    }  # fmt: skip
    demo["train"] |= {
        "batch": 2, "rec_steps": 6, "full_steps": 4, "validate_every": 2, "checkpoint_every": 2, "dfe_lr": 1.0e-4,
    }  # fmt: skip
    demo["data"]["train"] |= {"size": 32, "pairs": 5, "validation": 1}
    return params.validate({"preset": "demo", "presets": {"demo": demo}}).selected


@pytest.fixture(scope="session")
def gated_preset(tiny_preset: Preset) -> Preset:
    """The tiny preset with a gate, whose network needs no reference."""
    tiny = tiny_preset.model_dump()
    tiny["model"] |= {"align": True, "gate": True, "trust": [0.4, 0.46], "idle": [0.2, 0.25, 0.31]}
    return params.validate({"preset": "demo", "presets": {"demo": tiny}}).selected


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six prepared pairs of 32 x 32 pixels, the last held out: smooth noise and its shifted copy."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(7)
    hr, ref = [], []
    for _ in range(6):
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
            (48, 48), Image.Resampling.BICUBIC
        )
        hr.append(np.asarray(noise.crop((0, 0, 32, 32))))
        ref.append(np.asarray(noise.crop((5, 3, 37, 35))))
    for name, images in (("hr", hr), ("ref", ref)):
        np.save(folder / f"{name}.npy", np.stack(images[:5]))
        np.save(folder / f"validation_{name}.npy", np.stack(images[5:]))
    rows = [(i % 5, f"pair{i}", f"pair{i}", "validation" if i == 5 else "train", "warped", "") for i in range(6)]
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([pair_arrays.COLUMNS, *rows])
    files = [manifest.describe(folder, path.name) for path in sorted(folder.iterdir())]
    manifest.write(folder, "train", "demo", stand_in=True, files=files)
    return folder


@pytest.fixture
def photograph():
    """Smooth coloured noise: any size, another picture for each seed."""

    def make(seed: int, width: int, height: int) -> Image.Image:
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def raw_set(tmp_path, photograph):
    """A raw set as `download` leaves it: files of the given names and sizes, and manifest.json."""

    def make(name: str, files: dict[str, tuple[int, int]], layout: str = "photographs", source: str = "demo") -> Path:
        folder = tmp_path / "raw" / name
        for number, (path, (width, height)) in enumerate(sorted(files.items())):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            photograph(number, width, height).save(folder / path)
        rewrite(folder, name, layout, source)
        return folder

    def rewrite(folder: Path, name: str, layout: str = "photographs", source: str = "demo") -> None:
        paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != manifest.NAME]
        files = [manifest.describe(folder, path) for path in paths]
        manifest.write(folder, name, source, stand_in=True, layout=layout, files=files)

    make.rewrite = rewrite
    return make


@pytest.fixture
def train_data():
    """Parameters of training data; what a test does not name is small."""

    def make(**changes) -> TrainData:
        values = {"source": "demo", "folder": None, "size": 32, "pairs": 24, "validation": 4, "shift": 0.25}
        values |= {"ref_size": None, "validation_ref_size": None, "mixture": None}
        return TrainData(**values | {"scale": 0.1, "rotation": 10.0, "photometry": 0.2} | changes)

    return make


@pytest.fixture
def test_data():
    """Parameters of a test set."""

    def make(references: str = "self", source: str = "demo", folder: str | None = None) -> TestData:
        return TestData(source=source, folder=folder, references=references)

    return make
