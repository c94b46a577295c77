"""Pictures of the report: encoded for the page, within a number of bytes."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

QUALITY = 90  # of WebP with losses, where pictures are large
THUMBNAIL = 112  # longer side, in pixels


def encode(pixels: np.ndarray, *, lossless: bool) -> bytes:
    """Encode a picture as WebP.

    Args:
        pixels: uint8, (H, W, 3) or (H, W).
        lossless: keep every pixel as it is, for details that readers compare.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", lossless=lossless, quality=QUALITY, method=4)
    return buffer.getvalue()


def as_uri(data: bytes) -> str:
    """The address under which a page holds a WebP picture itself."""
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def thumbnail(pixels: np.ndarray) -> str:
    """A small picture as an address.

    Args:
        pixels: uint8, (H, W, 3).
    """
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return as_uri(encode(np.asarray(image), lossless=False))


def fit_into(
    budget: int, sides: Sequence[int], make: Callable[[int], Iterable[tuple[str, np.ndarray]]]
) -> dict[str, str]:
    """Encode pictures at the largest side at which all of them together fit.

    Args:
        budget: bytes of all pictures, as they stand in the page.
        sides: to try, falling; at the last one the pictures are taken whatever they need.
        make: gives the pictures, by key, for a side.

    Returns:
        Addresses by key.
    """
    found: dict[str, str] = {}
    size, tried = 0, 0
    for side in sides:
        # Bytes fall with the area: a side that cannot be small enough is passed over.
        if found and side != sides[-1] and size * (side / tried) ** 2 > 1.1 * budget:
            continue
        found = {key: as_uri(encode(pixels, lossless=False)) for key, pixels in make(side)}
        size, tried = sum(map(len, found.values())), side
        if size <= budget:
            break
    return found


def window(height: int, width: int, centre: tuple[float, float], side: int) -> tuple[slice, slice]:
    """Rows and columns of a square around a centre, moved into the image; the image itself where it is smaller."""
    spans = []
    for length, middle in ((height, centre[0]), (width, centre[1])):
        size = min(side, length)
        start = int(min(max(middle - size / 2, 0), length - size))
        start -= start % 4
        spans.append(slice(start, start + size))
    return spans[0], spans[1]
