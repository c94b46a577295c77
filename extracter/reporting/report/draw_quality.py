"""Charts of quality: gain of each system, gain by reference level, training curves, image against image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from extracter.families import FAMILIES
from extracter.reporting.figures import COLOURS, GREY, NAMES
from extracter.reporting.report.chart import GRID, INK, WIDE, Chart, new_figure, tidy
from extracter.reporting.report.read_tables import read_records
from extracter.reporting.report.table import number_cell, plain_table, text_cell
from extracter.reporting.table_references import HEADS as LEVELS
from extracter.reporting.tables import METHODS, title

# PSNR of each image by set, variant and name of the image.
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]


def colour(variant: str) -> str:
    """The colour of a variant's system; the released network has that of its own system."""
    family = "extracter" if variant == "released" else variant.removesuffix("-rec")
    return INK if family == "masa" else COLOURS.get(family, GREY)


def mean_gains(scores: Scores) -> dict[str, dict[str, float]]:
    """Mean gain over bicubic in dB by set and variant, variants in the order of the tables."""
    gains: dict[str, dict[str, float]] = {}
    for name, variants in scores.items():
        bicubic = variants.get("bicubic", {})
        for variant in [key for key in METHODS if key in variants and key != "bicubic"]:
            shared = [image for image in variants[variant] if image in bicubic]
            if shared:
                gain = float(np.mean([variants[variant][image] - bicubic[image] for image in shared]))
                gains.setdefault(name, {})[variant] = gain
    return gains


def gains_chart(scores: Scores) -> Chart:
    """Gain over bicubic of each variant, a panel for each test set."""
    gains = mean_gains(scores)
    variants = [key for key in METHODS if any(key in row for row in gains.values())]

    def draw(width: float) -> Figure:
        columns = len(gains) if width >= WIDE else min(2, len(gains))
        rows = -(-len(gains) // columns)
        figure = new_figure(width, rows * (12 + 3.4 * len(variants)))
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(gains) :]:
            axes.set_visible(False)
        for axes, (name, row) in zip(grid.flat, gains.items(), strict=False):
            for place, variant in enumerate(variants):
                if variant in row:
                    filled = variant.endswith("-rec") or variant == "released"
                    face = colour(variant) if filled else "none"
                    axes.plot([0, row[variant]], [place, place], color=colour(variant), linewidth=0.8)
                    marker = "D" if variant == "released" else "o"
                    axes.plot(row[variant], place, marker, color=colour(variant), markerfacecolor=face, markersize=4)
            axes.axvline(0, color=INK, linewidth=0.6)
            axes.set_yticks(range(len(variants)), [METHODS[variant] for variant in variants])
            axes.set_title(title(name), loc="left")
            tidy(axes, axis="x")
        grid.flat[0].set_ylim(len(variants) - 0.4, -0.6)
        figure.supxlabel("mean gain over bicubic (dB)", fontsize=7)
        return figure

    best = [max(row.items(), key=lambda item: item[1]) for row in gains.values()]
    said = [f"{title(name)}: {METHODS[v]} {gain:+.2f} dB" for name, (v, gain) in zip(gains, best, strict=True)]
    alt = f"Mean gain over bicubic of {len(variants)} trained networks on each test set. Largest: {'; '.join(said)}."
    rows = [
        [text_cell(METHODS[variant]), *(number_cell(row.get(variant), "{:+.2f}") for row in gains.values())]
        for variant in variants
    ]
    table = plain_table("gains", "Mean gain over bicubic (dB)", "", ["Method", *map(title, gains)], rows)
    return Chart("gains", "Mean gain over bicubic", alt, draw, table)


def levels_chart(path: Path) -> Chart:
    """Mean gain over no reference by level of similarity: a panel for each set, a line for each -rec network.

    Args:
        path: CSV of Table 4.
    """
    records = [r for r in read_records(path) if r["references"] in LEVELS and r["variant"] not in FAMILIES]
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for r in records:
        lines.setdefault(r["set"], {}).setdefault(r["variant"], {})[r["references"]] = float(r["gain"])

    def draw(width: float) -> Figure:
        columns = min(len(lines), 2) if width >= WIDE else 1
        rows = -(-len(lines) // columns)
        figure = new_figure(width, 14 + 62 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(lines) :]:
            axes.set_visible(False)
        for axes, (name, of_set) in zip(grid.flat, lines.items(), strict=False):
            levels = [level for level in LEVELS if any(level in gains for gains in of_set.values())]
            for variant, gains in of_set.items():
                marker = "D" if variant == "released" else "o"
                places = [n for n, level in enumerate(levels) if level in gains]
                found = [gains[levels[n]] for n in places]
                label = METHODS.get(variant, variant)
                axes.plot(places, found, color=colour(variant), marker=marker, markersize=3, label=label)
            axes.axhline(0, color=INK, linewidth=0.6)
            axes.set_xticks(range(len(levels)), [LEVELS[level].replace(" ", "\n") for level in levels])
            axes.set_ylabel("gain over no reference (dB)")
            axes.set_title(title(name), loc="left")
            tidy(axes)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4 if width >= WIDE else 2)
        return figure

    said = [
        f"{title(name)}, {METHODS.get(v, v)}: " + ", ".join(f"{LEVELS[x]} {gain:+.2f} dB" for x, gain in gains.items())
        for name, of_set in lines.items()
        for v, gains in of_set.items()
    ]
    alt = f"Mean gain of a reference over none, by how similar it is to the input. {'; '.join(said)}."
    return Chart("levels", "Gain by reference level", alt, draw)


