"""What is known of one photograph, and which files hold photographs."""

import logging
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

# They log what they find odd in a file; Python would print that where nobody has set up logging.
for _library in ("tifffile", "imagecodecs", "PIL"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

# Names of files that are read; the content decides, not the name.
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".jp2",
    ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif",
)  # fmt: skip
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Metadata:
    """What a file says about a photograph beside its pixels.

    Attributes:
        exif: EXIF block, beginning with its byte order, with orientation 1; or None.
        xmp: XMP packet, or None.
        dpi: pixels per inch across and down, or None.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Photo:
    """One photograph, upright.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16, or float32 in [-1, 1]; the channels of a grey one are equal.
        grey: it has one channel and is written as one.
        alpha: (H, W) of the same type, or None. Colours are straight, not multiplied by it.
        icc: its colour profile, or None.
        chunks: PNG's own description of the colours (gAMA, cHRM, sRGB, cICP), as names and contents.
        metadata: EXIF, XMP and resolution.
        notes: what was wrong with the file and did not matter, each a clause for a warning.
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
        """16 bits a channel."""
        return self.rgb.dtype == np.uint16

    @property
    def profile(self) -> bytes | None:
        """The colour profile, if it is one for as many channels as the photograph has."""
        wanted = b"GRAY" if self.grey else b"RGB "
        return self.icc if self.icc and self.icc[16:20] == wanted else None


class TooManyPixelsError(Exception):
    """An image declares more pixels than are read."""


def check_size(width: int, height: int) -> None:
    """Refuse sizes that no photograph has: a file may declare any in a few bytes, so as to fill the memory.

    Raises:
        ValueError: there are no pixels.
        TooManyPixelsError: there are more than `most_pixels`.
    """
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if (most := most_pixels()) and width * height > most:
        raise TooManyPixelsError


def most_pixels() -> int | None:
    """Twice `Image.MAX_IMAGE_PIXELS`, from where Pillow, too, refuses an image; a program may set that, or None."""
    return Image.MAX_IMAGE_PIXELS and 2 * Image.MAX_IMAGE_PIXELS


def plausible_dpi(across: float, down: float) -> tuple[float, float] | None:
    """A resolution that a photograph can have, and that every format can write; None for another."""
    across, down = round(across, 2), round(down, 2)
    return (across, down) if 1 < across < 65_535 and 1 < down < 65_535 else None


def is_photo(path: Path) -> bool:
    """Whether a file's name is a photograph's; names of hidden files are not."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).name.startswith(".")


def shown(path: Path | str) -> str:
    """A path on one line, whatever its name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fsdecode(path))


def same_name(name: str) -> str:
    """What two file names have in common that differ only in case or in Unicode normalisation (NFC, NFD)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_neutral(rgb: np.ndarray) -> bool:
    """Whether red, green and blue are equal in every pixel of (H, W, 3)."""
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all())


def luma(rgb: np.ndarray) -> np.ndarray:
    """The grey value of each pixel: (H, W, 3) to (H, W), of the same type; equal channels keep their value."""
    result = np.empty(rgb.shape[:2], rgb.dtype)
    for top in range(0, len(rgb), 256):  # in strips, for products are of four bytes
        values = rgb[top : top + 256].astype(np.float32) @ LUMA
        result[top : top + 256] = np.rint(values) if rgb.dtype.kind == "u" else values
    return result


def rounded(samples: np.ndarray) -> np.ndarray:
    """uint16 to uint8, to the nearest."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
