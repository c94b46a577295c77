"""Where textures come from: each region of the output in the colour of its place in the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extracter.errors import UserError
from extracter.files import read_json
from extracter.reporting.figures import ORANGE
from extracter.reporting.origins import origin_map, patch_grid, source_square, spread, tinted
from extracter.reporting.report.chart import NARROW, Chart, new_sheet, place
from extracter.reporting.report.details import Example
from extracter.reporting.tables import METHODS, title
from extracter.search.search import Matches, SearchConfig

_LINES = (4, 6)  # cells of the image, rows and columns, of each of which one match is drawn
Point = tuple[float, float]


@dataclass(frozen=True)
class Origins:
    """Where the textures of one image come from.

    Attributes:
        example: the image.
        variant: the network whose matches they are.
        place: the original's region in the colour of its place, uint8, (H, W, 3).
        tinted: the reference in grey, in the colours of its places.
        scores: cosine similarities as a picture, dark to bright.
        lines: pairs of points, across and down in pixels: of the image, and of the reference.
        source: top, left and side of the square of the reference from which most textures of the detail come.
        alt: what the pictures show, with figures.
    """

    example: Example
    variant: str
    place: np.ndarray
    tinted: np.ndarray
    scores: np.ndarray
    lines: Sequence[tuple[Point, Point]]
    source: tuple[int, int, int]
    alt: str


def read_origins(path: Path, variant: str, examples: Mapping[str, Example]) -> list[Origins]:
    """Read the matches of a test set.

    Args:
        path: JSON of `extracter map-origins`.
        variant: the network whose matches they are.
        examples: by name of the image; others are left out.

    Raises:
        UserError: the file is missing or of another kind.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"stride", "images"} <= set(content):
        raise UserError(f"{path}: not what `extracter map-origins` writes; delete it and run the workflow again")
    items = {item["image"]: item for item in content["images"]}
    return [
        _origins(items[name], content["stride"], variant, example)
        for name, example in examples.items()
        if name in items
    ]


def _origins(item: Mapping[str, Any], stride: int, variant: str, example: Example) -> Origins:
    config = SearchConfig(3 * stride, stride, stride)
    lr_size, hr_size, ref_size = ((len(image), image.shape[1]) for image in (example.lr, example.hr, example.ref))
    query, keys = patch_grid(*lr_size, config), patch_grid(-(-ref_size[0] // 4), -(-ref_size[1] // 4), config)
    indices, scores = (np.asarray(item[name]).reshape(query) for name in ("indices", "scores"))
    found = [torch.from_numpy(values).view(1, 1, -1) for values in (indices, scores)]
    searched = Matches(found[0], found[1], keys[0] * keys[1]), lr_size, [ref_size], config
    place = origin_map(*searched)
    shown = (mpl.colormaps["cividis"](np.clip(scores, 0, 1))[..., :3] * 255).round().astype(np.uint8)
    alt = (
        f"{title(example.test_set)}, image {example.name}, reference {example.reference}: the {indices.size:,} patches "
        f"take their textures from {len(np.unique(indices)):,} of the reference's {keys[0] * keys[1]:,}; similarity is "
        f"{np.median(scores):.2f} in the median and from {scores.min():.2f} to {scores.max():.2f}."
    )
    cell = 4 * stride
    lines = [_within(line, (hr_size, ref_size)) for line in choose_lines(indices, scores, keys, cell)]
    maps = [spread(cells, *hr_size, cell) for cells in (place, shown)]
    _, source = source_square(*searched, example.box)
    return Origins(example, variant, maps[0], tinted(example.ref, 0, 1), maps[1], lines, source, alt)


def _within(line: tuple[Point, Point], shapes: Sequence[Sequence[int]]) -> tuple[Point, Point]:
    """A line whose ends lie in the pictures: patches may reach beyond the lower and right edge."""
    ends = [(min(x, width - 1.0), min(y, height - 1.0)) for (x, y), (height, width) in zip(line, shapes, strict=True)]
    return ends[0], ends[1]


def choose_lines(
    indices: np.ndarray, scores: np.ndarray, keys: tuple[int, ...], cell: int
) -> list[tuple[Point, Point]]:
    """The most similar match of each part of the image, so that lines lie all over it.

    Args:
        indices, scores: (rows, columns) of the query patches.
        keys: rows and columns of the reference's patches.
        cell: distance of neighbouring patches in pixels.

    Returns:
        Centres, across and down in pixels, in the image and in the reference.
    """
    lines = []
    bands = (np.array_split(np.arange(n), min(n, parts)) for n, parts in zip(scores.shape, _LINES, strict=True))
    rows, columns = bands
    for band in rows:
        for strip in columns:
            part = scores[np.ix_(band, strip)]
            row, column = np.unravel_index(part.argmax(), part.shape)
            y, x = band[row], strip[column]
            to_y, to_x = divmod(int(indices[y, x]), keys[1])
            points = [((b + 0.5) * cell, (a + 0.5) * cell) for a, b in ((int(y), int(x)), (to_y, to_x))]
            lines.append((points[0], points[1]))
    return lines


def origins_chart(found: list[Origins]) -> Chart:
    """The maps of a test set as a figure for print: image and reference with lines, places, scores."""
    first = found[0]

    def draw(width: float) -> Figure:
        across = 2 if width <= NARROW else 4
        step = width / across
        heights = [max(_height(item, step - 1), 0.3 * step) + 4 for item in found]
        figure, axes = new_sheet(width, sum(heights) * 4 // across)
        top = 0.0
        for item, height in zip(found, heights, strict=True):
            _draw_panels(axes, item, top, step, height, across)
            top += height * 4 / across
        return figure

    name = f"origins-{first.example.test_set}-{first.variant}"
    heading = f"Where textures come from: {METHODS[first.variant]} on {title(first.example.test_set)}"
    return Chart(name, heading, " ".join(item.alt for item in found), draw)


def _height(item: Origins, width: float) -> float:
    """Height of the highest of an image's pictures at a width."""
    return max(width * pixels.shape[0] / pixels.shape[1] for pixels in (item.example.hr, item.tinted))


def _draw_panels(axes: Axes, item: Origins, top: float, step: float, height: float, across: int) -> None:
    labels = (f"{item.example.name} ({item.example.role})", "reference, by place", "origin", "similarity")
    for n, (pixels, label) in enumerate(
        zip((item.example.hr, item.tinted, item.place, item.scores), labels, strict=True)
    ):
        place(axes, pixels, n % across * step, top + n // across * height, step - 1, label)
    scales = [(step - 1) / pixels.shape[1] for pixels in (item.example.hr, item.tinted)]
    for (x, y), (to_x, to_y) in item.lines:
        ends = [scales[0] * x, step + scales[1] * to_x], [top + scales[0] * y, top + scales[1] * to_y]
        axes.plot(*ends, color=ORANGE, linewidth=0.4)
