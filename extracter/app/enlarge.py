"""One job of the page: uploaded files in; the result, and pictures of what was done, as files out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from extracter.app.jobs import Job
from extracter.errors import UserError
from extracter.inference.batch import named_search
from extracter.inference.plan import Job as Target
from extracter.inference.plan import check_space
from extracter.inference.resize import resize
from extracter.inference.upscaler import Result, Upscaler
from extracter.memory import MIB, is_allocation_failure
from extracter.photos.photo import Photo, shown, to_bytes
from extracter.photos.read import decode_photo, size_of
from extracter.photos.write import encode_photo, why_not, write_photo
from extracter.reporting.origins import origin_map, spread, tinted
from extracter.search.choose import SearchName

SHOWN = 3000  # longest side of a picture that the page shows, in pixels; the result itself is as large as it is
_MAP = 1000  # likewise, of the map of origins and of the references beside it
# Bytes that the computation holds for each pixel of the photograph (its x4 enlargement) and of a reference; see
# `upscaler._held`.
_OF_PHOTO, _OF_REFERENCE = 2.2 * 16 * 3, 3 * 3


@dataclass(frozen=True)
class Settings:
    """What the page's owner decides.

    Attributes:
        models: to choose from besides the released one; each as for `model_folder`.
        memory, device: as of `Upscaler`.
    """

    models: Sequence[str] = ()
    memory: str | float | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Wish:
    """What a visitor asks for.

    Attributes:
        photograph, references: uploaded files.
        model: as for `model_folder`.
        search: exact, fast or auto.
        scale: 1 to 4; see `upscale`.
        suffix: of the result's format, with the dot.
    """

    photograph: Path
    references: Sequence[Path] = ()
    model: str | None = None
    search: SearchName = "auto"
    scale: int = 4
    suffix: str = ".png"


@dataclass(frozen=True)
class Enlarged:
    """Files of a job, and one sentence about it.

    Attributes:
        result: to download.
        bicubic, sharp: to compare, of one size, at most `SHOWN` pixels a side.
        origins: where textures come from; None where there was no reference to copy from.
        keys: the references under the colours of `origins`, each with a caption.
        summary: size, search and seconds.
    """

    result: Path
    bicubic: Path
    sharp: Path
    origins: Path | None
    keys: Sequence[tuple[Path, str]]
    summary: str


def enlarge(wish: Wish, folder: Path, settings: Settings, job: Job) -> Enlarged:
    """Enlarge a photograph.

    Args:
        wish: files and choices.
        folder: where files are written, which is empty.
        settings: memory and device.
        job: what progress is reported to, and what may cancel it.

    Raises:
        UserError: a file that is no image, too little memory, a full disk, or a format that cannot hold the result.
        CancelledError: the job was cancelled.
    """
    started = time.monotonic()
    upscaler = Upscaler(
        wish.model, scale=wish.scale, search=wish.search, memory=settings.memory, device=settings.device, reuse=True
    )
    _check_sizes(wish, upscaler.memory if upscaler.device.type == "cpu" else float("inf"))
    photo, references = _read(wish.photograph), [_read(path) for path in wish.references]
    height, width = (wish.scale * side for side in photo.rgb.shape[:2])
    target = Target(wish.photograph, folder / f"{wish.photograph.stem}_x{wish.scale}{wish.suffix}")
    if reason := why_not(width, height, wish.suffix):
        raise UserError(f"{target.out.name}: {reason}")
    check_space(target, width, height, 3 * photo.rgb.itemsize)
    try:
        result = upscaler.run(photo, references, job.report)
    except Exception as error:
        if is_allocation_failure(error):
            raise UserError("ran out of memory; start the page with a lower --memory or close other programs") from None
        raise
    job.check()
    job.phase = "writing"
    write_photo(result.photo, target.out)
    job.check()
    bicubic, sharp = _compared(photo, result.photo, folder)
    origins, keys = _drawn_origins(result, folder)
    captions = [path.name for path in wish.references]
    captions += [f"registered copy {number}" for number in range(1, result.copies + 1)]
    how = named_search(result)
    if references:
        how += f" in {len(references)} reference{'s'[: len(references) > 1]}"
    elif keys:  # of a model that needs a reference
        captions = ["the photograph's own bicubic enlargement"]
        how += " in the photograph itself"
    summary = f"{width} x {height} pixels, {how}, {time.monotonic() - started:.0f} s"
    return Enlarged(target.out, bicubic, sharp, origins, list(zip(keys, captions, strict=True)), summary)


def _read(path: Path) -> Photo:
    try:
        return decode_photo(path.read_bytes(), path.name)
    except OSError:
        raise UserError(f"{shown(path.name)}: this upload is deleted already; drop the file again") from None


def _check_sizes(wish: Wish, memory: float) -> None:
    """Refuse by their headers images that cannot be held, before any is decoded."""
    sizes = [size_of(path) or (0, 0) for path in (wish.photograph, *wish.references)]
    pixels, *others = (width * height for width, height in sizes)
    held = _OF_PHOTO * pixels / (16 if wish.scale == 1 else 1) + _OF_REFERENCE * sum(others)
    if held > memory:
        raise UserError(
            f"{(pixels + sum(others)) / 1e6:,.0f} million pixels are too many for {memory / MIB:,.0f} MiB of memory; "
            "reduce the images, or start the page with a larger --memory"
        )


def _compared(photo: Photo, result: Photo, folder: Path) -> tuple[Path, Path]:
    """The bicubic enlargement and the result, no larger than a page shows, in the photograph's colours."""
    height, width = _within(result.rgb.shape, SHOWN)
    files = []
    for name, pixels in (("bicubic", photo.rgb), ("result", result.rgb)):
        small = Photo(resize(pixels, width, height), icc=photo.icc)
        files.append(folder / f"{name}.webp")
        files[-1].write_bytes(encode_photo(small, ".webp", 90))
    return files[0], files[1]


def _drawn_origins(result: Result, folder: Path) -> tuple[Path | None, list[Path]]:
    """The map of origins, and the references under its colours; nothing where there is no reference."""
    if result.matches is None:
        return None, []
    refs, stride = result.inputs.refs, result.search.stride
    height, width = result.inputs.lr.shape[:2]
    sizes = [(ref.shape[0], ref.shape[1]) for ref in refs]
    cells = spread(origin_map(result.matches, (height, width), sizes, result.search), height, width, stride)
    larger = max(1, _MAP // max(height, width))
    origins = folder / "origins.png"
    Image.fromarray(cells).resize((larger * width, larger * height), Image.Resampling.NEAREST).save(origins)
    keys = []
    for number, ref in enumerate(refs):
        small = resize(to_bytes(ref), *reversed(_within(ref.shape, _MAP)))
        keys.append(folder / f"reference{number + 1}.webp")
        Image.fromarray(tinted(small, number, len(refs))).save(keys[-1], quality=85)
    return origins, keys


def _within(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width of an image that is reduced until its sides are at most so long."""
    factor = min(1, side / max(shape[:2]))
    return max(1, round(factor * shape[0])), max(1, round(factor * shape[1]))
