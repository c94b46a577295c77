"""JPEG 2000 with more than 8 bits per sample, which Pillow reduces to 8 and thereby turns white into black."""

import struct

import imagecodecs
import numpy as np

from extracter.errors import UserError
from extracter.photos.photo import Photo, check_size

_START = b"\xff\x4f\xff\x51"  # the first two markers of a codestream
# From there to right and lower edge, left and upper edge, tiles, number of components, precision of the first one.
_HEADER = struct.Struct(">8x4I16xHB")


def _header(data: bytes) -> tuple[int, int, int]:
    """Width, height and bits per sample, by the header of the codestream; zeros without one."""
    place = data.find(_START)
    if place < 0 or place + _HEADER.size > len(data):
        return 0, 0, 0
    right, bottom, left, top, _, precision = _HEADER.unpack_from(data, place)
    return right - left, bottom - top, (precision & 0x7F) + 1


def bits(data: bytes) -> int:
    """Bits per sample, by the header of the codestream; 0 without one."""
    return _header(data)[2]


def decode(data: bytes, icc: bytes | None) -> Photo:
    """Decode a file of 9 to 16 bits per sample, grey or RGB, with or without alpha, to the full range of uint16.

    Raises:
        UserError: samples of another kind.
        TooManyPixelsError: the codestream is unreasonably large, whatever the file around it says.
        Exception: whatever OpenJPEG raises for damaged files.
    """
    width, height, own = _header(data)
    check_size(width, height)
    samples = imagecodecs.jpeg2k_decode(data)
    samples = samples[..., None] if samples.ndim == 2 else samples
    if samples.dtype != np.uint16 or samples.ndim != 3 or samples.shape[2] > 4:
        raise UserError(f"JPEG 2000 of {samples.shape[-1]} channels of {samples.dtype}; save it as RGB with 16 bits")
    if own < 16:
        samples = np.rint(samples * (65535 / (2**own - 1))).clip(0, 65535).astype(np.uint16)
    alpha = np.ascontiguousarray(samples[..., -1]) if samples.shape[2] in (2, 4) else None
    colours = np.ascontiguousarray(samples[..., : samples.shape[2] - (alpha is not None)])
    grey = colours.shape[2] == 1
    return Photo(np.repeat(colours, 3, 2) if grey else colours, grey, alpha, icc)
