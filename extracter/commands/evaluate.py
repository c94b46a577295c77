"""`extracter evaluate`: Table 1's measurements."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Params, PresetName


def evaluate(
    variant: Annotated[str, typer.Argument(help="bicubic, ttsr-rec, ttsr, extracter-rec, extracter or released.")],
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
    from extracter.evaluation.evaluate import evaluate

    names = ("seed", "model", "search", "evaluation.precision", "evaluation.compile", "evaluation.reuse_memory")
    seed, model, search, precision, compiled, reuse_memory = params.load_blocks(file, preset, *names)
    evaluate(
        variant, images, checkpoint, out, summary, sr, seed=seed, model=model, search=search, precision=precision,
        compiled=compiled, reuse_memory=reuse_memory, device=device,
    )  # fmt: skip
