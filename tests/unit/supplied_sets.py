"""Names and small images of sets that a user supplies."""

import io
import zipfile

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


def archive(names: list[str], first: int = 0) -> bytes:
    """A zip archive of about 2 MiB with small images, numbered from `first`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr("readme.txt", bytes(2 * 2**20))  # several of the pieces that gdown reads
        for number, name in enumerate(names, first):
            content.writestr(name, png(number, 16, 12))
    return buffer.getvalue()
