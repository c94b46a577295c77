"""Names and small images of sets that a user supplies."""

import io

import numpy as np
from PIL import Image

CUFED5 = [f"{n:03}_{rank}.png" for n in range(126) for rank in range(6)]


def png(number: int, width: int, height: int) -> bytes:
    """A small image, different for each number."""
    pixels = np.full((height, width, 3), (number * 7919) % 256, np.uint8)
    pixels[: height // 2, :, 1] = (number // 256) % 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
