"""JPEG files without their end: told from those that lack pixels, too."""

import io
import struct

from PIL import Image

_END, _SCAN, _ALONE = 0xD9, 0xDA, (0x01, *range(0xD0, 0xD9))  # markers; the last have no content
# Bits that no encoder writes behind a picture; see `without_end`.
_FILLER = b"\x55\xaa\x6d\xb6" * 64


def lacks_end(data: bytes) -> bool:
    """Whether no end marker follows the picture, as in a download that was interrupted and whose rest is zeros."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            # Within a picture 0xFF is always followed by 0 or by a marker.
            return data.find(bytes((0xFF, _END)), place) < 0
        if marker == 0xFF:
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return False


def without_end(data: bytes) -> Image.Image:
    """A JPEG file whose end marker is missing, if it has all its pixels.

    Decoders fill what is missing of a picture with grey and say nothing. So the file is read twice, with and without
    bits behind its last ones: where the picture is whole, they change nothing.

    Raises:
        OSError: pixels are missing, too.
    """
    whole = data.rstrip(b"\0").rstrip(b"\xff")
    found = []
    for ending in (b"", _FILLER):
        image = Image.open(io.BytesIO(whole + ending + b"\xff\xd9"), formats=("JPEG",))
        image.load()
        found.append(image)
    if found[0].tobytes() != found[1].tobytes():
        raise OSError("image file is truncated")
    return found[0]
