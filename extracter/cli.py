"""The `extracter` command: commands for users, and one for each rule of the workflow.

The commands are in `extracter/commands`.
"""

import os
from importlib.metadata import version
from typing import Annotated

import typer

from extracter.commands import (
    bench,
    data,
    evaluate,
    figures,
    kernels,
    models,
    params,
    report,
    status,
    study,
    tables,
    train,
    upscale,
    web_page,
)

# Let idle OpenMP threads sleep instead of spinning; training is several times faster when other processes are busy.
# PyTorch reads this when it is loaded, which the commands do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Reference-based x4 super-resolution (EXTRACTER, arXiv 2310.01379).",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"extracter {version('extracter')}")
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options of the command itself."""


data_app = typer.Typer(no_args_is_help=True, help="Show which data sets are complete, and verify them.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure the cost of search, network and training on this machine.")

# A command has the name of its function, with dashes. `--help` lists the panels and their commands in this order.
PANELS = {
    "Your photographs": (upscale.upscale, web_page.app, models.info, models.convert),
    "Training and studies": (
        params.params,
        train.train_match,
        train.train_rec,
        train.train_full,
        study.study_references,
        study.ablate,
        figures.figure_reference,
        models.release,
    ),
    "Steps of the workflow, which `snakemake --cores all` runs in order": (
        data.download,
        data.prepare,
        evaluate.evaluate,
        evaluate.merge_parts,
        evaluate.evaluate_levels,
        kernels.kernel_sweep,
        tables.collect_metrics,
        tables.collect_plots,
        tables.table_metrics,
        tables.table_parameters,
        tables.table_kernels,
        tables.table_references,
        figures.figure_comparison,
        figures.figure_training,
        figures.figure_kernels,
        figures.map_origins,
        report.report,
        tables.show,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for check in (status.status, status.verify):
    data_app.command()(check)
for measurement in (bench.search, bench.forward, bench.train, bench.photo, bench.views, bench.systems, bench.figure):
    bench_app.command()(measurement)
app.add_typer(data_app, name="data", rich_help_panel="Training and studies")
app.add_typer(bench_app, name="bench", rich_help_panel="Training and studies")
