"""The figure of `extracter bench`: seconds and peak memory against size, by method."""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extracter.errors import UserError
from extracter.reporting.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, save, tidy

_COLOURS = {"usual": "black", "dense": ORANGE, "chunked": GREEN, "blocks": BLUE, "blocks-torch": GREY, "faiss": PURPLE}
_LINES = {3: "-", 6: "--", 12: ":"}


def figure_bench(table: Path, out: Path, part: str = "search") -> None:
    """Seconds and peak memory against the image's side, both axes logarithmic.

    Args:
        table: CSV of `extracter bench`.
        out: PNG.
        part: rows to draw: search, transfer or forward.

    Raises:
        UserError: the table is missing, is something else, or has nothing measured of this part.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["part"] == part and row["result"] == "measured"]
            cells = [
                (
                    row["method"],
                    int(row["kernel"]),
                    int(row["size"]),
                    float(row["seconds"]),
                    float(row["peak_memory_mib"]),
                )
                for row in rows
            ]
    except FileNotFoundError:
        raise UserError(f"{table}: no such file; `extracter bench search` makes one") from None
    except (KeyError, ValueError, UnicodeDecodeError):
        raise UserError(f"{table}: not a table of `extracter bench search`, `forward` or `memory`") from None
    if not cells:
        raise UserError(f"{table}: nothing of `{part}` was measured")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, kernel in sorted({cell[:2] for cell in cells}):
        of_line = sorted(cell[2:] for cell in cells if cell[:2] == (method, kernel))
        style = {"color": _COLOURS[method], "linestyle": _LINES.get(kernel, "-."), "marker": "o", "markersize": 4}
        label = f"{method}, {kernel}x{kernel}"
        left.plot([size for size, _, _ in of_line], [seconds for _, seconds, _ in of_line], label=label, **style)
        right.plot([size for size, _, _ in of_line], [max(peak, 1) for *_, peak in of_line], **style)
    sizes = sorted({cell[2] for cell in cells})
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
