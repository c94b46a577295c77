"""Charts of costs: kernel size and search, parameters by module, run times."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from extracter.reporting.figures import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, YELLOW
from extracter.reporting.report.chart import INK, WIDE, Chart, new_figure, tidy
from extracter.reporting.report.read_tables import read_records
from extracter.reporting.report.table import number_cell, plain_table, text_cell
from extracter.reporting.tables import title

_SEARCHES: dict[str, dict[str, Any]] = {
    "dense": {"linestyle": "-", "marker": "o", "color": BLUE},
    "chunked": {"linestyle": ":", "marker": "s", "color": ORANGE},
    "blocks": {"linestyle": "--", "marker": "^", "color": GREEN},
}
_SHADES = (BLUE, ORANGE, GREEN, SKY, AMBER, PURPLE, YELLOW, GREY)


def kernels_chart(path: Path) -> Chart:
    """PSNR, peak memory and seconds by kernel size, a row for each set, a line for each search.

    Args:
        path: CSV of Table 3; memory and seconds are left out where the file has none.
    """
    records = read_records(path)
    sets = list(dict.fromkeys(r["set"] for r in records))
    kernels = sorted({int(r["kernel"]) for r in records})
    panels = [("psnr_y", "PSNR (dB)"), ("peak_memory_mib", "peak memory (MiB)"), ("seconds", "seconds an image")]
    panels = [panel for panel in panels if panel[0] in records[0]]

    def draw(width: float) -> Figure:
        wide = width >= WIDE
        shape = (len(sets), len(panels)) if wide else (len(sets) * len(panels), 1)
        figure = new_figure(width, shape[0] * 42 + 8)
        grid = figure.subplots(*shape, squeeze=False).flat
        for axes, (name, key, label) in zip(grid, [(s, *p) for s in sets for p in panels], strict=True):
            _draw_searches(axes, [r for r in records if r["set"] == name], key, kernels)
            axes.set(ylabel=label, xlabel="kernel")
            axes.set_title(title(name), loc="left", pad=11)
            tidy(axes)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure

    return Chart("kernels", "Kernel size and search", _describe_kernels(records, kernels), draw)


def _draw_searches(axes: Any, records: list[dict[str, str]], key: str, kernels: list[int]) -> None:
    """Lines through the runs that fit into memory; crosses at the upper edge for the others."""
    for method, style in _SEARCHES.items():
        cells = {int(r["kernel"]): r.get(key) for r in records if r["method"] == method}
        points = [(kernels.index(k), float(value)) for k, value in sorted(cells.items()) if value]
        axes.plot(*(zip(*points, strict=True) if points else ([], [])), **style, markersize=3.5, label=method)
        for kernel in [k for k, value in cells.items() if not value]:
            place = kernels.index(kernel)
            axes.plot(place, 1.05, "X", color=style["color"], transform=axes.get_xaxis_transform(), clip_on=False)
            where = {"xy": (place, 1.05), "xycoords": axes.get_xaxis_transform(), "xytext": (5, 0)}
            axes.annotate("OFM", **where, textcoords="offset points", va="center", fontsize=6)
    axes.set_xticks(range(len(kernels)), [f"{kernel}x{kernel}" for kernel in kernels])
    axes.set_xlim(-0.4, len(kernels) - 0.6)
    highest = max((float(r[key]) for r in records if r.get(key)), default=1.0)
    if key != "psnr_y":
        axes.set_ylim(0, 1.12 * highest)


def _describe_kernels(records: list[dict[str, str]], kernels: list[int]) -> str:
    parts = []
    for r in [r for r in records if r["method"] == "blocks"]:
        costs = f", {float(r['peak_memory_mib']):,.0f} MiB" if r.get("peak_memory_mib") else ""
        costs += f", {float(r['seconds']):.2f} s" if r.get("seconds") else ""
        said = f"{float(r['psnr_y']):.2f} dB{costs}" if r["psnr_y"] else "out of memory"
        parts.append(f"{title(r['set'])} {r['kernel']}x{r['kernel']} {said}")
    failed = [
        f"{title(r['set'])} {r['kernel']}x{r['kernel']}" for r in records if r["method"] == "dense" and not r["psnr_y"]
    ]
    dense = f" The dense search ran out of memory on {', '.join(failed)}." if failed else ""
    return f"Kernels of {kernels[0]} to {kernels[-1]} pixels; block search: {'; '.join(parts)}.{dense}"


def modules_chart(path: Path) -> Chart:
    """Weights of each system, stacked by module.

    Args:
        path: CSV of the weights by module.
    """
    systems: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for r in read_records(path):
        systems[r["method"]].append((r["module"], float(r["parameters"]) / 1e6))
    systems = {name: sorted(parts, key=lambda part: -part[1]) for name, parts in systems.items()}

    def draw(width: float) -> Figure:
        figure = new_figure(width, 10 + 7 * len(systems))
        axes = figure.subplots()
        widest = max(sum(size for _, size in parts) for parts in systems.values())
        for place, parts in enumerate(systems.values()):
            left = 0.0
            for n, (module, size) in enumerate(parts):
                axes.barh(place, size, left=left, color=_SHADES[n % 8], height=0.7, edgecolor="white", linewidth=0.4)
                if size / widest > 0.011 * len(module) * WIDE / width:
                    dark = _SHADES[n % 8] in (BLUE, ORANGE, GREEN, GREY)
                    axes.text(left + size / 2, place, module, ha="center", va="center", fontsize=6,
                              color="white" if dark else "#111111")  # fmt: skip
                left += size
            axes.text(left, place, f" {left:.2f}", va="center", fontsize=6)
        axes.set_yticks(range(len(systems)), list(systems))
        axes.invert_yaxis()
        axes.set(xlabel="parameters (millions)", xlim=(0, 1.08 * widest))
        tidy(axes, axis="x")
        return figure

    said = [
        f"{name} {sum(size for _, size in parts):.2f} million, most in {parts[0][0]}" for name, parts in systems.items()
    ]
    return Chart("modules", "Parameters by module", f"Weights of each system: {'; '.join(said)}.", draw)


def read_times(folder: Path) -> dict[str, list[dict[str, float]]]:
    """What Snakemake measured of each job, by rule.

    Args:
        folder: of the TSV files, RULE/JOB.tsv.

    Returns:
        Seconds (`s`) and peak memory in MB (`max_rss`) of each job. Empty where nothing was measured.
    """
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in sorted(folder.glob("*/*.tsv")):
        heads, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line)
        for row in rows[-1:]:
            values = dict(zip(heads, row, strict=False))
            measured = {key: float(values[key]) for key in ("s", "max_rss") if values.get(key) not in (None, "-", "NA")}
            if "s" in measured:
                found[path.parent.name].append(measured)
    return dict(found)


def times_chart(times: dict[str, list[dict[str, float]]]) -> Chart:
    """Seconds of all jobs of each rule.

    Args:
        times: as `read_times` returns them.
    """
    total = {rule: sum(job["s"] for job in jobs) for rule, jobs in times.items()}
    ordered = sorted(total, key=lambda rule: -total[rule])
    unit, scale = ("minutes", 60) if max(total.values()) > 300 else ("seconds", 1)

    def draw(width: float) -> Figure:
        figure = new_figure(width, 14 + 6 * len(ordered))
        axes = figure.subplots()
        for place, rule in enumerate(ordered):
            axes.barh(place, total[rule] / scale, color=BLUE, height=0.65)
            jobs = len(times[rule])
            label = f" {total[rule] / scale:,.1f} ({jobs} job{'s'[: jobs > 1]})"
            axes.text(total[rule] / scale, place, label, va="center", fontsize=6, color=INK)
        axes.set_yticks(range(len(ordered)), ordered)
        axes.invert_yaxis()
        axes.set(xlabel=f"{unit} of all jobs", xlim=(0, 1.3 * max(total.values()) / scale))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        tidy(axes, axis="x")
        return figure

    rows = []
    for rule in ordered:
        seconds = [job["s"] for job in times[rule]]
        memory = max((job["max_rss"] for job in times[rule] if "max_rss" in job), default=None)
        cells = [number_cell(len(seconds)), number_cell(total[rule], "{:,.1f}"), number_cell(max(seconds), "{:,.1f}")]
        rows.append([text_cell(rule), *cells, number_cell(memory)])
    heads = ["Rule", "Jobs", "Seconds, all", "Seconds, longest", "Peak memory (MB)"]
    table = plain_table("times", "Run times", "", heads, rows)
    said = [f"{rule} {total[rule]:,.0f} s in {len(times[rule])} jobs" for rule in ordered]
    return Chart("times", "Run times", f"Seconds by rule: {'; '.join(said)}.", draw, table)
