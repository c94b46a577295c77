"""`extracter report`: everything that a run measured, in the order of the paper, as one HTML file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from extracter.errors import UserError
from extracter.files import read_json, write_text
from extracter.reporting.examples import SYSTEM, choose_examples
from extracter.reporting.published import SETS
from extracter.reporting.report import read_tables, run
from extracter.reporting.report.chart import NARROW, WIDE, Chart
from extracter.reporting.report.details import Example, details_chart, read_examples
from extracter.reporting.report.draw_costs import kernels_chart, modules_chart, read_times, times_chart
from extracter.reporting.report.draw_origins import Origins, origins_chart, read_origins
from extracter.reporting.report.draw_quality import (
    gains_chart,
    levels_chart,
    mean_gains,
    scatter_chart,
    training_chart,
)
from extracter.reporting.report.latex import write_latex
from extracter.reporting.report.page import comparer_data, detail_views, origin_views, scatter_data
from extracter.reporting.report.table import Table
from extracter.reporting.tables import METHODS, sort_key, title

# PSNR and SSIM by set, variant and image.
Scores = dict[str, dict[str, dict[str, tuple[float, float]]]]


@dataclass(frozen=True)
class Section:
    """A part of the page: tables and charts, and views of pictures where it has any."""

    key: str
    heading: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()


@dataclass(frozen=True)
class Report:
    """What the page is made of."""

    preset: str
    stand_in: bool
    facts: list[tuple[str, str]]
    headlines: list[tuple[str, str, str]]
    sections: list[Section]
    examples: list[Example]
    origins: list[Origins]
    scores: Scores
    data: Path

    def charts(self) -> list[Chart]:
        """Every chart, those that the page shows as pictures included."""
        found = [chart for section in self.sections for chart in section.charts]
        sets = dict.fromkeys(example.test_set for example in self.examples)
        found += [details_chart([e for e in self.examples if e.test_set == name]) for name in sets]
        groups = dict.fromkeys((o.example.test_set, o.variant) for o in self.origins)
        return found + [
            origins_chart([o for o in self.origins if (o.example.test_set, o.variant) == group]) for group in groups
        ]


def report(
    results: Path, data: Path, tables: Path, out: Path, *, preset: str, parameters: Sequence[tuple[str, str, str]]
) -> Path:
    """Write report.html, the charts as PDF in figures/, and the tables as LaTeX in tables/.

    Args:
        results: of a preset: evaluation/, images/, checkpoints/, and where they are there measured/, origins/ and
            benchmarks/.
        data: folder of the prepared sets.
        tables: folder of the tables.
        out: folder to write into.
        preset: its name.
        parameters: key, value and meaning of each parameter.

    Returns:
        The HTML file.

    Raises:
        UserError: something is missing or damaged.
    """
    content = gather(results, data, tables, preset, parameters)
    for chart in content.charts():
        chart.write_pdf(out / "figures")
    for table in {table.name: table for section in content.sections for table in section.tables}.values():
        if table.name not in ("parameters", "data", "networks"):
            write_text(out / "tables" / f"{table.name}.tex", write_latex(table))
    page = out / "report.html"
    write_text(page, render(content))
    return page


def gather(results: Path, data: Path, tables: Path, preset: str, parameters: Sequence[tuple[str, str, str]]) -> Report:
    """Read all that the report shows; see `report`."""
    metrics = read_tables.read_metrics(tables / "table1_metrics.csv")
    measured = {row.cells[0].text for row in metrics.rows if row.kind == "measured"}
    scores = read_scores(results / "evaluation", data, [key for key in METHODS if METHODS[key] in measured])
    examples: list[Example] = []
    origins: list[Origins] = []
    for name, variants in scores.items():
        folder = results / "evaluation"
        chosen = choose_examples(folder / "bicubic" / f"{name}.csv", folder / SYSTEM / f"{name}.csv")
        found = read_examples(data / name, results / "images", chosen, variants)
        for path in sorted((results / "origins").glob(f"*/{name}.json")):
            origins += read_origins(path, path.parent.name, {example.name: example for example in found})
        own = [item for item in origins if item.example.test_set == name and item.variant == SYSTEM]
        sources = {item.example.name: item.source for item in own}
        examples += [replace(example, ref_box=sources.get(example.name)) for example in found]
    return Report(
        preset,
        any(example.stand_in for example in examples),
        run.describe_run(preset, parameters),
        _headlines(scores),
        _sections(results, data, tables, metrics, scores, parameters),
        examples,
        origins,
        scores,
        data,
    )


def read_scores(evaluation: Path, data: Path, variants: Iterable[str]) -> Scores:
    """PSNR and SSIM of every image, for the sets that are prepared and evaluated.

    Raises:
        UserError: there is none, or a file is of another kind.
    """
    scores: Scores = {}
    names = [path.parent.name for path in data.glob("*/manifest.json")]
    for name in sorted(names, key=lambda name: sort_key(name, list(SETS))):
        for variant in variants:
            figures = evaluation / variant / f"{name}.csv"
            if figures.is_file():
                records = read_tables.read_records(figures)
                by_image = {r["image"]: (float(r["psnr_y"]), float(r["ssim_y"])) for r in records}
                scores.setdefault(name, {})[variant] = by_image
    if not scores:
        raise UserError(f"{evaluation}: no evaluation of the sets in {data}; run `snakemake --cores all` first")
    return scores


def _psnr(scores: Scores) -> dict[str, dict[str, dict[str, float]]]:
    return {s: {v: {i: pair[0] for i, pair in of.items()} for v, of in vs.items()} for s, vs in scores.items()}


def _headlines(scores: Scores) -> list[tuple[str, str, str]]:
    """For each set: its name, the gain of Extracter-rec over bicubic, and the best of all."""
    found = []
    for name, gains in mean_gains(_psnr(scores)).items():
        own = f"{gains[SYSTEM]:+.2f} dB" if SYSTEM in gains else "–"
        best = max(gains, key=lambda variant: gains[variant])
        found.append((title(name), own, f"{METHODS[best]}, {gains[best]:+.2f} dB"))
    return found


def _sections(
    results: Path, data: Path, tables: Path, metrics: Table, scores: Scores, parameters: Sequence[tuple[str, str, str]]
) -> list[Section]:
    """The parts of the page in the order of the paper; what was not measured is left out."""
    summaries = [results / "evaluation" / "bicubic" / f"{name}.json" for name in scores]
    references = {path.stem: read_json(path).get("references", "–") for path in summaries if path.is_file()}
    about = [run.data_table(data, references), run.training_table(results / "checkpoints")]
    psnr = _psnr(scores)
    trained = [variant for variant in METHODS if any(variant in of for of in scores.values())]
    rival = "ttsr-rec" if "ttsr-rec" in trained else "bicubic"
    kernels = results / "measured" / "table3_kernels.csv"
    kernels = kernels if kernels.is_file() else tables / "table3_kernels.csv"
    found = [
        Section("run", "What was run", [*about, run.parameters_table(parameters)]),
        Section("quality", "Quality", [metrics], [gains_chart(psnr)]),
        Section("details", "Details"),
        Section("images", "Image by image", (), [scatter_chart(psnr, rival, SYSTEM)]),
        Section("parameters", "Parameters", *_if_there(tables, "table2_parameters", "table2_modules")),
        Section("kernels", "Kernel size and search", [read_tables.read_kernels(kernels)], [kernels_chart(kernels)]),
    ]
    levels = tables / "table4_references.csv"
    wanted = not any(key == "evaluation.level_sets" and value == "[]" for key, value, _ in parameters)
    if wanted and levels.is_file():  # without sets of this run, the table is another run's
        found.append(Section("levels", "References", [read_tables.read_plain(levels)], [levels_chart(levels)]))
    logs = sorted((results / "checkpoints").glob("*/train_log.csv"))
    times = read_times(results / "benchmarks")
    found.append(Section("origins", "Where textures come from"))
    if logs:
        found.append(Section("training", "Training", (), [training_chart(logs)]))
    if times:
        found.append(Section("times", "Run times", (), [times_chart(times)]))
    return found


def _if_there(tables: Path, parameters: str, modules: str) -> tuple[list[Table], list[Chart]]:
    """Table 2 and, where it was made, the weights by module."""
    shown = [read_tables.read_plain(tables / f"{parameters}.csv")]
    path = tables / f"{modules}.csv"
    return (shown, []) if not path.is_file() else ([*shown, read_tables.read_plain(path)], [modules_chart(path)])


def render(content: Report) -> str:
    """The page as HTML; it needs no other file and no network."""
    environment = Environment(
        loader=PackageLoader("extracter.reporting.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    read: Any = environment.loader.get_source  # type: ignore[union-attr]
    return environment.get_template("report.html.j2").render(
        report=content,
        style=Markup(read(environment, "report.css")[0]),
        script=Markup(read(environment, "report.js")[0]),
        charts={
            chart.name: (Markup(chart.svg(NARROW)), Markup(chart.svg(WIDE)))
            for section in content.sections
            for chart in section.charts
        },
        details=detail_views(content.examples),
        origins=origin_views(content.origins),
        scatter=scatter_data(content.scores, content.data),
        comparer=comparer_data(content.examples),
    )
