"""The figure of `extracter bench`: seconds and peak memory by size and method."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extracter.errors import UserError
from extracter.files import read_csv
from extracter.reporting.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, save, tidy

_COLUMNS = ("part", "result", "method", "kernel", "size", "seconds", "peak_memory_mib")
_COLOURS = {"unfold": "black", "dense": ORANGE, "chunked": GREEN, "blocks": BLUE, "approximate": PURPLE}
_LINES = {3: "-", 6: "--", 12: ":"}


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


def _logarithmic(axes: Axes, sizes: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="side of image and reference (pixels)")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
