"""JPEG files without an end marker, as opposed to those that lack pixels as well."""

import io
import struct

from PIL import Image

_END, _SCAN, _ALONE = 0xD9, 0xDA, (0x01, *range(0xD0, 0xD9))  # markers; the last ones have no content
# Bits that no encoder writes after the image data; see `without_end`.
_FILLER = b"\x55\xaa\x6d\xb6" * 64


def lacks_end(data: bytes) -> bool:
    """Whether the image data has no end marker, as in an interrupted download that was padded with zeros."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            # Within image data 0xFF is always followed by 0 or by a marker.
            return data.find(bytes((0xFF, _END)), place) < 0
        if marker == 0xFF:
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    return False


def without_end(data: bytes) -> Image.Image:
    """Decode a JPEG file whose end marker is missing, provided that it has all its pixels.

    Decoders silently fill missing pixels with grey. So the file is decoded twice, with and without extra bits after its
    last ones: if the image is complete, they change nothing.

    Raises:
        OSError: pixels are missing as well.
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
