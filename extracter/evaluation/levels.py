"""What is a reference worth? PSNR of each image with references of every level of similarity against none (Table 4)."""

from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image

from extracter.data.datasets import TestImage, TestSet, levels_of, with_reference
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.evaluation.evaluate import check_checkpoint, enlarge, load_network, run_network
from extracter.files import write_csv, write_json
from extracter.metrics import psnr_y
from extracter.models.refsr import RefSR
from extracter.presets import Model, Search
from extracter.progress import track

COLUMNS = ["image", "level", "reference", "inliers", "bicubic", "none", "psnr_y", "gain"]
# Loss in dB from which a reference counts as harmful.
HARM = 0.05


def evaluate_levels(
    variant: str,
    images: Path,
    checkpoint: Path,
    out: Path,
    summary: Path,
    *,
    model: Model | None,
    search: Search | None,
    precision: str,
    device: str,
) -> None:
    """Measure a variant's gain by the references of each level of a test set.

    Args:
        variant, images, checkpoint, model, search, precision, device: as of `evaluate`; bicubic takes no reference.
        out, summary: as of `measure_levels`.

    Raises:
        UserError: as of `evaluate` and `measure_levels`.
    """
    check_checkpoint(variant, checkpoint, model, search)
    target = choose_device(device)
    configure_torch(0)
    network = load_network(checkpoint, search, target)
    measure_levels(network, images, out, summary, variant=variant, device=target, precision=precision)


def measure_levels(
    network: RefSR,
    images: Path,
    out: Path,
    summary: Path,
    *,
    variant: str,
    device: torch.device,
    precision: str = "32-true",
) -> None:
    """Super-resolve each image of a test set with its references of each level, with all together, and with none.

    "None" is no reference, or for networks that need one the input's own bicubic enlargement, which holds nothing that
    LR does not hold.

    Args:
        network: in evaluation mode, on `device`.
        images: folder of a prepared test set with levels, such as views or CUFED5.
        out: CSV with a row for each image and level: PSNR on Y in dB of bicubic, without and with reference, and the
            gain of the reference.
        summary: JSON with, for each level, the number of images, the mean gain, the number of images that lose more
            than 0.05 dB, and the worst gain.
        variant: name of the network in the summary.
        device: of the network.
        precision: 32-true, or bf16-mixed for what lies outside the search.

    Raises:
        UserError: the set is damaged, or its references have no levels.
    """
    levels = levels_of(images)
    if not levels:
        raise UserError(f"{images}: its references have no levels; those of views have, and CUFED5's own")
    without: dict[str, tuple[float, float]] = {}
    rows = []
    for level in levels:
        test_set = TestSet(images, level)
        for image in track(test_set, f"{variant} on {test_set.name}, {level}", len(test_set)):
            if image.name not in without:
                bicubic = enlarge(image)
                alone = with_reference(image, Image.fromarray(bicubic))
                psnr = psnr_y(image.hr_pixels, run_network(network, alone, device, precision))
                without[image.name] = (psnr_y(image.hr_pixels, bicubic), psnr)
            found = psnr_y(image.hr_pixels, run_network(network, image, device, precision))
            rows.append(_row(image, level, *without[image.name], found))
    write_csv(out, rows, COLUMNS)
    about = {"variant": variant, "set": test_set.name, "stand_in": test_set.stand_in}
    gains = [none - bicubic for bicubic, none in without.values()]
    over_bicubic = {"images": len(gains), "gain": round(mean(gains), 4), "worst": round(min(gains), 4)}
    write_json(summary, {**about, "over_bicubic": over_bicubic, **summarise(rows)})


def summarise(rows: list[dict]) -> dict:
    """Figures of each level: images, mean gain in dB, images that lose more than 0.05 dB, worst gain.

    Args:
        rows: with `level` and `gain`.
    """
    levels: dict[str, list[float]] = {}
    for row in rows:
        levels.setdefault(row["level"], []).append(float(row["gain"]))
    return {
        "levels": {
            level: {
                "images": len(gains),
                "gain": round(mean(gains), 4),
                "harmed": sum(gain < -HARM for gain in gains),
                "worst": round(min(gains), 4),
            }
            for level, gains in levels.items()
        }
    }


def _row(image: TestImage, level: str, bicubic: float, none: float, found: float) -> dict[str, Any]:
    about = {"image": image.name, "level": level, "reference": image.reference, "inliers": image.inliers}
    figures = {"bicubic": bicubic, "none": none, "psnr_y": found, "gain": found - none}
    return {**about, **{key: round(value, 4) for key, value in figures.items()}}
