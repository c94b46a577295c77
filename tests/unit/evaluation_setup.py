"""Small prepared test sets and checkpoints, for the tests of whatever measures."""

import csv
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from extracter.data.degradation import downscale, upscale
from extracter.models.checkpoint import build_model, save_model
from extracter.params import read
from extracter.presets import Model, Preset

SEED = 2310


def preset() -> Preset:
    """The demo preset of params.yaml with a network that runs in a blink."""
    demo = read(Path(__file__).parents[2] / "params.yaml").presets["demo"]
    toy = Model(
        features=4, dfe_width=4, vgg_weights="random", ife_blocks=0, csfi_blocks=[0, 0, 0], gde_blocks=[0, 0, 0],
        ttsr_blocks=[0, 0, 0, 0], srntt_blocks=1, ssen_blocks=[0, 0], c2_blocks=0, masa_blocks=[0, 0, 0, 0, 0],
        textures=2, bicubic_skip=True, align=False, gate=False, trust=None, idle=None,
        registration=False,
    )  # fmt: skip
    return demo.model_copy(update={"model": toy, "seed": SEED})


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """Something with structure at several scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(pixels + rng.integers(-20, 21, pixels.shape), 0, 255).astype(np.uint8))


def write_test_set(folder: Path, *, sizes=((64, 48), (52, 72)), references="random", stand_in=True, name="set14"):
    """A prepared test set as the layout wants it; image `a` first, sizes as (height, width)."""
    names = [chr(ord("a") + index) for index in range(len(sizes))]
    for index, (letter, size) in enumerate(zip(names, sizes, strict=True)):
        hr = photograph(index, *size)
        images = {"hr": hr, "lr": downscale(hr), "lr_up": upscale(downscale(hr))}
        if references == "self":
            images["ref_du"] = upscale(downscale(images["lr_up"]))
        for kind, image in images.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            image.save(folder / kind / f"{letter}.png")
    rows = []
    for index, letter in enumerate(names):
        other = names[(index + 1) % len(names)]
        if references == "self":
            pair = (f"lr_up/{letter}.png", f"ref_du/{letter}.png")
        else:
            pair = (f"hr/{other}.png", f"lr_up/{other}.png")
        rows += [[f"hr/{letter}.png", 1, *pair], [f"hr/{letter}.png", 2, "hr/a.png", "lr_up/a.png"]]
    with (folder / "references.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["image", "rank", "reference", "reference_du"], *rows])
    write_manifest(folder, name=name, references=references, stand_in=stand_in)
    return folder


def write_manifest(folder: Path, *, name="set14", references="random", stand_in=True) -> None:
    files = [
        {
            "path": path.relative_to(folder).as_posix(),
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*.*"))
        if path.name != "manifest.json"
    ]
    content = {"set": name, "source": "demo", "stand_in": stand_in, "references": references, "files": files}
    (folder / "manifest.json").write_text(json.dumps(content))


def write_checkpoint(folder: Path, *, family="extracter", phase="rec", **changes) -> Path:
    """A checkpoint with weights that are not those of bicubic; `changes` overwrite keys of training.json."""
    torch.manual_seed(SEED)
    parameters = preset()
    network = build_model(family, parameters.model, parameters.search)
    last = [module for module in network.tail.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(last.weight, std=0.1)
    if family == "srntt":  # whose features begin hundreds of times smaller
        for module in network.tail:
            torch.nn.init.normal_(module.weight, std=2.0)
    training = {
        "family": family,
        "phase": phase,
        "model": parameters.model.model_dump(mode="json"),
        "search": parameters.search.model_dump(mode="json"),
        "vgg_weights": "random",
        "best_step": 7,
        **changes,
    }
    save_model(network, network.state_dict(), folder, training)
    return folder
