"""`extracter upscale`: your own photographs."""

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    avif = "avif"


class Search(StrEnum):
    """How references are searched."""

    auto = "auto"
    exact = "exact"
    fast = "fast"


class Precision(StrEnum):
    """Of the network behind the search."""

    auto = "auto"
    full = "32"
    bf16 = "bf16"
    half = "16"


def upscale(
    images: Annotated[
        list[Path], typer.Argument(metavar="LR...", help="Images, or folders of images with their subfolders.")
    ],
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
    search: Annotated[
        Search,
        typer.Option(
            help="exact compares all pairs of patches; fast finds nearly the same matches at a cost that grows with "
            "the pixels; auto is exact as long as that takes a second or two."
        ),
    ] = Search.auto,
    kernel: Annotated[
        int | None,
        typer.Option(help="Side of a search patch: 3, 6, 12; larger is coarser. By default the model's own."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to stay within, such as 4GiB; by default half of what is free.")
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="Of the network; bf16 and 16 are faster. auto takes bf16 on processors that have it, else 32."
        ),
    ] = Precision.auto,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU cores to use; by default as many as there are.")
    ] = None,
    scale: Annotated[
        int,
        typer.Option(
            min=1,
            max=4,
            help="4; 3 and 2, which are the x4 result reduced; or 1, which reduces the image first and restores detail "
            "at the same size.",
        ),
    ] = 4,
    kind: Annotated[Format, typer.Option("--format", help="Of results in a folder.")] = Format.png,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Of JPEG (by default 95), AVIF (90) and WebP (by default lossless)."),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(help="What the names of results end in; by default nothing, and `_x4` among the images."),
    ] = None,
    strip: Annotated[bool, typer.Option("--strip", help="Leave EXIF, XMP and resolution out of results.")] = False,
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
    from extracter.inference.batch import Options, upscale_files

    options = Options(
        model=model, search=search.value, kernel=kernel, memory=memory, device=device, precision=precision.value,
        threads=threads, scale=scale, kind=kind.value, quality=quality, suffix=suffix, strip=strip, compare=compare,
        overwrite=overwrite,
    )  # fmt: skip
    tune_process()
    with _ended_by_sigterm():
        failed = upscale_files(images, refs or [], out, options)
    if failed:
        raise typer.Exit(1)


def tune_process() -> None:
    """Settings of the whole process, which a program that calls the Python API makes for itself."""
    from extracter.memory import bound_kernel_cache, malloc_return

    malloc_return()
    bound_kernel_cache()
    # Of Pillow, about metadata; what matters of a file is said in a line of its own.
    warnings.filterwarnings("ignore", module="PIL")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: by an exception, on whose way files that are half written go."""

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except SystemExit as ended:
        if ended.code == 128 + signal.SIGTERM:
            print("extracter: ended; run the same command again to resume", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
