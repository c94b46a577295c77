"""Charts of the report: drawn once for each width, as SVG for the page and as PDF for print."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extracter.files import atomic_path
from extracter.reporting import figures
from extracter.reporting.report.table import Table

# Widths of a column and of a page of a journal, in millimetres.
NARROW, WIDE = 84, 174
# Colours that the page replaces by those of its light or dark scheme.
INK, GRID = "#010203", "#d0d1d2"
tidy = partial(figures.tidy, colour=GRID, width=0.5)
_STYLE: Any = {
    "font.size": 7, "axes.titlesize": 7, "axes.labelsize": 7, "legend.fontsize": 6.5, "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5, "lines.linewidth": 1.2, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "svg.fonttype": "none", "pdf.fonttype": 42, "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: of its files, without suffix.
        title: its heading.
        alt: what it shows, with its main figures, for those who cannot see it.
        draw: makes the figure for a width in millimetres.
        table: the figures that it draws; None where they stand in a table of the page anyway.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[float], Figure]
    table: Table | None = None

    def svg(self, width: float) -> str:
        """The chart as an SVG element that takes its colours from the page.

        Args:
            width: in millimetres; the element scales.
        """
        buffer = io.StringIO()
        with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{self.name}-{width}"}):
            self.draw(width).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        return _inline(text[text.index("<svg") :], f"{self.name}-{width:g}-")

    def write_pdf(self, folder: Path) -> list[Path]:
        """Write the chart as NAME-84mm.pdf and NAME-174mm.pdf, without a date in them.

        Raises:
            UserError: the folder is not writable.
        """
        paths = []
        for width in (NARROW, WIDE):
            paths.append(folder / f"{self.name}-{width}mm.pdf")
            with mpl.rc_context(_STYLE), atomic_path(paths[-1]) as temporary:
                self.draw(width).savefig(temporary, format="pdf", metadata={"CreationDate": None})
        return paths


def _inline(svg: str, prefix: str) -> str:
    """An SVG document as an element: no id that another chart may have, no fixed size, colours of the page."""
    used = set(re.findall(r"#([\w.-]+)\)|href=\"#([\w.-]+)\"", svg))
    names = {name for pair in used for name in pair if name}
    svg = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in names else "", svg)
    svg = re.sub(r'(url\(|href=")#([\w.-]+)', rf"\1#{prefix}\2", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r'<svg\1 aria-hidden="true" focusable="false"', svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    return svg.replace(INK, "currentColor").replace(GRID, "var(--grid)").replace("#000000", "currentColor")


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in millimetres."""
    return Figure(figsize=(width / 25.4, height / 25.4), layout="constrained")


def new_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure for pictures, whose coordinates are millimetres from its upper left corner."""
    figure = Figure(figsize=(width / 25.4, height / 25.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure, axes


def place(axes: Axes, pixels: np.ndarray, left: float, top: float, width: float, label: str = "") -> None:
    """Put a picture on a sheet, with a label beneath.

    Args:
        pixels: uint8, (H, W, 3).
        left, top, width: in millimetres; the height follows.
        label: of one line or more.
    """
    height = width * pixels.shape[0] / pixels.shape[1]
    extent = (left, left + width, top + height, top)
    axes.imshow(pixels, interpolation="nearest", extent=extent, aspect="auto")
    axes.text(left, top + height + 0.6, label, va="top", fontsize=4.6, linespacing=1.1)
