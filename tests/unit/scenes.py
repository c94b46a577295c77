"""Pictures in which points can be matched, and the same from another side."""

import cv2
import numpy as np
from PIL import Image, ImageDraw


def scene(seed: int, width: int = 320, height: int = 256) -> Image.Image:
    """Rectangles and discs of many sizes and colours: corners everywhere, no two alike."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), (128, 128, 128))
    draw = ImageDraw.Draw(image)
    for number in range(220):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        a, b = rng.uniform(4, 30, 2)
        shape = draw.ellipse if number % 3 == 0 else draw.rectangle
        shape((x - a, y - b, x + a, y + b), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def seen_from(image: Image.Image, scale: float = 1.1, degrees: float = 8.0) -> Image.Image:
    """The image `scale` times as large and turned about its middle, in other light."""
    width, height = image.size
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    turned = cv2.warpAffine(
        np.asarray(image), turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return Image.fromarray((255 * (turned / 255.0) ** 1.2).astype(np.uint8))
