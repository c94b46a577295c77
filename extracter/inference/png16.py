"""PNG of 16 bits a channel in colour, which Pillow does not write."""

import struct
import zlib

import numpy as np

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_CHUNK_ROWS = 64


def encode_png16(samples: np.ndarray, icc: bytes | None) -> bytes:
    """The PNG file of an image.

    Args:
        samples: uint16, (H, W, channels); 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        icc: a colour profile to embed.
    """
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    if icc:
        parts.append(_chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(icc)))
    compressor = zlib.compressobj(4)
    packed = []
    above = np.zeros((1, width * channels * 2), np.uint8)
    for top in range(0, height, _CHUNK_ROWS):
        rows = samples[top : top + _CHUNK_ROWS].astype(">u2")
        pixels = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1)
        # Filter 2, the difference from the row above, byte by byte: photographs become a third smaller.
        differences = pixels - np.concatenate((above, pixels[:-1]))
        above = pixels[-1:]
        lines = np.concatenate((np.full((len(rows), 1), 2, np.uint8), differences), 1)
        packed.append(compressor.compress(lines.tobytes()))
    packed.append(compressor.flush())
    return b"".join([*parts, _chunk(b"IDAT", b"".join(packed)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
