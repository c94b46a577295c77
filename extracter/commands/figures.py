"""`extracter figure-*`: figures."""

from pathlib import Path
from typing import Annotated

import typer

from extracter.commands.options import Device, Model
from extracter.errors import UserError


def figure_comparison(
    sets: Annotated[list[Path], typer.Argument(help="Prepared test sets; each becomes a row.")],
    sr: Annotated[Path, typer.Option(help="Folder of the SR images: VARIANT/SET/NAME.png.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
) -> None:
    """Draw LR, the result of each method, reference and original for one image of each set.

    Example: `extracter figure-comparison data/prepared/demo/set14 --sr results/demo/images --out comparison.png`
    """
    from extracter.reporting.figure_comparison import figure_comparison

    figure_comparison(sets, sr, out)


def map_origins(
    images: Annotated[Path, typer.Option(help="Prepared test set.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint whose matches are wanted.")],
    baseline: Annotated[Path, typer.Option(help="CSV that `evaluate` wrote for bicubic.")],
    figures: Annotated[Path, typer.Option(help="CSV that `evaluate` wrote for the system whose gain chooses images.")],
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    device: Device = "auto",
) -> None:
    """Write where the textures of three images come from: those with the largest, median and smallest gain.

    Example: `extracter map-origins --images data/prepared/demo/set14
    --checkpoint results/demo/checkpoints/extracter-rec --baseline results/demo/evaluation/bicubic/set14.csv
    --figures results/demo/evaluation/extracter-rec/set14.csv --out origins.json`
    """
    from extracter.reporting.find_origins import map_origins

    map_origins(images, checkpoint, baseline, figures, out, device=device)


def figure_training(
    logs: Annotated[list[Path], typer.Argument(help="train_log.csv in folders named after the variant.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
) -> None:
    """Draw the reconstruction loss and the validation PSNR by step.

    Example: `extracter figure-training results/demo/checkpoints/*/train_log.csv --out training.png`
    """
    from extracter.reporting.figures import figure_training

    figure_training(logs, out)


def figure_kernels(
    results: Annotated[list[Path], typer.Argument(help="JSON files that `kernel-sweep` wrote.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
) -> None:
    """Draw PSNR by kernel size.

    Example: `extracter figure-kernels results/demo/kernels/*/*.json --out kernels.png`
    """
    from extracter.reporting.figures import figure_kernels

    figure_kernels(results, out)


def figure_reference(
    out: Annotated[Path, typer.Argument(help="PNG to write.")],
    original: Annotated[list[Path] | None, typer.Option(help="Photograph; repeatable, each with a --ref.")] = None,
    refs: Annotated[list[Path] | None, typer.Option("--ref", help="Reference of the same scene.")] = None,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Draw what a reference adds: LR, bicubic, result without and with a reference, reference, original.

    Without --original, the photographs are the stereo pair that ships with scikit-image.

    Example: `extracter figure-reference picture.png --original left.jpg --ref right.jpg`
    """
    from extracter.inference.reference_figure import STEREO, figure_reference

    if len(original or []) != len(refs or []):
        raise UserError(f"{len(original or [])} --original and {len(refs or [])} --ref: each needs one of the other")
    pairs = list(zip(original or [], refs or [], strict=True)) or [STEREO]
    figure_reference(pairs, out, model=model, device=device)
