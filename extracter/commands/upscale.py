"""`extracter upscale`: enlarge photographs."""

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from extracter.commands.options import Device, Model, Search

Format = StrEnum("Format", ["png", "jpg", "tif", "webp", "avif"])
Precision = StrEnum("Precision", {"auto": "auto", "full": "32", "bf16": "bf16", "half": "16"})


def upscale(
    images: Annotated[
        list[Path], typer.Argument(metavar="LR...", help="Images, and folders, which are searched recursively.")
    ],
    refs: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref",
            help="Reference for all images; repeat the option for several, which are searched together. From a folder, "
            "each image gets the file of its own name. Without references the image is enlarged by itself.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results, or the file to write for a single image.")
    ] = Path("upscaled"),
    model: Model = None,
    search: Annotated[
        Search,
        typer.Option(
            help="exact compares all pairs of patches; fast finds nearly the same matches at a cost proportional to "
            "the pixels; auto is exact as long as that takes a second or two."
        ),
    ] = Search.auto,
    kernel: Annotated[
        int | None,
        typer.Option(
            help="Side of a search patch in cells of 4 x 4 pixels of the result: 3, 6, 12 or another multiple of 3 up "
            "to 48; larger is coarser. By default that of the model."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory limit, such as 4GiB; by default half of the free memory, on a GPU three quarters."),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="Precision of the network; bf16 and 16 are faster. auto is bf16 on CPUs that support it, else 32."
        ),
    ] = Precision.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU cores; by default all of them.")] = None,
    scale: Annotated[
        int,
        typer.Option(
            min=1,
            max=4,
            help="4; 3 or 2 for the x4 result reduced; or 1, which reduces the image first and restores detail at the "
            "same size.",
        ),
    ] = 4,
    kind: Annotated[Format, typer.Option("--format", help="Format of the results in a folder.")] = Format.png,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Quality of JPEG (default 95), AVIF (default 90) and WebP (else lossless)."),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(help="Appended to the names of results; by default nothing, or `_x4` beside the images."),
    ] = None,
    strip: Annotated[bool, typer.Option("--strip", help="Drop EXIF, XMP and resolution.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write NAME.compare.png: inputs, result, where textures come from.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
) -> None:
    """Enlarge photographs four times, with textures from references of the same or a similar scene.

    An image that cannot be read is reported on stderr, and the others are still enlarged; the exit code is then 1.
    Existing results are kept, so an interrupted command resumes where it stopped.

    Example: `extracter upscale holiday/ --ref sharp.jpg -o large --memory 4GiB`
    """
    from extracter.inference.batch import Options, upscale_files

    method: Any = search.value
    options = Options(
        model=model, search=method, kernel=kernel, memory=memory, device=device, precision=precision.value,
        threads=threads, scale=scale, kind=kind.value, quality=quality, suffix=suffix, strip=strip, compare=compare,
        overwrite=overwrite,
    )  # fmt: skip
    tune_process()
    if upscale_files(images, refs or [], out, options):
        raise typer.Exit(1)


def tune_process() -> None:
    """Apply settings to the whole process, which the Python API leaves to its callers."""
    from extracter.memory import bound_kernel_cache, malloc_return

    malloc_return()
    bound_kernel_cache()
    # Pillow warns about metadata; what matters in a file is reported in a line of its own.
    warnings.filterwarnings("ignore", module="PIL")
