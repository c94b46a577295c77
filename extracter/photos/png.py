"""Read and write PNG files of 8 and 16 bits, tolerating faults in chunks that hold no pixels.

Pillow rejects large texts and profiles and reduces 16-bit colour to 8 bits. So the chunks are parsed here, and libpng
(through imagecodecs) gets only those that hold pixels.
"""

import binascii
import re
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np

from extracter.errors import UserError
from extracter.photos import exif
from extracter.photos.photo import Metadata, Photo, is_neutral, plausible_dpi

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
LONGEST = 1_000_000  # limit of libpng for a side, in pixels; that of the format is 2**31 - 1
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_PALETTE = 3  # colour type in the header
_LARGEST = 2**26  # bytes of a decompressed profile or text
_XMP = b"XML:com.adobe.xmp"
_INCH = 0.0254  # metres
_LEVEL = 4  # of zlib; higher levels hardly make photographs smaller

Chunk = tuple[bytes, bytes]


def size(data: bytes) -> tuple[int, int]:
    """Width and height from the header."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        raise ValueError("no header")
    return struct.unpack(">II", data[16:24])


def decode(data: bytes) -> Photo:
    """Decode a PNG file, without applying its EXIF orientation.

    Raises:
        UserError: a side is longer than libpng supports.
        Exception: whatever libpng and struct raise for damaged files.
    """
    if (longest := max(size(data))) > LONGEST:
        raise UserError(f"PNG with a side of {longest:,} pixels, more than {LONGEST:,}; cut it into parts first")
    notes: list[str] = []
    pixels: list[Chunk] = []
    other: dict[bytes, Chunk] = {}
    for kind, content in _chunks(data, notes):
        if kind in _PIXEL_CHUNKS:
            pixels.append((kind, content))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            other.setdefault(content.split(b"\0", 1)[0], (kind, content))
        else:
            other.setdefault(kind, (kind, content))
    samples = imagecodecs.png_decode(b"".join((SIGNATURE, *map(_packed, pixels), _packed((b"IEND", b"")))))
    samples = samples[..., None] if samples.ndim == 2 else samples
    alpha = samples[..., -1] if samples.shape[2] in (2, 4) else None
    colours = samples[..., : samples.shape[2] - (alpha is not None)]
    icc = _profile(other.get(b"iCCP", (b"", b""))[1], notes)
    if data[25] == _PALETTE and (icc is None or icc[16:20] == b"GRAY") and is_neutral(colours):
        colours = colours[..., :1]
    grey = colours.shape[2] == 1
    return Photo(
        np.repeat(colours, 3, 2) if grey else colours,
        grey,
        alpha,
        icc,
        tuple(other[kind] for kind in COLOUR_CHUNKS if kind in other),
        Metadata(_exif(other, notes), _xmp(other, notes), _dpi(other)),
        tuple(notes),
    )


def encode(samples: np.ndarray, photo: Photo) -> bytes:
    """Encode an image as a PNG file.

    Args:
        samples: (H, W, channels) uint8 or uint16; 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        photo: holds the profile, colour chunks and metadata to write.
    """
    pixels = samples[..., 0] if samples.shape[2] == 1 else samples
    encoded = imagecodecs.png_encode(np.ascontiguousarray(pixels), level=_LEVEL)
    chunks: list[Chunk] = []
    if photo.profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.profile)))
    chunks += [chunk for chunk in photo.chunks if not (photo.profile and chunk[0] == b"sRGB")]
    metadata = photo.metadata
    if metadata.dpi:
        per_metre = [min(max(round(value / _INCH), 1), 2**31 - 1) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP + b"\0\0\0\0\0" + metadata.xmp))
    header = len(SIGNATURE) + 25  # IHDR is always first and always as long
    return b"".join((encoded[:header], *(_packed(chunk) for chunk in chunks), encoded[header:]))


def _chunks(data: bytes, notes: list[str]) -> Iterator[Chunk]:
    """The chunks of a file; ancillary ones with a wrong checksum are skipped and noted.

    Raises:
        ValueError: a chunk that holds pixels is truncated or has a wrong checksum.
    """
    place = len(SIGNATURE)
    seen = False
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        ancillary = bool(kind[0] & 0x20)
        if len(content) < length or len(checksum) < 4:
            if not ancillary or not seen:
                raise ValueError(f"chunk {kind.decode('latin-1')} is truncated")
            break
        if kind == b"IEND":
            return
        if struct.unpack(">I", checksum)[0] != binascii.crc32(content, binascii.crc32(kind)):
            # tRNS counts as ancillary, but transparency is part of the image.
            if not ancillary or kind == b"tRNS":
                raise ValueError(f"chunk {kind.decode('latin-1')} has a wrong checksum")
            notes.append(f"left out chunk {kind.decode('latin-1')}, whose checksum is wrong")
        else:
            yield kind, content
        seen = seen or kind == b"IDAT"
        place += 12 + length
    notes.append("its end is missing")


def _packed(chunk: Chunk) -> bytes:
    kind, content = chunk
    checksum = binascii.crc32(content, binascii.crc32(kind))
    return b"".join((struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)))


def _inflated(data: bytes) -> bytes:
    """Decompress data, up to a limit that no real profile or text reaches."""
    inflater = zlib.decompressobj()
    content = inflater.decompress(data, _LARGEST)
    if not inflater.eof:
        raise ValueError("too large or truncated")
    return content


def _profile(content: bytes, notes: list[str]) -> bytes | None:
    if not content:
        return None
    try:
        return _inflated(content.split(b"\0", 1)[1][1:])
    except (IndexError, ValueError, zlib.error):
        notes.append("left out a damaged colour profile")
        return None


def _text(chunk: Chunk) -> bytes:
    """The text of a tEXt, zTXt or iTXt chunk."""
    kind, content = chunk
    rest = content.split(b"\0", 1)[1]
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:])
    text = rest[2:].split(b"\0", 2)[2]  # after language and translated keyword
    return _inflated(text) if rest[0] else text


def _raw_profile(chunk: Chunk) -> bytes:
    """A profile that ImageMagick stored as text: a name, a length, and hexadecimal digits."""
    found = re.match(rb"\s*\w+\s+(\d+)\s+([0-9a-fA-F\s]*)$", _text(chunk))
    if not found:
        raise ValueError("no raw profile")
    return bytes.fromhex(found[2].decode("ascii"))[: int(found[1])]


def _exif(other: dict[bytes, Chunk], notes: list[str]) -> bytes | None:
    if b"eXIf" in other:
        return exif.without_header(other[b"eXIf"][1])
    for name in (b"Raw profile type exif", b"Raw profile type APP1"):
        if name in other:
            try:
                return exif.without_header(_raw_profile(other[name]))
            except (IndexError, ValueError, zlib.error):
                notes.append("left out damaged EXIF data")
    return None


def _xmp(other: dict[bytes, Chunk], notes: list[str]) -> bytes | None:
    try:
        if _XMP in other:
            return _text(other[_XMP])
        if b"Raw profile type xmp" in other:
            return _raw_profile(other[b"Raw profile type xmp"])
    except (IndexError, ValueError, zlib.error):
        notes.append("left out damaged XMP data")
    return None


def _dpi(other: dict[bytes, Chunk]) -> tuple[float, float] | None:
    content = other.get(b"pHYs", (b"", b""))[1]
    if len(content) != 9 or content[8] != 1:
        return None
    across, down = struct.unpack(">II", content[:8])
    return plausible_dpi(across * _INCH, down * _INCH)
