"""Figures of the results: training curves, and PSNR by kernel size.

The same inputs give the same bytes: the figures need no window system, contain no dates, and use Matplotlib's fonts.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.files import atomic_path, read_csv
from extracter.reporting.tables import read_kernels, title

# Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, YELLOW, AMBER, BLACK = "#56b4e9", "#f0e442", "#e69f00", "#000000"
COLOURS = {
    "extracter": BLUE, "ttsr": ORANGE, "srntt": GREEN, "c2": PURPLE, "dpfsr": SKY, "ssen": AMBER, "masa": BLACK,
    "amsa": YELLOW,
}  # fmt: skip
GREY = "#666666"
# Layout of figures that consist of images.
CLOSE = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.02)
_LARGEST = 1200  # side of an image in a figure, in pixels
NAMES = {name: family.title for name, family in FAMILIES.items()}


def figure_training(logs: list[Path], out: Path) -> None:
    """Draw the reconstruction loss and the validation PSNR by step. The full phase follows its -rec phase.

    Args:
        logs: train_log.csv of checkpoints, in folders named after the variant.
        out: PNG to write.

    Raises:
        UserError: a log is missing or of another kind.
    """
    curves = {path.parent.name: _read_log(path) for path in logs}
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for variant in sorted(curves):
        curve, family = curves[variant], variant.removesuffix("-rec")
        full = family == variant
        before = curves.get(f"{family}-rec") if full else None
        offset = before["step"].max() if before is not None else 0
        style = {"color": COLOURS.get(family, GREY), "linestyle": "--" if full else "-"}
        label = f"{NAMES.get(family, family)}, all losses" if full else f"{NAMES.get(family, family)}-rec"
        for axes, key in ((left, "rec"), (right, "validation_psnr")):
            measured = np.isfinite(curve[key])
            steps = curve["step"][measured] + offset
            axes.plot(steps, curve[key][measured], **style, marker="o", markersize=3, linewidth=1.8, label=label)
    left.set(xlabel="step", ylabel="reconstruction loss (L1)")
    right.set(xlabel="step", ylabel="validation PSNR (dB)")
    tidy(left, right)
    right.legend(frameon=False)
    save(figure, out)


# Line styles of the searches.
_METHODS: dict[str, dict[str, Any]] = {
    "dense": {"linestyle": "-", "marker": "o"},
    "chunked": {"linestyle": ":", "marker": "o"},
    "blocks": {"linestyle": "--", "marker": "s"},
}


def figure_kernels(results: list[Path], out: Path) -> None:
    """Draw PSNR by kernel size. Runs that did not fit are crosses at the lower edge.

    Args:
        results: JSON files that `extracter kernel-sweep --out` wrote.
        out: PNG to write.
    """
    found = read_kernels(results)
    sets = list(dict.fromkeys(result["set"] for result in found))
    colours = dict(zip(sets, [BLUE, ORANGE, GREEN, PURPLE, *[GREY] * len(sets)], strict=False))
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    kernels = sorted({result["kernel"] for result in found})
    axes.set_xticks(range(len(kernels)), [f"{kernel}x{kernel}" for kernel in kernels])
    axes.set(xlabel="kernel", ylabel="PSNR on Y (dB)", xlim=(-0.4, len(kernels) - 0.6))
    series = [(name, method) for name in sets for method in _METHODS]
    for rank, (name, method) in enumerate(series):
        cells = [result for result in found if (result["set"], result["method"]) == (name, method)]
        shift = 0.06 * (rank - (len(series) - 1) / 2)  # so that no series hides another
        _draw_series(axes, cells, kernels, shift, colours[name])
    tidy(axes)
    stand_in = {result["set"]: " (stand-in)" if result["stand_in"] else "" for result in found}
    keys = [Line2D([], [], color=colours[name], linewidth=3, label=title(name) + stand_in[name]) for name in sets]
    for method, style in _METHODS.items():
        face = GREY if method == "dense" else "white"
        keys.append(Line2D([], [], color=GREY, markerfacecolor=face, label=f"{method} search", **style))
    if not all(result["fits"] for result in found):
        keys.append(Line2D([], [], color=GREY, marker="X", markersize=9, linestyle="", label="out of memory"))
    figure.legend(handles=keys, loc="outside lower center", ncols=-(-len(keys) // 2), frameon=False)
    save(figure, out)


def _draw_series(axes: Axes, cells: list[dict], kernels: list[int], shift: float, colour: str) -> None:
    """Draw one search on one set: a line through the runs that fit, crosses for the others."""
    measured = [cell for cell in cells if cell["fits"]]
    if measured:
        style: dict[str, Any] = {"color": colour, "linewidth": 1.8, **_METHODS[cells[0]["method"]]}
        style["markerfacecolor"] = colour if cells[0]["method"] == "dense" else "white"
        places = [kernels.index(cell["kernel"]) + shift for cell in measured]
        axes.plot(places, [cell["psnr_y"] for cell in measured], **style)
    crosses: dict[str, Any] = {"color": colour, "marker": "X", "markersize": 9, "clip_on": False, "zorder": 3}
    for cell in cells:
        if not cell["fits"]:
            place = kernels.index(cell["kernel"]) + shift
            axes.plot(place, 0, transform=axes.get_xaxis_transform(), **crosses)


def save(figure: Figure, out: Path) -> None:
    """Write a figure as PNG, completely or not at all, without the version of the software in it."""
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})


def show_image(axes: Axes, pixels: np.ndarray, label: str) -> None:
    """Show uint8 pixels (H, W, 3) with a label below. Images of more than 1,200 pixels a side are subsampled."""
    height, width = pixels.shape[:2]
    step = -(-max(height, width) // _LARGEST)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(pixels[::step, ::step], interpolation="nearest", extent=extent)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(label, fontsize=10, labelpad=3)


def tidy(*all_axes: Axes, axis: Literal["both", "x", "y"] = "y", colour: str = "#dddddd", width: float = 0.6) -> None:
    """Give axes the style of all figures: no frame at the top and right, and a light grid."""
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis=axis, color=colour, linewidth=width)
        axes.set_axisbelow(True)


def _read_log(path: Path) -> dict[str, np.ndarray]:
    """Read the columns of a training log. Values that were not measured are NaN."""
    names = ("step", "rec", "validation_psnr")
    remedy = "delete it and train the model again"
    log = read_csv(path, numbers=names, remedy=remedy)
    if log.empty:
        raise UserError(f"{path}: has no steps; {remedy}")
    return {name: log[name].to_numpy(float) for name in names}
