"""`extracter collect-*`, `table-*` and `show`: tables of the measurements."""

from pathlib import Path
from typing import Annotated

import typer

Table = Annotated[Path, typer.Option(help="CSV to write; the same table as Markdown gets the suffix .md.")]


def collect_metrics(
    summaries: Annotated[list[Path], typer.Argument(help="Summaries that `evaluate` wrote.")],
    out: Annotated[Path, typer.Option(help="JSON to write, with nested numbers.")],
    kernels: Annotated[list[Path] | None, typer.Option("--kernel", help="JSON that `kernel-sweep` wrote.")] = None,
    levels: Annotated[list[Path] | None, typer.Option("--level", help="JSON that `evaluate-levels` wrote.")] = None,
) -> None:
    """Gather PSNR, SSIM and gains of all evaluations into one file, for `dvc metrics`.

    Example: `extracter collect-metrics results/demo/evaluation/*/*.json --out metrics.json`
    """
    from extracter.reporting.tables import collect_metrics

    collect_metrics(summaries, kernels or [], levels or [], out)


def collect_plots(
    logs: Annotated[list[Path], typer.Option("--log", help="train_log.csv of a checkpoint.")],
    images: Annotated[list[Path], typer.Option("--image", help="CSV that `evaluate` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for training.csv, images.csv, kernel_psnr.csv, references.csv.")],
    kernels: Annotated[list[Path] | None, typer.Option("--kernel", help="JSON that `kernel-sweep` wrote.")] = None,
    levels: Annotated[list[Path] | None, typer.Option("--level", help="JSON that `evaluate-levels` wrote.")] = None,
) -> None:
    """Gather the curves that `dvc plots` draws.

    Example: `extracter collect-plots --log results/demo/checkpoints/extracter-rec/train_log.csv --image
    results/demo/evaluation/extracter-rec/set14.csv --out plots`
    """
    from extracter.reporting.dvc_plots import collect_plots

    collect_plots(logs, images, kernels or [], levels or [], out)


def table_metrics(
    summaries: Annotated[list[Path], typer.Argument(help="Summaries that `evaluate` wrote.")],
    out: Table,
) -> None:
    """Write Table 1: PSNR / SSIM of each method on each test set, measured and reported.

    Example: `extracter table-metrics results/demo/evaluation/*/*.json --out table1.csv`
    """
    from extracter.reporting.table_metrics import table_metrics

    table_metrics(summaries, out)


def table_parameters(
    out: Table,
    modules: Annotated[Path | None, typer.Option(help="CSV to write, with the weights of each module, too.")] = None,
) -> None:
    """Write Table 2: number of weights and shape of the correlation in the paper's configuration.

    Example: `extracter table-parameters --out table2.csv`
    """
    from extracter.reporting.table_parameters import table_parameters

    table_parameters(out, modules)


def table_kernels(
    results: Annotated[list[Path], typer.Argument(help="JSON files that `kernel-sweep` wrote.")],
    out: Table,
    timings: Annotated[Path | None, typer.Option(help="Folder that `kernel-sweep --timings` wrote into.")] = None,
    measured: Annotated[Path | None, typer.Option(help="CSV to write, with memory and seconds, too.")] = None,
) -> None:
    """Write Table 3: PSNR / SSIM by kernel size and search; and memory and seconds in another table.

    Example: `extracter table-kernels results/demo/kernels/*/*.json --out table3.csv`
    """
    from extracter.reporting.table_kernels import table_kernels

    table_kernels(results, out, timings=timings, measured=measured)


def table_references(
    summaries: Annotated[list[Path], typer.Argument(help="JSON that `evaluate-levels` or `study-references` wrote.")],
    out: Table,
) -> None:
    """Write Table 4: what a reference of each level is worth to each system.

    Example: `extracter table-references results/demo/levels/*/*.json --out table4.csv`
    """
    from extracter.reporting.table_references import table_references

    table_references(summaries, out)


def show(tables: Annotated[list[Path], typer.Argument(help="Markdown tables.")]) -> None:
    """Print tables, and the paths of their files.

    Example: `extracter show results/tables/*.md`
    """
    from extracter.reporting.tables import show

    show(tables)
