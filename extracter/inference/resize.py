"""Resize 8-bit, 16-bit and floating-point images with Pillow's antialiased bicubic filter."""

import numpy as np
from PIL import Image

from extracter.data.degradation import SCALE


def enlarge(pixels: np.ndarray) -> np.ndarray:
    """Enlarge (H, W) or (H, W, C) four times; uint8 exactly as for training."""
    return resize(pixels, pixels.shape[1] * SCALE, pixels.shape[0] * SCALE)


def reduce(pixels: np.ndarray) -> np.ndarray:
    """Reduce to a quarter, at least to one pixel."""
    return resize(pixels, max(pixels.shape[1] // SCALE, 1), max(pixels.shape[0] // SCALE, 1))


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize (H, W) or (H, W, C), uint8, uint16 or float32 in [-1, 1]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    if pixels.ndim == 3:
        result = np.empty((height, width, pixels.shape[2]), pixels.dtype)
        for channel in range(pixels.shape[2]):
            result[..., channel] = resize(pixels[..., channel], width, height)
        return result
    plane = Image.fromarray(pixels.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    # Bicubic interpolation overshoots at edges; Pillow clips 8-bit images as well.
    values = np.asarray(plane).clip(*((0, 65535) if pixels.dtype == np.uint16 else (-1, 1)))
    return (np.rint(values) if pixels.dtype == np.uint16 else values).astype(pixels.dtype)


def whole_cells(pixels: np.ndarray) -> np.ndarray:
    """Crop a reference to whole cells of 4 x 4 pixels, as in training; pad it to at least one cell."""
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, max(0, SCALE - height)), (0, max(0, SCALE - width)), (0, 0)), mode="edge")
    return pixels[: pixels.shape[0] // SCALE * SCALE, : pixels.shape[1] // SCALE * SCALE]


def to_cells(pixels: np.ndarray) -> np.ndarray:
    """Repeat the last row and column until both sides are multiples of 4."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % SCALE), (0, -width % SCALE), (0, 0)), mode="edge")
