"""What is a reference worth? PSNR of each image with references of every level of similarity against none (Table 4)."""

from pathlib import Path
from statistics import mean

import torch

from extracter.data import views
from extracter.data.datasets import TestImage, TestSet
from extracter.evaluation.evaluate import enlarge
from extracter.files import write_csv, write_json
from extracter.image_tensors import to_uint8
from extracter.metrics import psnr_y
from extracter.models.refsr import RefSR
from extracter.progress import track

COLUMNS = ["image", "level", "reference", "inliers", "bicubic", "none", "psnr_y", "gain"]
# Loss in dB from which a reference counts as harmful.
HARM = 0.05


def study_levels(network: RefSR, images: Path, out: Path, summary: Path, *, variant: str, device: torch.device) -> None:
    """Super-resolve each image of a test set with its references of each level, with all of its scene, and with none.

    "None" is the input's own bicubic enlargement as reference, which holds nothing that LR does not hold.

    Args:
        network: in evaluation mode, on `device`.
        images: folder of a prepared test set with levels, such as views.
        out: CSV with a row for each image and level: PSNR on Y in dB of bicubic, without and with reference, and the
            gain of the reference.
        summary: JSON with, for each level, the number of images, the mean gain, the share of images that lose more than
            0.05 dB, and the largest loss.
        variant: name of the network in the summary.
        device: of the network.

    Raises:
        UserError: the set is damaged, or its references have no levels.
    """
    without = {}
    own = TestSet(images, "self")
    for image in track(own, f"{variant} without reference", len(own)):
        bicubic = psnr_y(image.hr_pixels, enlarge(image))
        without[image.name] = (bicubic, _psnr(network, image, device))
    rows = []
    for level in [name for name in views.REFERENCES if name != "self"]:
        test_set = TestSet(images, level)
        for image in track(test_set, f"{variant} on {level}", len(test_set)):
            bicubic, none = without[image.name]
            found = _psnr(network, image, device)
            row: dict[str, object] = {
                "image": image.name,
                "level": level,
                "reference": image.reference,
                "inliers": image.inliers,
            }
            row |= {"bicubic": bicubic, "none": none, "psnr_y": found, "gain": found - none}
            rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    write_csv(out, rows, COLUMNS)
    content = {"variant": variant, "set": test_set.name, "over_bicubic": _over_bicubic(without), **summarise(rows)}
    write_json(summary, content)


def summarise(rows: list[dict]) -> dict:
    """Figures of each level: images, mean gain in dB, share of images that lose more than 0.05 dB, worst gain.

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


def _over_bicubic(without: dict[str, tuple[float, float]]) -> dict[str, float]:
    gains = [none - bicubic for bicubic, none in without.values()]
    return {"images": len(gains), "gain": round(mean(gains), 4), "worst": round(min(gains), 4)}


@torch.inference_mode()
def _psnr(network: RefSR, image: TestImage, device: torch.device) -> float:
    """PSNR on Y with all references of the image together."""
    refs, refs_du = zip((image.ref, image.ref_du), *image.more, strict=True)
    inputs = [[x.to(device) for x in images] for images in (refs, refs_du)]
    return psnr_y(image.hr_pixels, to_uint8(network(image.lr.to(device), image.lr_up.to(device), *inputs)))
