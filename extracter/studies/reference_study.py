"""The effect of references: PSNR of each test image with references of four kinds."""

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from extracter.data.datasets import TestSet, with_reference
from extracter.data.degradation import SCALE, downscale, upscale
from extracter.data.pairs import half_extent, recolour, warp
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.evaluation.evaluate import enlarge, run_network
from extracter.files import write_csv
from extracter.metrics import psnr_y
from extracter.models.locate import open_model
from extracter.progress import track
from extracter.reporting.figures import BLUE, GREEN, GREY, ORANGE, save, tidy
from extracter.reporting.tables import title, write_markdown

# The warped original: scale, degrees, exponent of the colours, share of the largest possible crop.
_SCALE, _ROTATION, _GAMMA, _SHARE = 0.95, 5.0, 1.2, 0.95
KINDS = {"own": "its own bicubic", "other": "another image", "warped": "its original, warped", "exact": "its original"}
COLUMNS = ["image", "bicubic", *KINDS]


def study_references(model: str | Path | None, images: Path, out: Path, *, seed: int, device: str) -> None:
    """Super-resolve each image of a test set with four references, and write a table and a figure.

    The references are
    - own: the bicubic enlargement of the image;
    - other: another image of the set, drawn from `seed`;
    - warped: a crop of the original, shifted, magnified by 5 %, rotated by 5 degrees and recoloured by a gamma of 1.2.
      It stands for an ideal second photograph of the scene;
    - exact: the original itself, an upper bound.

    Args:
        model: as for `model_folder`.
        images: folder of a prepared test set of at least two images.
        out: CSV to write, with PSNR on Y in dB; the table and the figure get the suffixes .md and .png.
        seed: seed of the draw of other images.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: no such model or test set, or too few images.
    """
    network = open_model(model)
    target = choose_device(device)
    configure_torch(seed)
    network.to(target)
    test_set = TestSet(images)
    if len(test_set) < 2:
        raise UserError(f"{images}: one image alone; a set of at least two has another image for each")
    originals = [image.hr_pixels for image in test_set]
    others = _derangement(len(test_set), seed)
    rows: list[dict[str, Any]] = []
    for number, image in enumerate(track(test_set, f"references of {test_set.name}", len(test_set))):
        original = Image.fromarray(image.hr_pixels)
        references = {
            "own": upscale(downscale(original)),
            "other": Image.fromarray(originals[others[number]]),
            "warped": warped_original(original),
            "exact": original,
        }
        row: dict[str, Any] = {"image": image.name, "bicubic": psnr_y(image.hr_pixels, enlarge(image))}
        for kind, reference in references.items():
            row[kind] = psnr_y(image.hr_pixels, run_network(network, with_reference(image, reference), target))
        rows.append(row)
    rows.append({"image": "mean", **{key: mean(row[key] for row in rows) for key in COLUMNS[1:]}})
    figures = [{"image": row["image"], **{key: round(row[key], 4) for key in COLUMNS[1:]}} for row in rows]
    write_csv(out, figures, COLUMNS)
    _write_table(rows, test_set.name, out)
    _draw(rows, out.with_suffix(".png"))


def warped_original(original: Image.Image) -> Image.Image:
    """Return a shifted, scaled, rotated and recoloured crop of an image, with sides that are multiples of 4."""
    around = half_extent(original.size, 2.0, _ROTATION)
    fits = min(1, *(side / turned for side, turned in zip(original.size, around, strict=True)))
    width, height = (max(SCALE, int(_SHARE * fits / _SCALE * side) // SCALE * SCALE) for side in original.size)
    turned = half_extent((width, height), 2.0, _ROTATION)
    # In the smallest images the crop does not fit at this scale.
    scale = min(_SCALE, *(side / length for side, length in zip(original.size, turned, strict=True)))
    # Shift to the right and down by half of the remaining space.
    x, y = (side / 2 + (side - scale * length) / 4 for side, length in zip(original.size, turned, strict=True))
    crop = warp(original, (x, y), (width, height), scale=scale, rotation=_ROTATION)
    return recolour(crop, (1.0, 1.0, 1.0), _GAMMA)


def _derangement(count: int, seed: int) -> list[int]:
    """Assign another image to each of `count` images: the next on a ring drawn from the seed."""
    ring = np.random.default_rng(seed).permutation(count).tolist()
    following = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    return [following[number] for number in range(count)]


def _write_table(rows: list[dict], name: str, out: Path) -> None:
    heads = ["image", "bicubic", *KINDS.values(), "gain of the warped original"]
    cells = [
        [row["image"], *(f"{row[key]:.2f}" for key in COLUMNS[1:]), f"{row['warped'] - row['own']:+.2f}"]
        for row in rows
    ]
    caption = (
        "PSNR on Y (dB) by reference. Warped: a crop of the original, shifted, magnified by 5 %, rotated by 5 degrees, "
        "with a gamma of 1.2. The gain is over the bicubic enlargement of the image as reference."
    )
    write_markdown(out, f"Does the reference help? {title(name)}", caption, heads, cells)


def _draw(rows: list[dict], out: Path) -> None:
    """Draw the gain over bicubic of each kind of reference, image by image."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    for kind, colour, marker in zip(KINDS, (GREY, ORANGE, BLUE, GREEN), "os^v", strict=True):
        gains = [row[kind] - row["bicubic"] for row in rows]
        axes.plot(range(len(rows)), gains, marker, color=colour, label=f"reference: {KINDS[kind]}", clip_on=False)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(len(rows) - 1.5, color=GREY, linewidth=0.6)
    axes.set_xticks(range(len(rows)), [row["image"] for row in rows], rotation=45, ha="right")
    axes.set(ylabel="PSNR over bicubic (dB)")
    tidy(axes)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    save(figure, out)
