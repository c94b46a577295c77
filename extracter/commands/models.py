"""`extracter convert` and `info`: checkpoints."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Gradient(StrEnum):
    """Range of the gradient density in the authors' versions."""

    unit = "unit"
    bytes = "bytes"
    normalised = "normalised"


def convert(
    source: Annotated[Path, typer.Argument(metavar="OFFICIAL.pt", help="Released state dict of EXTRACTER or TTSR.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint folder to write.")],
    kernel: Annotated[
        int | None, typer.Option(help="Of the search, which the file does not tell; 6 for EXTRACTER, 3 for TTSR.")
    ] = None,
    gradient: Annotated[
        Gradient | None, typer.Option(help="Where the gradient density's range, told from the keys, is another.")
    ] = None,
) -> None:
    """Make a checkpoint of the authors' released weights; the network computes what theirs does.

    Example: `extracter convert EXTRACTER_rec.pt -o models/authors-rec`
    """
    from extracter.models.convert import convert

    config = convert(source, out, kernel=kernel, gradient=gradient and gradient.value)
    for key, value in config.items():
        print(f"{key}: {value}")
    print(f"written to {out}")


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Checkpoint folder, a file in it, or a Hugging Face hub id; by default the released model."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--time/--no-time", help="Run the network on this machine's CPU to tell seconds.")
    ] = True,
) -> None:
    """Show a model: configuration, parameters by module, training, memory and time for some sizes.

    Example: `extracter info results/demo/checkpoints/extracter-rec`
    """
    from extracter.inference.info import info

    info(model, measure=measure)


def release(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder that training wrote.")],
    summary: Annotated[list[Path], typer.Option(help="Of `evaluate`, of bicubic and of this checkpoint; repeat it.")],
    about: Annotated[Path, typer.Option(help="Markdown for the model card: data, its licence, limits.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
) -> None:
    """Make a released model of a checkpoint: float16 weights and a model card.

    Example: `extracter release results/open/checkpoints/extracter-rec --about extracter/released/extracter-rec.md
    --summary results/open/evaluation/bicubic/set14.json --summary results/open/evaluation/extracter-rec/set14.json
    -o extracter/released/extracter-rec`
    """
    from extracter.reporting.model_card import release

    release(checkpoint, summary, about, out)
