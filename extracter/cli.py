"""The `extracter` command: one subcommand for each rule of the workflow, and tools to use by hand.

Its subcommands stand in `extracter/commands`; no result depends on this module, so the workflow does not watch it.
"""

import os
import sys

import typer

from extracter.commands import (
    bench,
    data,
    evaluate,
    figures,
    kernels,
    models,
    params,
    status,
    study,
    tables,
    train,
    upscale,
)
from extracter.errors import UserError

# Threads that wait in sleep, not in a loop: beside another busy process a training step is several times faster so.
# Read when PyTorch loads, which the subcommands do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Reference-based x4 super-resolution (EXTRACTER, arXiv 2310.01379). `snakemake --cores all` runs these "
    "commands in order; each also works by hand, from the project's folder.",
)
data_app = typer.Typer(no_args_is_help=True, help="What of the data is there, and whether it is whole.")
app.add_typer(data_app, name="data")

# A subcommand has the name of its function, with dashes; `--help` lists them in this order.
for command in (
    params.params,
    data.download,
    data.prepare,
    train.train_rec,
    train.train_full,
    evaluate.evaluate,
    kernels.kernel_sweep,
    tables.collect_metrics,
    tables.collect_plots,
    tables.table_metrics,
    tables.table_parameters,
    tables.table_kernels,
    figures.figure_comparison,
    figures.figure_training,
    figures.figure_kernels,
    tables.show,
    upscale.upscale,
    models.convert,
    models.info,
    models.release,
    study.study_references,
    study.ablate,
):
    app.command()(command)

for command in (status.status, status.verify):
    data_app.command()(command)

bench_app = typer.Typer(no_args_is_help=True, help="What search, transfer, network and training cost on this machine.")
app.add_typer(bench_app, name="bench")
for command in (bench.search, bench.forward, bench.train, bench.figure):
    bench_app.command()(command)


def main() -> None:
    """Run the command; what a user can mend is one sentence on stderr and exit code 1, without a traceback."""
    try:
        app()
    except UserError as error:
        print(f"extracter: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ended:
        # Typer turns Ctrl-C into exit code 130 and says nothing.
        if isinstance(ended, SystemExit) and ended.code != 130:
            raise
        print("extracter: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
