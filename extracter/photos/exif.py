"""Edit EXIF and XMP blocks in place; everything else in them stays byte for byte the same.

Cameras and programs write EXIF that strict parsers reject. The few entries needed here can be read without parsing the
whole block, and editing them in place preserves maker notes, whose offsets would break if the block was rewritten.
"""

import re
import struct
from typing import NamedTuple

from extracter.photos.photo import plausible_dpi

ORIENTATION, WIDTH, HEIGHT = 0x0112, 0x0100, 0x0101
_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128
_EXIF_IFD, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0x8769, 0xA002, 0xA003
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}
_SHORT, _LONG = 3, 4
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[2-8](\s*["'<])""")


class Entry(NamedTuple):
    """One entry of a directory: its offset, type and count."""

    place: int
    kind: int
    number: int


def without_header(block: bytes | None) -> bytes | None:
    """An EXIF block without the `Exif` header that JPEG puts before it; None if it is empty."""
    return (block[6:] if block.startswith(b"Exif\0\0") else block) if block else None


def orientation(block: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 if the entry is missing, unreadable or out of range.

    Raises:
        ValueError: the block has no readable directory.
    """
    order, entries, _ = directory(block)
    entry = entries.get(ORIENTATION)
    value = _number(block, order, entry) if entry else None
    return value if value is not None and 1 <= value <= 8 else 1


def resolution(block: bytes) -> tuple[float, float] | None:
    """Pixels per inch, horizontally and vertically; None if the block does not state them.

    Raises:
        ValueError: the block has no readable directory.
    """
    order, entries, _ = directory(block)
    unit = _number(block, order, entries[_UNIT]) if _UNIT in entries else 2
    across, down = (_number(block, order, entries[tag]) if tag in entries else None for tag in (_ACROSS, _DOWN))
    if unit not in (2, 3) or across is None or down is None:
        return None
    inches = 2.54 if unit == 3 else 1.0
    return plausible_dpi(across * inches, down * inches)


def of_resolution(dpi: tuple[float, float]) -> bytes:
    """A block that holds only a resolution in pixels per inch."""
    rows = struct.pack("<HHII", _ACROSS, 5, 1, 50) + struct.pack("<HHII", _DOWN, 5, 1, 58)
    rows += struct.pack("<HHIHH", _UNIT, _SHORT, 1, 2, 0)
    values = b"".join(struct.pack("<II", round(100 * value), 100) for value in dpi)
    return struct.pack("<2sHIH", b"II", 42, 8, 3) + rows + bytes(4) + values


def upright(block: bytes) -> bytes:
    """The block with orientation 1 and without its thumbnail, which would still be rotated.

    Raises:
        ValueError: the block has no readable directory.
    """
    order, entries, end = directory(block)
    changed = bytearray(block)
    if ORIENTATION in entries:
        _set(changed, order, entries[ORIENTATION], 1, _SHORT)
    if end + 4 <= len(changed):
        changed[end : end + 4] = bytes(4)
    return bytes(changed)


def with_size(block: bytes, width: int, height: int) -> bytes:
    """The block with the size of the result wherever it states the size of the image."""
    order, entries, _ = directory(block)
    changed = bytearray(block)
    pairs = [(entries, WIDTH, width), (entries, HEIGHT, height)]
    if _EXIF_IFD in entries and (start := _number(block, order, entries[_EXIF_IFD])):
        try:
            inner = directory(block, start)[1]
        except ValueError:
            inner = {}
        pairs += [(inner, _PIXEL_WIDTH, width), (inner, _PIXEL_HEIGHT, height)]
    for found, tag, value in pairs:
        if tag in found:
            _set(changed, order, found[tag], value, _LONG)
    return bytes(changed)


def upright_xmp(packet: bytes) -> bytes:
    """An XMP packet with orientation 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1\g<2>", packet)


def directory(block: bytes | bytearray, start: int | None = None) -> tuple[str, dict[int, Entry], int]:
    """Read a directory: its byte order, its entries by tag, and the offset of its end.

    Args:
        block: an EXIF block or a TIFF file.
        start: offset of the directory; None for the first one.

    Raises:
        ValueError: the directory does not lie inside the block.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None or len(block) < 8:
        raise ValueError("no EXIF header")
    if start is None:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        raise ValueError("the EXIF directory lies outside the block")
    (count,) = struct.unpack_from(f"{order}H", block, start)
    end = start + 2 + 12 * count
    if end > len(block):
        raise ValueError("the EXIF directory is truncated")
    entries: dict[int, Entry] = {}
    for place in range(start + 2, end, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", block, place)
        entries.setdefault(tag, Entry(place, kind, number))
    return order, entries, end


def _number(block: bytes, order: str, entry: Entry) -> int | None:
    """The first value of an entry as an integer, whatever its type; None if it is not a number."""
    place = entry.place + 8
    if _SIZES.get(entry.kind, 1) * max(entry.number, 1) > 4:
        (place,) = struct.unpack_from(f"{order}I", block, place)
    try:
        if entry.kind in _INTEGERS:
            return struct.unpack_from(order + _INTEGERS[entry.kind], block, place)[0]
        if entry.kind in (5, 10):
            above, below = struct.unpack_from(order + ("2I" if entry.kind == 5 else "2i"), block, place)
            return round(above / below)
        if entry.kind in (11, 12):
            return round(struct.unpack_from(order + ("f" if entry.kind == 11 else "d"), block, place)[0])
        return int(block[place : place + min(entry.number, 8)].rstrip(b"\0 ").decode("ascii"))
    except (struct.error, ValueError, ZeroDivisionError, OverflowError):
        return None


def _set(block: bytearray, order: str, entry: Entry, value: int, kind: int) -> None:
    """Set an entry to one integer value."""
    packed = struct.pack(f"{order}HHI", *struct.unpack_from(f"{order}H", block, entry.place), kind, 1)
    number = struct.pack(f"{order}HH", value, 0) if kind == _SHORT else struct.pack(f"{order}I", value)
    block[entry.place : entry.place + 12] = packed + number
