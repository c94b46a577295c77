"""The `extracter` command: one subcommand for each rule of the workflow, and tools to use by hand."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from extracter import params
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

Params = Annotated[
    str, typer.Option("--params", help="Parameter file, or the JSON that the workflow passes.", show_default=True)
]
PresetName = Annotated[
    str | None, typer.Option("--preset", help="Preset of the parameter file; by default the one it selects.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU where there is one.")]


class Family(StrEnum):
    """The networks that are trained."""

    extracter = "extracter"
    ttsr = "ttsr"


class Method(StrEnum):
    """How the correlation is computed."""

    chunked = "chunked"
    blocks = "blocks"
    dense = "dense"


@app.command("params")
def params_command(file: Params = "params.yaml", preset: PresetName = None) -> None:
    """Check a parameter file and explain every key of a preset.

    Example: `extracter params --preset open`
    """
    from extracter.explain import explain

    explain(Path(file), preset)


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="SET", help="train, or a test set such as set14.")],
    out: Annotated[Path, typer.Option(help="Folder for the raw images and their manifest.json.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Fetch the raw images of one set, verified; the demo preset takes them from scikit-image, without network.

    Example: `extracter download set14 --preset open --out data/raw/open/set14`
    """
    from extracter.data.download import download

    block = "data.train" if name == "train" else f"data.tests.{name}"
    source, mirror, local, every = params.load_blocks(
        file, preset, block, "data.mirror", "data.local", "evaluation.every"
    )
    download(name, source, out, mirror=mirror, local=local.get(name), every=every)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(metavar="SET", help="train, or a test set such as set14.")],
    raw: Annotated[Path, typer.Option(help="Folder that `download` made.")],
    out: Annotated[Path, typer.Option(help="Folder for LR, LR_up, Ref, Ref_du and their manifest.json.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Make training pairs, or the inputs and references of a test set, from raw images.

    Example: `extracter prepare set14 --raw data/raw/demo/set14 --out data/prepared/demo/set14`
    """
    from extracter.data.prepare import prepare_test, prepare_train

    if name == "train":
        seed, source = params.load_blocks(file, preset, "seed", "data.train")
        prepare_train(source, raw, out, seed=seed)
    else:
        seed, source = params.load_blocks(file, preset, "seed", f"data.tests.{name}")
        prepare_test(name, source, raw, out, seed=seed)


@data_app.command("status")
def data_status(
    file: Params = "params.yaml",
    preset: PresetName = None,
    root: Annotated[Path, typer.Option("--data", help="Folder that holds raw/ and prepared/.")] = Path("data"),
) -> None:
    """Show which sets are there, partial, missing or corrupt, by their files' sizes.

    Example: `extracter data status --preset open`
    """
    from extracter.data.status import report

    report(*_data_of(file, preset), root, rehash=False)


@data_app.command("verify")
def data_verify(
    file: Params = "params.yaml",
    preset: PresetName = None,
    root: Annotated[Path, typer.Option("--data", help="Folder that holds raw/ and prepared/.")] = Path("data"),
) -> None:
    """Read every file again and hold its SHA-256 against the manifests.

    Example: `extracter data verify --preset open`
    """
    from extracter.data.status import report

    report(*_data_of(file, preset), root, rehash=True)


def _data_of(file: str, preset: str | None) -> tuple[params.Data, str]:
    """The data block of a preset, and the preset's name."""
    read = params.read(Path(file))
    if preset is not None:
        read = params.validate({**read.model_dump(), "preset": preset}, file)
    return read.selected.data, read.preset


@app.command("train-rec")
def train_rec(
    family: Annotated[Family, typer.Argument(help="Which network.")],
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs.")],
    out: Annotated[Path, typer.Option(help="Folder for config.json, model.safetensors, train_log.csv.")],
    state: Annotated[Path, typer.Option(help="File to resume from; kept until training ends.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train a network with the reconstruction loss alone (the -rec models). Killed, it resumes where it was.

    Example: `extracter train-rec extracter --pairs data/prepared/demo/train --out my-model --state my-model.state`
    """
    from extracter.train import train

    names = ("seed", "model", "search", "loss", "train")
    train(family.value, pairs, out, state, *params.load_blocks(file, preset, *names), start=None, device=device)


@app.command("train-full")
def train_full(
    family: Annotated[Family, typer.Argument(help="Which network.")],
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs.")],
    start: Annotated[Path, typer.Option(help="Checkpoint folder of the -rec model to continue from.")],
    out: Annotated[Path, typer.Option(help="Folder for config.json, model.safetensors, train_log.csv.")],
    state: Annotated[Path, typer.Option(help="File to resume from; kept until training ends.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train on with all losses of Eq. 8, from the -rec checkpoint. Killed, it resumes where it was."""
    from extracter.train import train

    names = ("seed", "model", "search", "loss", "train")
    train(family.value, pairs, out, state, *params.load_blocks(file, preset, *names), start=start, device=device)


@app.command()
def evaluate(
    variant: Annotated[str, typer.Argument(help="bicubic, ttsr-rec, ttsr, extracter-rec or extracter.")],
    images: Annotated[Path, typer.Option(help="Prepared test set.")],
    out: Annotated[Path, typer.Option(help="CSV with a row for each image.")],
    summary: Annotated[Path, typer.Option(help="JSON with the means.")],
    sr: Annotated[Path, typer.Option(help="Folder for the super-resolved images.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; none for bicubic.")] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure PSNR and SSIM of one variant on one test set.

    Example: `extracter evaluate bicubic --images data/prepared/demo/set14 --out b.csv --summary b.json --sr b`
    """
    from extracter.evaluate import evaluate

    seed, model, search = params.load_blocks(file, preset, "seed", "model", "search")
    evaluate(variant, images, checkpoint, out, summary, sr, seed=seed, model=model, search=search, device=device)


@app.command("kernel-sweep")
def kernel_sweep(
    images: Annotated[Path, typer.Option(help="Prepared test set.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    kernel: Annotated[int, typer.Option(help="Patch side; stride and padding are a third of it.")],
    method: Annotated[
        Method,
        typer.Option(
            help="dense keeps the whole correlation, as in the paper; chunked a part; blocks is the fast one."
        ),
    ],
    out: Annotated[Path, typer.Option(help="JSON with PSNR, SSIM, seconds and peak memory, or out of memory.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure one cell of Table 3, confined to `evaluation.memory_budget_gib`."""
    from extracter.kernels import kernel_sweep

    names = ("seed", "model", "search", "evaluation.memory_budget_gib")
    seed, model, search, budget = params.load_blocks(file, preset, *names)
    kernel_sweep(
        images, checkpoint, kernel, method.value, out, seed=seed, model=model, search=search, budget_gib=budget,
        device=device,
    )  # fmt: skip


@app.command("collect-metrics")
def collect_metrics(
    summaries: Annotated[list[Path], typer.Argument(help="Summaries that `evaluate` made.")],
    out: Annotated[Path, typer.Option(help="metrics.json, nested numbers.")],
    kernels: Annotated[list[Path] | None, typer.Option("--kernel", help="Results of `kernel-sweep`.")] = None,
) -> None:
    """Gather all figures that do not depend on the machine's speed into one file."""
    from extracter.tables import collect_metrics

    collect_metrics(summaries, kernels or [], out)


@app.command("collect-plots")
def collect_plots(
    logs: Annotated[list[Path], typer.Option("--log", help="train_log.csv of a checkpoint.")],
    images: Annotated[list[Path], typer.Option("--image", help="CSV that `evaluate` made.")],
    out: Annotated[Path, typer.Option(help="Folder for training.csv, images.csv, kernel_psnr.csv, kernel_memory.csv.")],
    kernels: Annotated[list[Path] | None, typer.Option("--kernel", help="Results of `kernel-sweep`.")] = None,
) -> None:
    """Gather the curves that `dvc plots diff` compares between two runs."""
    from extracter.plots import collect_plots

    collect_plots(logs, images, kernels or [], out)


@app.command("table-metrics")
def table_metrics(
    summaries: Annotated[list[Path], typer.Argument(help="Summaries that `evaluate` made.")],
    out: Annotated[Path, typer.Option(help="CSV; the Markdown table stands beside it.")],
) -> None:
    """Table 1: PSNR / SSIM of every method on every test set, measured beside the paper's."""
    from extracter.table_metrics import table_metrics

    table_metrics(summaries, out)


@app.command("table-parameters")
def table_parameters(out: Annotated[Path, typer.Option(help="CSV; the Markdown table stands beside it.")]) -> None:
    """Table 2: parameters and correlation shape at the paper's configuration."""
    from extracter.table_parameters import table_parameters

    table_parameters(out)


@app.command("table-kernels")
def table_kernels(
    results: Annotated[list[Path], typer.Argument(help="Results of `kernel-sweep`.")],
    out: Annotated[Path, typer.Option(help="CSV; the Markdown table stands beside it.")],
) -> None:
    """Table 3: kernel size against PSNR / SSIM, seconds and peak memory, for each search."""
    from extracter.table_kernels import table_kernels

    table_kernels(results, out)


@app.command("figure-comparison")
def figure_comparison(
    sets: Annotated[list[Path], typer.Argument(help="Prepared test sets, a row for each.")],
    sr: Annotated[Path, typer.Option(help="Folder of the SR images, VARIANT/SET/NAME.png.")],
    out: Annotated[Path, typer.Option(help="PNG.")],
) -> None:
    """Draw LR, every method's result, reference and truth side by side, for one image of each set."""
    from extracter.comparison import figure_comparison

    figure_comparison(sets, sr, out)


@app.command("figure-training")
def figure_training(
    logs: Annotated[list[Path], typer.Argument(help="train_log.csv of checkpoints, in folders named as the variant.")],
    out: Annotated[Path, typer.Option(help="PNG.")],
) -> None:
    """Draw reconstruction loss and validation PSNR by step."""
    from extracter.figures import figure_training

    figure_training(logs, out)


@app.command("figure-kernels")
def figure_kernels(
    results: Annotated[list[Path], typer.Argument(help="Results of `kernel-sweep`.")],
    out: Annotated[Path, typer.Option(help="PNG.")],
) -> None:
    """Draw kernel size against PSNR and peak memory."""
    from extracter.figures import figure_kernels

    figure_kernels(results, out)


@app.command()
def show(tables: Annotated[list[Path], typer.Argument(help="Tables as Markdown.")]) -> None:
    """Print tables and say where they lie."""
    from extracter.tables import show

    show(tables)


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
