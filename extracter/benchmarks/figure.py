"""Figures of `extracter bench`: seconds and peak memory by size and method; both searches on photographs."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extracter.errors import UserError
from extracter.files import read_csv
from extracter.reporting.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, save, tidy

_COLUMNS = ("part", "result", "method", "kernel", "size", "seconds", "peak_memory_mib")
_COLOURS = {"unfold": "black", "dense": ORANGE, "chunked": GREEN, "blocks": BLUE, "approximate": PURPLE}
_LINES = {3: "-", 6: "--", 12: ":"}
_PHOTO_COLUMNS = ("part", "method", "size", "cpu_seconds", "multiply_adds")


def figure_bench(table: Path, out: Path, part: str = "search") -> None:
    """Draw seconds and peak memory against the side of the image, on logarithmic axes.

    Args:
        table: CSV that `extracter bench` wrote.
        out: PNG file to write.
        part: rows to draw: search, transfer or forward.

    Raises:
        UserError: the table is missing, is of another kind, or has no measurement of this part.
    """
    rows = read_csv(
        table, numbers=_COLUMNS[3:], text=_COLUMNS[:3], remedy="`extracter bench search` writes such a table"
    )
    rows = rows[(rows["part"] == part) & (rows["result"] == "measured")]
    if rows.empty:
        raise UserError(f"{table}: has no measurement of `{part}`; name another part with --part")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (method, kernel), line in rows.sort_values("size").groupby(["method", "kernel"]):
        style = {
            "color": _COLOURS.get(method, GREY),
            "linestyle": _LINES.get(kernel, "-."),
            "marker": "o",
            "markersize": 4,
        }
        label = f"{method}, {kernel}x{kernel}"
        left.plot(line["size"], line["seconds"], label=label, **style)
        right.plot(line["size"], line["peak_memory_mib"].clip(lower=1), **style)
    sizes = sorted(rows["size"].unique())
    for axes in (left, right):
        _logarithmic(axes, sizes)
    left.set_ylabel("seconds")
    right.set_ylabel("peak memory (MiB)")
    tidy(left, right)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(figure, out)


def figure_photo(table: Path, out: Path) -> None:
    """Draw CPU seconds and multiply-adds of the exact and the fast search, with the power of the side that they follow.

    Args:
        table: CSV that `extracter bench photo` wrote.
        out: PNG file to write.

    Raises:
        UserError: the table is missing, is of another kind, or has no measurement of the search.
    """
    rows = read_csv(
        table, numbers=_PHOTO_COLUMNS[2:], text=_PHOTO_COLUMNS[:2], remedy="`extracter bench photo` writes such a table"
    )
    rows = rows[rows["part"] == "search"].sort_values("size")
    if rows.empty:
        raise UserError(f"{table}: has no measurement of the search; run `extracter bench photo --part search`")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, column, label in zip(
        panels, _PHOTO_COLUMNS[3:], ("CPU seconds, one thread", "multiply-adds"), strict=True
    ):
        for method, colour in (("exact", BLUE), ("fast", PURPLE)):
            line = rows[rows["method"] == method]
            power = ""
            if len(line) > 1:
                power = f", side to the power of {np.polyfit(np.log(line['size']), np.log(line[column]), 1)[0]:.1f}"
            axes.plot(line["size"], line[column], marker="o", markersize=4, color=colour, label=f"{method}{power}")
        _logarithmic(axes, sorted(rows["size"].astype(int).unique()))
        axes.set_ylabel(label)
        axes.legend(frameon=False)
    tidy(*panels)
    save(figure, out)


def _logarithmic(axes: Axes, sizes: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="side of image and reference (pixels)")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
