"""Reading photographs whole, as 8-bit RGB, and saying clearly what is wrong with one that cannot be read."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from extracter.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def is_image(path: Path) -> bool:
    """Whether the name is an image's; hidden files are none."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).name.startswith(".")


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode; of 16-bit grey the upper 8 bits, where Pillow's own conversion would clip."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    return image.convert("RGB")


def decode(data: bytes, path: Path, remedy: str) -> Image.Image:
    """The 8-bit RGB image that a file's bytes encode, upright as its EXIF orientation says.

    Args:
        data: the whole file.
        path: where the bytes come from, for the message; its suffix names the format.
        remedy: what a user can do about a bad file, the last clause of the message.

    Raises:
        UserError: the bytes are cut short, damaged, no image, or unreasonably large.
    """
    kind = Path(path).suffix.lstrip(".").upper() or "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a {kind} or any other image ({len(data):,} bytes); {remedy}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; {remedy}") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise UserError(f"{path}: truncated or damaged {kind} ({len(data):,} bytes: {error}); {remedy}") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it.

    Unlike `files.atomic_path` this does not wait for the disk, which thousands of images would have to wait for one by
    one: after a power cut a file may be empty, and is found out by its manifest.

    Raises:
        UserError: the disk is full, read-only, or not writable.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or check the permissions of the "
            "folder, then run the same command again"
        ) from None


def encode_png(image: Image.Image) -> bytes:
    """A lossless PNG, made fast rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