def training_chart(logs: list[Path]) -> Chart:
    """Validation PSNR by step, a panel for each phase.

    Args:
        logs: train_log.csv of checkpoints, in folders named after the variant.
    """
    curves = {}
    for path in [path for path in logs if path.parent.name in METHODS]:  # the matcher has losses alone
        steps = [(float(r["step"]), float(r["validation_psnr"])) for r in read_records(path) if r["validation_psnr"]]
        if steps:
            curves[path.parent.name] = steps
    curves = {key: curves[key] for key in METHODS if key in curves}

    def draw(width: float) -> Figure:
        wide = width >= WIDE
        figure = new_figure(width, 66 if wide else 118)
        left, right = figure.subplots(1, 2, sharey=True) if wide else figure.subplots(2, 1)
        for variant, points in curves.items():
            family = variant.removesuffix("-rec")
            axes = left if variant.endswith("-rec") else right
            label = NAMES.get(family, family)
            axes.plot(*zip(*points, strict=True), color=colour(variant), marker="o", markersize=2.5, label=label)
        for axes, heading in ((left, "reconstruction loss (-rec)"), (right, "then all losses")):
            axes.set_title(heading, loc="left")
            axes.set(xlabel="step", ylabel="validation PSNR (dB)", xlim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            tidy(axes)
        handles, labels = (left if left.lines else right).get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4 if wide else 3)
        return figure

    ends = [f"{METHODS[key]} {points[0][1]:.2f} to {points[-1][1]:.2f} dB" for key, points in curves.items()]
    alt = f"Validation PSNR from the first to the last measurement of each training: {'; '.join(ends)}."
    rows = [
        [
            text_cell(METHODS[key]),
            number_cell(points[-1][0]),
            *(number_cell(psnr, "{:.2f}") for psnr in (points[0][1], points[-1][1], max(psnr for _, psnr in points))),
        ]
        for key, points in curves.items()
    ]
    heads = ["Network", "Steps", "First (dB)", "Last (dB)", "Best (dB)"]
    return Chart("training", "Training curves", alt, draw, plain_table("training", "Validation PSNR", "", heads, rows))


def scatter_chart(scores: Scores, x: str, y: str) -> Chart:
    """PSNR of each image under one variant against that under another; the page lets readers choose both."""
    points = {
        name: [(v[x][image], v[y][image]) for image in v[x] if image in v[y]]
        for name, v in scores.items()
        if x in v and y in v
    }
    markers = "os^Dv<>P"

    def draw(width: float) -> Figure:
        side = min(width, 100)
        figure = new_figure(side, side)
        axes = figure.subplots()
        for n, (name, pairs) in enumerate(points.items()):
            shade = list(COLOURS.values())[n % len(COLOURS)]
            across, up = zip(*pairs, strict=True)
            axes.scatter(across, up, s=12, color=shade, marker=markers[n % 8], label=title(name))
        ends = [value for pairs in points.values() for pair in pairs for value in pair]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GRID, linewidth=0.8, zorder=0)
        axes.set(xlabel=f"{METHODS[x]}, PSNR (dB)", ylabel=f"{METHODS[y]}, PSNR (dB)")
        tidy(axes, axis="both")
        axes.legend()
        return figure

    flat = [b - a for pairs in points.values() for a, b in pairs]
    better = sum(gain > 0 for gain in flat)
    alt = (
        f"PSNR of each of {len(flat)} test images under {METHODS[y]} against {METHODS[x]}. {METHODS[y]} is better on "
        f"{better} of them; the gains lie between {min(flat):+.2f} and {max(flat):+.2f} dB."
    )
    return Chart("images", f"{METHODS[y]} against {METHODS[x]}", alt, draw)
