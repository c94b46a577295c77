"""Write a photograph atomically, in the format given by the suffix of its name."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from extracter.errors import UserError
from extracter.files import atomic_path
from extracter.photos import exif, png, tiff
from extracter.photos.colour import described_profile
from extracter.photos.photo import Metadata, Photo, luma, rounded, shown

# Suffixes of results with the longest side that each format supports, in pixels.
LIMITS = {
    ".png": png.LONGEST,
    ".jpg": 65_500,  # limit of libjpeg; that of the format is 65,535
    ".jpeg": 65_500,
    ".tif": 2**31 - 1,
    ".tiff": 2**31 - 1,
    ".webp": 16_383,
    ".avif": 65_535,
}
QUALITIES = {".jpg": 95, ".jpeg": 95, ".avif": 90}
_MARKER = 65_533  # bytes that fit in a JPEG segment
_BOTH = ("Exif\0\0", "http://ns.adobe.com/xap/1.0/\0")


def why_not(width: int, height: int, suffix: str) -> str | None:
    """Why a format cannot hold an image of this size, and which formats can; None if it can."""
    side = max(width, height)
    limit = LIMITS[suffix]
    if side <= limit:
        return None
    able = [name for name, most in LIMITS.items() if most >= side and name not in (".jpeg", ".tiff")]
    return f"{suffix} holds at most {limit:,} pixels a side and the result has {side:,}; choose {' or '.join(able)}"


def write_photo(photo: Photo, path: Path, *, quality: int | None = None, strip: bool = False) -> None:
    """Write a photograph completely or not at all.

    PNG and TIFF hold everything. JPEG, WebP and AVIF hold 8 bits, to which deeper images are rounded. JPEG has no
    alpha, so it is dropped.

    Args:
        photo: uint8 or uint16.
        path: its suffix determines the format.
        quality: 1 to 100, for JPEG (default 95), WebP (default lossless) and AVIF (default 90).
        strip: drop EXIF, XMP and resolution; the colour profile stays, since the colours depend on it.

    Raises:
        UserError: an unknown suffix, an image too large for the format, or a disk that is full or not writable.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in LIMITS:
        raise UserError(f"{shown(path)}: results are written as {', '.join(LIMITS)}; choose one of them")
    height, width = photo.rgb.shape[:2]
    if reason := why_not(width, height, suffix):
        raise UserError(f"{shown(path)}: {reason}")
    try:
        data = encode_photo(_described(photo, strip), suffix, quality)
    except (struct.error, ArithmeticError, AttributeError, LookupError, SystemError, TypeError, ValueError):
        # Metadata that the encoder rejects must not cost the result.
        data = encode_photo(replace(photo, metadata=Metadata()), suffix, quality)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_photo(photo: Photo, suffix: str, quality: int | None = None) -> bytes:
    """Encode a photograph; for the arguments see `write_photo`."""
    if suffix == ".png":
        return png.encode(samples_of(photo), photo)
    photo = replace(photo, icc=photo.profile or described_profile(photo), chunks=())
    if suffix in (".tif", ".tiff"):
        if photo.deep and photo.alpha is not None:  # few programs open 16-bit grey with alpha
            photo = replace(photo, grey=False)
        return tiff.encode(samples_of(photo), photo)
    if suffix in (".jpg", ".jpeg"):
        photo = replace(photo, alpha=None)
    elif photo.grey:  # WebP and AVIF have no grey
        photo = replace(photo, grey=False, icc=None)
    samples = samples_of(photo)
    image = Image.fromarray((rounded(samples) if photo.deep else samples).squeeze())
    buffer = io.BytesIO()
    image.save(buffer, {".webp": "WEBP", ".avif": "AVIF"}.get(suffix, "JPEG"), **_options(photo, suffix, quality))
    return buffer.getvalue()


def samples_of(photo: Photo) -> np.ndarray:
    """Grey or RGB, followed by alpha if there is one: (H, W, channels)."""
    colours = luma(photo.rgb)[..., None] if photo.grey else photo.rgb
    return colours if photo.alpha is None else np.concatenate((colours, photo.alpha[..., None]), 2)


def _described(photo: Photo, strip: bool) -> Photo:
    """The photograph with the metadata to write."""
    metadata = Metadata() if strip else photo.metadata
    if metadata.exif is not None:
        height, width = photo.rgb.shape[:2]
        metadata = replace(metadata, exif=exif.with_size(metadata.exif, width, height))
    return replace(photo, metadata=metadata)


def _options(photo: Photo, suffix: str, quality: int | None) -> dict:
    """Arguments for Pillow's `save`."""
    metadata = photo.metadata
    options: dict = {"icc_profile": photo.profile}
    if metadata.exif:
        options["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    if suffix in (".webp", ".avif") and metadata.dpi and not metadata.exif:  # their only place for a resolution
        options["exif"] = b"Exif\0\0" + exif.of_resolution(metadata.dpi)
    if suffix == ".webp":
        return options | ({"lossless": True} if quality is None else {"quality": quality})
    options["quality"] = quality or QUALITIES[suffix]
    if suffix == ".avif":
        return options | {"subsampling": "4:4:4"}
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    # A JPEG segment is short; what does not fit is dropped.
    for name, header in zip(("exif", "xmp"), _BOTH, strict=True):
        if len(options.get(name, b"")) + len(header) + 2 > _MARKER:
            del options[name]
    return options | {"subsampling": 0}
