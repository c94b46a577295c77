"""`extracter figure-*`: the pictures."""

from pathlib import Path
from typing import Annotated

import typer


def figure_comparison(
    sets: Annotated[list[Path], typer.Argument(help="Prepared test sets, a row for each.")],
    sr: Annotated[Path, typer.Option(help="Folder of the SR images, VARIANT/SET/NAME.png.")],
    out: Annotated[Path, typer.Option(help="PNG.")],
) -> None:
    """Draw LR, every method's result, reference and truth side by side, for one image of each set."""
    from extracter.reporting.figure_comparison import figure_comparison

    figure_comparison(sets, sr, out)


def figure_training(
    logs: Annotated[list[Path], typer.Argument(help="train_log.csv of checkpoints, in folders named as the variant.")],
    out: Annotated[Path, typer.Option(help="PNG.")],
) -> None:
    """Draw reconstruction loss and validation PSNR by step."""
    from extracter.reporting.figures import figure_training

    figure_training(logs, out)


def figure_kernels(
    results: Annotated[list[Path], typer.Argument(help="Results of `kernel-sweep`.")],
    out: Annotated[Path, typer.Option(help="PNG.")],
) -> None:
    """Draw kernel size against PSNR and peak memory."""
    from extracter.reporting.figures import figure_kernels

    figure_kernels(results, out)
