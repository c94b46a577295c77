"""What the page's pictures and scripts are made from: addresses of pictures, and data as JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from extracter.data import manifest
from extracter.reporting.examples import SYSTEM
from extracter.reporting.report.details import Example, describe
from extracter.reporting.report.draw_origins import Origins
from extracter.reporting.report.pictures import as_uri, encode, fit_into, thumbnail, window
from extracter.reporting.tables import METHODS, title

# Bytes of all pictures of the comparer, as they stand in the page, and longest sides to try.
BUDGET, SIDES = 8_000_000, (512, 384, 288, 192)
_LONGEST = 448  # side of a picture in the maps of origins, in pixels


def detail_views(examples: Sequence[Example]) -> dict[str, list[dict[str, Any]]]:
    """For each test set the panels of its examples: label, figures, address, alternative text."""
    views: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        where = f"of image {example.name} of {title(example.test_set)}"
        (height, width), (top, left, side) = example.hr.shape[:2], example.box
        panels = [
            {
                "label": label,
                "note": note,
                "uri": as_uri(encode(pixels, lossless=True)),
                "alt": f"{label}: detail {where}" + (f", PSNR and SSIM of the image {note}" if note else ""),
            }
            for label, pixels, note in example.panels()
        ]
        whole = {
            "uri": as_uri(encode(shrink(example.hr), lossless=False)),
            "alt": f"Original {where}, with a frame around the detail",
            "frame": [100 * left / width, 100 * top / height, 100 * side / width, 100 * side / height],
        }
        view = {"example": example, "panels": panels, "whole": whole, "about": describe(example)}
        views.setdefault(example.test_set, []).append(view)
    return views


def shrink(pixels: np.ndarray) -> np.ndarray:
    """A picture of at most `_LONGEST` pixels a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return np.asarray(image)


def origin_views(origins: Sequence[Origins]) -> dict[str, list[dict[str, Any]]]:
    """For each test set its maps: addresses of the pictures, and lines from the image to the reference beside it."""
    views: dict[str, list[dict[str, Any]]] = {}
    for item in origins:
        (height, width), (ref_height, ref_width) = item.example.hr.shape[:2], item.tinted.shape[:2]
        gap = round(0.06 * width)
        # Image and reference stand side by side at the same height.
        scale = height / ref_height
        lines = [(x, y, width + gap + scale * to_x, scale * to_y) for (x, y), (to_x, to_y) in item.lines]
        view = {
            "example": item.example,
            "variant": METHODS[item.variant],
            "alt": item.alt,
            "size": (round(width + gap + scale * ref_width), height),
            "image": (width, as_uri(encode(shrink(item.example.hr), lossless=False))),
            "reference": (width + gap, round(scale * ref_width), as_uri(encode(shrink(item.tinted), lossless=False))),
            "lines": lines,
            "place": as_uri(encode(shrink(item.place), lossless=True)),
            "scores": as_uri(encode(shrink(item.scores), lossless=True)),
        }
        views.setdefault(item.example.test_set, []).append(view)
    return views


def scatter_data(scores: dict[str, dict[str, dict[str, tuple[float, float]]]], data: Path) -> dict[str, Any]:
    """PSNR of each image under each variant, and a small picture of it.

    Args:
        scores: PSNR and SSIM by set, variant and image.
        data: folder of the prepared sets.

    Raises:
        UserError: an image is missing or damaged.
    """
    sets = []
    for name, variants in scores.items():
        images = list(variants["bicubic"])
        listed = manifest.read(data / name)["files"]
        entries = {Path(entry["path"]).stem: entry for entry in listed if entry["path"].startswith("hr/")}
        sets.append(
            {
                "title": title(name),
                "images": images,
                "pictures": [
                    thumbnail(np.asarray(manifest.read_image(data / name, entries[image]))) for image in images
                ],
                "psnr": {v: [round(of[i][0], 2) if i in of else None for i in images] for v, of in variants.items()},
            }
        )
    known = [variant for variant in METHODS if any(variant in of for of in scores.values())]
    rival = "ttsr-rec" if "ttsr-rec" in known else "bicubic"
    return {"sets": sets, "variants": {v: METHODS[v] for v in known}, "x": rival, "y": SYSTEM}


def comparer_data(examples: Sequence[Example]) -> dict[str, Any]:
    """The pictures that the comparer lays over one another: the region around each example's detail."""

    def make(side: int) -> Iterator[tuple[str, np.ndarray]]:
        for example in examples:
            height, width = example.hr.shape[:2]
            top, left, length = example.box
            rows, columns = window(height, width, (top + length / 2, left + length / 2), side)
            yield f"{example.key}/hr", example.hr[rows, columns]
            yield f"{example.key}/lr", example.lr.repeat(4, 0).repeat(4, 1)[rows, columns]
            for variant, pixels in example.results.items():
                yield f"{example.key}/{variant}", pixels[rows, columns]

    pictures = fit_into(BUDGET, SIDES, make)
    listed = []
    for example in examples:
        names = {"lr": "LR", **{variant: METHODS[variant] for variant in example.results}, "hr": "HR (original)"}
        notes = {variant: f"{psnr:.2f} dB / {ssim:.3f}" for variant, (psnr, ssim) in example.scores.items()}
        listed.append(
            {
                "key": example.key,
                "label": f"{title(example.test_set)}: {example.name} ({example.role})",
                "layers": [[key, label, notes.get(key, "")] for key, label in names.items()],
            }
        )
    return {"examples": listed, "pictures": pictures, "left": "bicubic", "right": SYSTEM}
