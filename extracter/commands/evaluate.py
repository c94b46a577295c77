"""`extracter evaluate`: the measurements of Table 1."""

from pathlib import Path
from typing import Annotated, Any

import typer

from extracter import params
from extracter.commands.options import Device, Params, PresetName, Search
from extracter.errors import UserError
from extracter.projection import evaluate_keys, level_keys


def evaluate(
    variant: Annotated[
        str,
        typer.Argument(
            help="bicubic; a system such as ttsr, with all losses, or ttsr-rec; released; or converted, for what "
            "`extracter convert` wrote."
        ),
    ],
    images: Annotated[Path, typer.Option(help="Prepared test set.")],
    out: Annotated[Path, typer.Option(help="CSV to write, with a row for each image.")],
    summary: Annotated[Path, typer.Option(help="JSON to write, with the means over the images.")],
    sr: Annotated[Path, typer.Option(help="Folder for the super-resolved images.")],
    timings: Annotated[Path | None, typer.Option(help="CSV to write, with time and memory of each image.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; omit it for bicubic.")] = None,
    search: Annotated[
        Search,
        typer.Option(help="exact, as in all tables; fast; or auto, which is exact for images of usual test sets."),
    ] = Search.exact,
    part: Annotated[
        str, typer.Option(help="Part of the set to evaluate, such as 2-of-8; merge-parts joins the parts.")
    ] = "1-of-1",
    references: Annotated[
        str | None,
        typer.Option(help="Which of the set's references: own, level_1 to level_5, pooled; else as it was prepared."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="common or native, in place of `evaluation.protocol` of the parameters.")
    ] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure PSNR and SSIM of one variant on one test set.

    Example: `extracter evaluate bicubic --images data/prepared/demo/set14 --out b.csv --summary b.json --sr b`
    """
    from extracter.evaluation.evaluate import evaluate
    from extracter.families import Protocol

    if protocol not in (None, "common", "native"):
        raise UserError(f"--protocol {protocol}: allowed are common, native")
    blocks = params.load_keys(file, preset, *evaluate_keys(variant))
    measured = blocks.evaluation
    settings: dict[str, Any] = {"timings": timings, "method": search.value, "references": references, "device": device}
    settings |= {"common": Protocol(measured.border, measured.padding), "protocol": protocol or measured.protocol}
    if variant != "bicubic":
        settings |= {"search": blocks.search, "model": getattr(blocks, "model", None)}
        settings |= {"precision": measured.precision, "compiled": measured.compile}
        settings |= {"reuse_memory": measured.reuse_memory}
    evaluate(variant, images, checkpoint, out, summary, sr, part=part, **settings)


def evaluate_levels(
    variant: Annotated[str, typer.Argument(help="A system such as extracter-rec, or released.")],
    images: Annotated[Path, typer.Option(help="Prepared test set with levels: views, or CUFED5 with its references.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    out: Annotated[Path, typer.Option(help="CSV to write, with a row for each image and level.")],
    summary: Annotated[Path, typer.Option(help="JSON to write, with each level's gain over no reference.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure what references of each level are worth to one variant, in PSNR over no reference.

    Example: `extracter evaluate-levels released --images data/prepared/open/views --checkpoint
    extracter/released/extracter-rec --out levels.csv --summary levels.json --preset open`
    """
    from extracter.evaluation.levels import evaluate_levels

    blocks = params.load_keys(file, preset, *level_keys(variant))
    evaluate_levels(
        variant, images, checkpoint, out, summary, model=getattr(blocks, "model", None), search=blocks.search,
        precision=blocks.evaluation.precision, device=device,
    )  # fmt: skip


def merge_parts(
    parts: Annotated[list[Path], typer.Argument(help="Folder of each part in order.")],
    out: Annotated[Path, typer.Option(help="CSV with a row for each image.")],
    summary: Annotated[Path, typer.Option(help="JSON with the means.")],
    sr: Annotated[Path, typer.Option(help="Folder for the super-resolved images.")],
    timings: Annotated[Path | None, typer.Option(help="CSV with each image's seconds and peak memory.")] = None,
) -> None:
    """Merge the parts of an evaluated test set into the files that its evaluation as a whole writes.

    Each folder holds images.csv, summary.json, timings.csv and the folder sr, which `evaluate --part` wrote.

    Example: `extracter merge-parts part-1 part-2 --out b.csv --summary b.json --sr b`
    """
    from extracter.evaluation.parts import merge

    merge(parts, out, summary, sr, timings)
