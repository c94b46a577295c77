"""The one degradation of the project: Pillow's bicubic, antialiased, by four, on 8-bit RGB (section 4 of the paper)."""

from PIL import Image

from extracter.errors import UserError

SCALE = 4


def _check_mode(image: Image.Image) -> None:
    if image.mode != "RGB":
        raise ValueError(f"an RGB image is wanted, this one is {image.mode}")


def downscale(image: Image.Image) -> Image.Image:
    """An image at a quarter of its width and height, rounded down and at least one pixel.

    Args:
        image: 8-bit RGB; with sides that are multiples of 4, `upscale` of the result has the size of `image`.

    Raises:
        ValueError: the image is not RGB.
    """
    _check_mode(image)
    return image.resize((max(image.width // SCALE, 1), max(image.height // SCALE, 1)), Image.Resampling.BICUBIC)


def upscale(image: Image.Image) -> Image.Image:
    """An image at four times its width and height.

    Args:
        image: 8-bit RGB.

    Raises:
        ValueError: the image is not RGB.
    """
    _check_mode(image)
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.BICUBIC)


def crop_to_scale(image: Image.Image) -> Image.Image:
    """An image without the last rows and columns that no whole LR pixel covers: both sides are multiples of 4.

    Raises:
        UserError: a side is shorter than 4 pixels.
    """
    width, height = (side - side % SCALE for side in image.size)
    if not width or not height:
        raise UserError(f"an image of {image.width}x{image.height} pixels is too small; 4x4 is the least")
    return image.crop((0, 0, width, height))
