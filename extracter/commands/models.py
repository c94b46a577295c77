"""`extracter convert`, `info` and `release`: checkpoints."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

# Range of the gradient density in the versions of the authors' code.
Gradient = StrEnum("Gradient", ["unit", "bytes", "normalised"])


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="OFFICIAL.pt",
            help="Released weights of EXTRACTER, TTSR, C2-Matching, AMSA, DATSR or MASA-SR, of PyTorch or safetensors, "
            "as they were saved; of SRNTT the .npz.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint folder to write.")],
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="A further file that the network needs; repeat it. C2-Matching, AMSA and DATSR: "
            "feature_extraction.pth; SRNTT: upscale.npz and VGG19 of Caffe.",
        ),
    ] = None,
    kernel: Annotated[
        int | None,
        typer.Option(help="Side of a search patch, which the file does not tell; by default 6, or 3 for TTSR."),
    ] = None,
    gradient: Annotated[
        Gradient | None,
        typer.Option(help="Range of the gradient density, if it is not the one inferred from the keys."),
    ] = None,
) -> None:
    """Convert the authors' released weights to a checkpoint. The network computes what theirs does.

    Example: `extracter convert EXTRACTER_rec.pt -o models/authors-rec`
    """
    from extracter.models.convert import convert, explain_gradient

    density: Any = gradient.value if gradient else None
    config = convert(source, out, beside=beside or [], kernel=kernel, gradient=density)
    for key, value in config.items():
        print(f"{key}: {value}")
    if gradient is None and (reason := explain_gradient(config)):
        print(reason)
    print(f"written to {out}")


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Checkpoint folder, a file in it, or a Hugging Face hub id; by default the released model."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--time/--no-time", help="Run the network on this machine's CPU to estimate the time.")
    ] = True,
) -> None:
    """Show a model: configuration, weights by module, training, and what running it costs.

    Example: `extracter info results/demo/checkpoints/extracter-rec`
    """
    from extracter.inference.info import info

    info(model, measure=measure)


def release(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder that `train-rec` or `train-full` wrote.")],
    summary: Annotated[
        list[Path], typer.Option(help="Summary by `evaluate` of this checkpoint or of bicubic; repeatable.")
    ],
    about: Annotated[Path, typer.Option(help="Markdown for the model card: data, its licence, limits of the model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
) -> None:
    """Make a release of a checkpoint: float16 weights and a model card.

    Example: `extracter release results/open/checkpoints/extracter-rec --about extracter/released/extracter-rec.md
    --summary results/open/evaluation/bicubic/set14.json --summary results/open/evaluation/extracter-rec/set14.json
    -o extracter/released/extracter-rec`
    """
    from extracter.reporting.model_card import release

    release(checkpoint, summary, about, out)
