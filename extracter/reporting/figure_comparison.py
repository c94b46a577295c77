"""The comparison figure: inputs, results of all variants and original, for one image of each test set."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from extracter.data.datasets import TestImage, TestSet
from extracter.errors import UserError
from extracter.image_tensors import to_uint8
from extracter.metrics import psnr_y
from extracter.progress import track
from extracter.reporting.figures import CLOSE, ORANGE, save, show_image
from extracter.reporting.squares import worst_crop
from extracter.reporting.tables import METHODS, title

# As many as can be told apart on a page; the report draws every system. A preset may train fewer.
SHOWN = ["bicubic", "ttsr-rec", "extracter-rec", "extracter", "released"]


def figure_comparison(sets: list[Path], sr: Path, out: Path) -> None:
    """Draw a row for each set.

    The image of a set is the one with the median gain of Extracter-rec over bicubic. The detail is the square in which
    the bicubic enlargement is furthest from the original.

    Args:
        sets: folders of prepared test sets.
        sr: folder of the SR images, VARIANT/SET/NAME.png.
        out: PNG to write.

    Raises:
        UserError: an image is missing or damaged.
    """
    shown = [variant for variant in SHOWN if (sr / variant).is_dir()]
    widths = [1.5, *[1.0] * (len(shown) + 3)]
    figure = Figure(figsize=(1.65 * sum(widths), 2.15 * len(sets) + 0.2), layout=CLOSE)
    grid = figure.subplots(len(sets), len(widths), width_ratios=widths, squeeze=False)
    for folder, row in zip(track(sets, "comparison", len(sets)), grid, strict=True):
        _draw_row(row, TestSet(folder), sr, shown)
    save(figure, out)


def _draw_row(row: np.ndarray, test_set: TestSet, sr: Path, shown: list[str]) -> None:
    inputs = _median(test_set, sr)
    results = {variant: read_sr(sr, variant, test_set.name, inputs) for variant in shown}
    hr = inputs.hr_pixels
    top, left, side = worst_crop(hr, results["bicubic"])
    detail = np.s_[top : top + side, left : left + side]
    small = np.s_[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4]
    show_image(row[0], hr, f"{title(test_set.name)}{' (stand-in)' if test_set.stand_in else ''}: {inputs.name}")
    row[0].add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=ORANGE, linewidth=2))
    show_image(row[1], to_uint8(inputs.lr)[small], "LR")
    for axes, (variant, result) in zip(row[2:], results.items(), strict=False):
        show_image(axes, result[detail], f"{METHODS[variant]}\n{psnr_y(hr, result):.2f} dB")
    show_image(row[-2], to_uint8(inputs.ref), f"reference ({test_set.references})")
    show_image(row[-1], hr[detail], "HR")


def _median(test_set: TestSet, sr: Path) -> TestImage:
    """Return the image with the median gain; with an even number of images, the lower of the middle two."""
    gains = []
    for inputs in test_set:
        bicubic, ours = (read_sr(sr, variant, test_set.name, inputs) for variant in ("bicubic", "extracter-rec"))
        gains.append((psnr_y(inputs.hr_pixels, ours) - psnr_y(inputs.hr_pixels, bicubic), inputs.name))
    _, chosen = sorted(gains)[(len(gains) - 1) // 2]
    return next(inputs for inputs in test_set if inputs.name == chosen)


def read_sr(sr: Path, variant: str, name: str, inputs: TestImage) -> np.ndarray:
    """Read what a variant made of an image: uint8, of the size of the original.

    Args:
        sr: folder of the SR images, VARIANT/SET/NAME.png.
        variant, name: of the network and of the test set.
        inputs: the image.

    Raises:
        UserError: the image is missing, damaged, or of another size.
    """
    path = sr / variant / name / f"{inputs.name}.png"
    try:
        pixels = np.asarray(Image.open(path, formats=("PNG",)).convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; evaluate {variant} on {name} first, or run snakemake") from None
    except OSError as error:
        raise UserError(f"{path}: not an image ({error}); evaluate {variant} on {name} again") from None
    if pixels.shape != inputs.hr_pixels.shape:
        raise UserError(f"{path}: not of the size of {inputs.name}; evaluate {variant} on {name} again")
    return pixels
