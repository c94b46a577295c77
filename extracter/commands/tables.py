"""`extracter collect-*`, `table-*` and `show`: figures and tables from what was measured."""

from pathlib import Path
from typing import Annotated

import typer


def collect_metrics(
    summaries: Annotated[list[Path], typer.Argument(help="Summaries that `evaluate` made.")],
    out: Annotated[Path, typer.Option(help="metrics.json, nested numbers.")],
    kernels: Annotated[list[Path] | None, typer.Option("--kernel", help="Results of `kernel-sweep`.")] = None,
) -> None:
    """Gather all figures that do not depend on the machine's speed into one file."""
    from extracter.reporting.tables import collect_metrics

    collect_metrics(summaries, kernels or [], out)


def collect_plots(
    logs: Annotated[list[Path], typer.Option("--log", help="train_log.csv of a checkpoint.")],
    images: Annotated[list[Path], typer.Option("--image", help="CSV that `evaluate` made.")],
    out: Annotated[Path, typer.Option(help="Folder for training.csv, images.csv, kernel_psnr.csv.")],
    kernels: Annotated[list[Path] | None, typer.Option("--kernel", help="Results of `kernel-sweep`.")] = None,
) -> None:
    """Gather the curves that `dvc plots diff` compares between two runs."""
    from extracter.reporting.dvc_plots import collect_plots

    collect_plots(logs, images, kernels or [], out)


def table_metrics(
    summaries: Annotated[list[Path], typer.Argument(help="Summaries that `evaluate` made.")],
    out: Annotated[Path, typer.Option(help="CSV; the Markdown table stands beside it.")],
) -> None:
    """Table 1: PSNR / SSIM of every method on every test set, measured beside the paper's."""
    from extracter.reporting.table_metrics import table_metrics

    table_metrics(summaries, out)


def table_parameters(out: Annotated[Path, typer.Option(help="CSV; the Markdown table stands beside it.")]) -> None:
    """Table 2: parameters and correlation shape at the paper's configuration."""
    from extracter.reporting.table_parameters import table_parameters

    table_parameters(out)


def table_kernels(
    results: Annotated[list[Path], typer.Argument(help="Results of `kernel-sweep`.")],
    out: Annotated[Path, typer.Option(help="CSV; the Markdown table stands beside it.")],
    timings: Annotated[Path | None, typer.Option(help="Folder that `kernel-sweep --timings` wrote into.")] = None,
    measured: Annotated[Path | None, typer.Option(help="CSV of the same table with memory and seconds.")] = None,
) -> None:
    """Table 3: kernel size against PSNR / SSIM for each search; seconds and peak memory in a table of their own."""
    from extracter.reporting.table_kernels import table_kernels

    table_kernels(results, out, timings=timings, measured=measured)


def show(tables: Annotated[list[Path], typer.Argument(help="Tables as Markdown.")]) -> None:
    """Print tables and say where they lie."""
    from extracter.reporting.tables import show

    show(tables)
