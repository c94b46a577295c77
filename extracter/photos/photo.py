"""A photograph in memory, and which file names belong to photographs."""

import logging
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

# These libraries log oddities of files; Python would print the messages where logging is not set up.
for _library in ("tifffile", "imagecodecs", "PIL"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

# Suffixes of the files that are read; how a file is decoded depends on its content alone.
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".jp2",
    ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif",
)  # fmt: skip
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Metadata:
    """What a file holds of a photograph besides its pixels.

    Attributes:
        exif: EXIF block with orientation 1, from its byte order mark on, or None.
        xmp: XMP packet, or None.
        dpi: pixels per inch, horizontally and vertically, or None.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Photo:
    """One photograph, upright.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16, or float32 in [-1, 1]; in a grey photograph the channels are equal.
        grey: whether it had one channel; it is then written with one.
        alpha: (H, W) of the same type, or None. Colours are straight, not premultiplied.
        icc: the embedded colour profile, or None.
        chunks: names and contents of PNG's colour chunks (gAMA, cHRM, sRGB, cICP).
        metadata: EXIF, XMP and resolution.
        notes: harmless faults of the file, each a clause for a warning.
    """

    rgb: np.ndarray
    grey: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits per channel."""
        return self.rgb.dtype == np.uint16

    @property
    def profile(self) -> bytes | None:
        """The embedded colour profile, if it is made for as many channels as the photograph has."""
        wanted = b"GRAY" if self.grey else b"RGB "
        return self.icc if self.icc and self.icc[16:20] == wanted else None


class TooManyPixelsError(Exception):
    """An image declares more pixels than are read."""


def check_size(width: int, height: int) -> None:
    """Refuse sizes that no photograph has: a few bytes can declare any size and so exhaust the memory.

    Raises:
        ValueError: there are no pixels.
        TooManyPixelsError: there are more than `most_pixels`.
    """
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if (most := most_pixels()) and width * height > most:
        raise TooManyPixelsError


def most_pixels() -> int | None:
    """Twice `Image.MAX_IMAGE_PIXELS`, above which Pillow refuses an image, too; None if a program set that to None."""
    return Image.MAX_IMAGE_PIXELS and 2 * Image.MAX_IMAGE_PIXELS


def plausible_dpi(across: float, down: float) -> tuple[float, float] | None:
    """A resolution that is plausible and that every format can store, else None."""
    across, down = round(across, 2), round(down, 2)
    return (across, down) if 1 < across < 65_535 and 1 < down < 65_535 else None


def is_photo(path: Path) -> bool:
    """Whether a file has the suffix of a photograph and is not hidden."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).name.startswith(".")


def shown(path: Path | str) -> str:
    """A path on one line, with unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fsdecode(path))


def same_name(name: str) -> str:
    """A key that is equal for file names that differ only in case or in Unicode normalisation (NFC, NFD)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_neutral(rgb: np.ndarray) -> bool:
    """Whether red, green and blue are equal in every pixel of (H, W, 3)."""
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all())


def luma(rgb: np.ndarray) -> np.ndarray:
    """The grey value of each pixel: (H, W, 3) to (H, W), of the same type; equal channels keep their value."""
    result = np.empty(rgb.shape[:2], rgb.dtype)
    for top in range(0, len(rgb), 256):  # in strips, since the products take four bytes each
        values = rgb[top : top + 256].astype(np.float32) @ LUMA
        result[top : top + 256] = np.rint(values) if rgb.dtype.kind == "u" else values
    return result


def rounded(samples: np.ndarray) -> np.ndarray:
    """uint16 to uint8, rounded to the nearest value."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8; in strips, since the arrays in between are several times as large.

    Args:
        pixels: (H, W, C), uint8, which is returned as it is; uint16; or floating-point in [-1, 1].
    """
    if pixels.dtype == np.uint8:
        return pixels
    result = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), 64):
        part = pixels[top : top + 64]
        result[top : top + 64] = rounded(part) if part.dtype == np.uint16 else np.rint((part + 1) * 127.5)
    return result
