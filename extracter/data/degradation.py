"""The degradation of the paper (section 4): antialiased bicubic by a factor of four, with Pillow, on 8-bit RGB."""

from PIL import Image

from extracter.errors import UserError

SCALE = 4


def _check_mode(image: Image.Image) -> None:
    if image.mode != "RGB":
        raise ValueError(f"an RGB image is wanted, this one is {image.mode}")


def downscale(image: Image.Image) -> Image.Image:
    """Reduce an image to a quarter of its width and height, rounded down, at least one pixel.

    Args:
        image: 8-bit RGB; with sides that are multiples of 4, `upscale` of the result has the size of `image`.

    Raises:
        ValueError: the image is not RGB.
    """
    _check_mode(image)
    return image.resize((max(image.width // SCALE, 1), max(image.height // SCALE, 1)), Image.Resampling.BICUBIC)


def upscale(image: Image.Image) -> Image.Image:
    """Enlarge an image to four times its width and height.

    Args:
        image: 8-bit RGB.

    Raises:
        ValueError: the image is not RGB.
    """
    _check_mode(image)
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.BICUBIC)


def crop_to_scale(image: Image.Image) -> Image.Image:
    """Crop an image at the right and lower edges so that both sides are multiples of 4.

    Raises:
        UserError: a side is shorter than 4 pixels.
    """
    width, height = (side - side % SCALE for side in image.size)
    if not width or not height:
        raise UserError(f"an image of {image.width}x{image.height} pixels is too small; the minimum is 4x4")
    return image.crop((0, 0, width, height))
