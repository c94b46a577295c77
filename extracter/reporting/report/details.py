"""Figure 3 for every test set: the same detail of the original, LR, bicubic, each system and the reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from extracter.data.datasets import TestImage, TestSet
from extracter.image_tensors import to_uint8
from extracter.reporting.figure_comparison import read_sr
from extracter.reporting.figures import ORANGE
from extracter.reporting.report.chart import NARROW, Chart, new_sheet, place
from extracter.reporting.squares import gain_crop
from extracter.reporting.tables import METHODS, title


@dataclass(frozen=True)
class Example:
    """An image that was chosen for its gain, with what every variant made of it.

    Attributes:
        name: of the image; `role` says why it was chosen.
        hr: the original, uint8, (H, W, 3); `lr` is a quarter as high and wide, `ref` of a size of its own.
        results: by variant.
        box: top, left and side of the detail, in pixels of the original.
        ref_box: of the square of the reference that most of its textures come from; None where that is not known.
        scores: PSNR in dB and SSIM of the whole image by variant.
    """

    test_set: str
    stand_in: bool
    role: str
    name: str
    reference: str
    hr: np.ndarray
    lr: np.ndarray
    ref: np.ndarray
    results: Mapping[str, np.ndarray]
    box: tuple[int, int, int]
    ref_box: tuple[int, int, int] | None
    scores: Mapping[str, tuple[float, float]]

    @property
    def key(self) -> str:
        """An identifier within the page."""
        return f"{self.test_set}-{self.role.replace(' ', '-')}"

    def panels(self) -> list[tuple[str, np.ndarray, str]]:
        """Label, pixels and figures of each panel, in the order of the paper's Figure 3."""
        top, left, side = self.box
        cut = np.s_[top : top + side, left : left + side]
        down, right, width = self.ref_box or (0, 0, max(self.ref.shape[:2]))
        small = self.lr[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4]
        panels = [("HR", self.hr[cut], ""), ("LR", small, "")]
        for variant, pixels in self.results.items():
            psnr, ssim = self.scores[variant]
            panels.append((METHODS[variant], pixels[cut], f"{psnr:.2f} / {ssim:.3f}"))
        return [*panels, ("Reference", self.ref[down : down + width, right : right + width], "")]


def read_examples(
    folder: Path, sr: Path, chosen: Mapping[str, str], scores: Mapping[str, Mapping[str, tuple[float, float]]]
) -> list[Example]:
    """Read the chosen images of a test set.

    Args:
        folder: the prepared set.
        sr: folder of the SR images, VARIANT/SET/NAME.png.
        chosen: image by role.
        scores: PSNR and SSIM by variant and image; of these variants the results are read.

    Raises:
        UserError: an image is missing or damaged.
    """
    test_set = TestSet(folder)
    roles = {name: role for role, name in chosen.items()}
    test_set.rows = {path: rows for path, rows in test_set.rows.items() if Path(path).stem in roles}
    found = {inputs.name: inputs for inputs in test_set}
    return [_example(test_set, role, found[name], sr, scores) for role, name in chosen.items()]


def _example(
    test_set: TestSet, role: str, inputs: TestImage, sr: Path, scores: Mapping[str, Mapping[str, tuple[float, float]]]
) -> Example:
    variants = [name for name in METHODS if name in scores]
    results = {variant: read_sr(sr, variant, test_set.name, inputs) for variant in variants}
    hr, ref = inputs.hr_pixels, to_uint8(inputs.ref)
    box = gain_crop(hr, results["bicubic"], results["extracter-rec"], role)
    return Example(
        test_set.name, test_set.stand_in, role, inputs.name, inputs.reference, hr, to_uint8(inputs.lr), ref, results,
        box, None, {variant: scores[variant][inputs.name] for variant in variants},
    )  # fmt: skip


def details_chart(examples: list[Example]) -> Chart:
    """The details of a test set as a figure for print."""
    first = examples[0]

    def draw(width: float) -> Figure:
        columns = 5 if width <= NARROW else 9
        step, below = width / columns, 6.6  # room for a label of three lines
        rows = [(example, chunk) for example in examples for chunk in _rows(example, columns)]
        figure, axes = new_sheet(width, len(rows) * (step + below))
        for n, (example, panels) in enumerate(rows):
            for m, (label, pixels, note) in enumerate(panels):
                whole = label == example.role
                shown = _square(pixels) if whole else pixels
                place(axes, shown, m * step, n * (step + below), step - 0.8, f"{label}\n{note}".replace(", ", ",\n"))
                if whole:
                    _draw_frame(axes, example, (m * step, n * (step + below)), step - 0.8)
        return figure

    alt = " ".join(map(describe, examples))
    return Chart(f"details-{first.test_set}", f"Details of {title(first.test_set)}", alt, draw)


def _square(pixels: np.ndarray) -> np.ndarray:
    """A picture in the middle of a white square."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def _draw_frame(axes: Axes, example: Example, corner: tuple[float, float], width: float) -> None:
    """Frame the detail in the whole image, which `_square` has set into a square of a width in millimetres."""
    lengths = example.hr.shape[:2]
    scale = width / max(lengths)
    top, left = (box + (max(lengths) - n) // 2 for box, n in zip(example.box[:2], lengths, strict=True))
    where = (corner[0] + scale * left, corner[1] + scale * top)
    side = scale * example.box[2]
    axes.add_patch(Rectangle(where, side, side, fill=False, edgecolor=ORANGE, linewidth=0.7))


def _rows(example: Example, columns: int) -> list[list[tuple[str, np.ndarray, str]]]:
    panels = {label: (label, pixels, note) for label, pixels, note in example.panels()}
    whole = (example.role, example.hr, example.name)
    ordered = ["", *panels]
    pieces = [ordered[start : start + columns] for start in range(0, len(ordered), columns)]
    return [[whole if key == "" else panels[key] for key in keys] for keys in pieces]


def describe(example: Example) -> str:
    """What a reader who cannot see an example must know of it: why it was chosen, and PSNR of each variant."""
    said = ", ".join(f"{METHODS[variant]} {psnr:.2f} dB" for variant, (psnr, _) in example.scores.items())
    return f"{title(example.test_set)}, image {example.name} ({example.role}): {said}."
