"""Read the images of data sets as 8-bit RGB, and write them."""

import io
from pathlib import Path

from PIL import Image

from extracter.errors import UserError
from extracter.files import why_unwritable
from extracter.photos.photo import SUFFIXES, rounded
from extracter.photos.photo import is_photo as is_image
from extracter.photos.read import decode_photo

__all__ = ["SUFFIXES", "decode", "encode_png", "is_image", "write_bytes"]


def decode(data: bytes, path: Path, remedy: str) -> Image.Image:
    """Decode the bytes of a file to an 8-bit RGB image, upright by its EXIF orientation.

    Colours stay in the colour space of the file, as in all published data sets; alpha is dropped.

    Args:
        data: the whole file.
        path: where the bytes come from, for the message.
        remedy: what the user can do about a bad file; it ends the message.

    Raises:
        UserError: the bytes are truncated, damaged, not an image, or unreasonably large.
    """
    photo = decode_photo(data, path, remedy)
    return Image.fromarray(rounded(photo.rgb) if photo.deep else photo.rgb)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it.

    Unlike `files.atomic_path`, this does not wait for the disk, which would take long for thousands of images. After a
    power failure a file may be empty, which its manifest reveals.

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
        raise UserError(f"{path}: {why_unwritable(error)}, then run the same command again") from None


def encode_png(image: Image.Image) -> bytes:
    """Encode as PNG, with fast rather than strong compression."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
