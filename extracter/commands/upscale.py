"""`extracter upscale`: your own photographs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from extracter.commands.options import Device, Model


class Format(StrEnum):
    """File formats of results."""

    png = "png"
    jpg = "jpg"
    tif = "tif"
    webp = "webp"


class Precision(StrEnum):
    """Of the network behind the search."""

    full = "32"
    bf16 = "bf16"
    half = "16"


def upscale(
    images: Annotated[list[Path], typer.Argument(metavar="LR...", help="Images, or folders of images.")],
    refs: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref",
            help="Reference, for all images; give the option again for more, and all are searched together. A folder "
            "gives each image the file of its own name. Without any, an image's own bicubic enlargement serves.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results; for a single image also a file's name.")
    ] = Path("upscaled"),
    model: Model = None,
    kernel: Annotated[
        int | None,
        typer.Option(
            help="Side of a search patch: 3, 6, 12; larger is faster. By default the model's own, doubled where the "
            "image and its references are large."
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to stay within, such as 4GiB; by default half of what is free.")
    ] = None,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the network; bf16 and 16 are faster on a GPU.")] = (
        Precision.full
    ),
    kind: Annotated[Format, typer.Option("--format", help="Of results in a folder.")] = Format.png,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write NAME.compare.png: LR, bicubic, result, reference, origins.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make results again that are there.")] = False,
) -> None:
    """Enlarge photographs four times, with textures from references of the same or a similar scene.

    An image that cannot be read is named on stderr and the others go on; the exit code is then 1. Results that are
    there are left alone, so an interrupted command goes on where it was.

    Example: `extracter upscale holiday/ --ref sharp.jpg -o large --memory 4GiB`
    """
    from extracter.inference.batch import upscale_files

    failed = upscale_files(
        images, refs or [], out, model=model, kernel=kernel, memory=memory, device=device, precision=precision.value,
        kind=kind.value, compare=compare, overwrite=overwrite,
    )  # fmt: skip
    if failed:
        raise typer.Exit(1)
