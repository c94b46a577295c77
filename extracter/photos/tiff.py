"""Read and write TIFF files, of the kinds that scanners, cameras and scientific software produce."""

import io
import struct
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from extracter.errors import UserError
from extracter.photos import exif
from extracter.photos.alpha import unmultiplied
from extracter.photos.colour import cmyk_to_srgb, pillow_to_srgb
from extracter.photos.photo import Metadata, Photo, check_size, plausible_dpi

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _SEPARATED: 4}
_ASSOCIATED, _STRAIGHT = 1, 2
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_PAGES = 64
_MOST_SAMPLES = 8  # per pixel; each further eight count as another pixel
_THUMBNAIL = 512  # pixels; an unmarked first page up to this size may be the thumbnail of a later page
_CLASSIC = 2**32 - 2**26  # bytes; tifffile writes larger files as BigTIFF, to which no EXIF is added
_EXIF, _GPS = 0x8769, 0x8825
# Entries of the first directory that describe the photograph; the others describe how its pixels are stored.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)


def decode(data: bytes) -> tuple[Photo, int]:
    """Decode a TIFF file; return the photograph, not yet upright, and its EXIF orientation.

    Raises:
        UserError: pixels without a defined white level.
        TooManyPixelsError: the image is unreasonably large.
        Exception: whatever tifffile and its codecs raise for damaged files.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _full_picture(file)
        check_size(page.imagewidth * max(1, page.samplesperpixel // _MOST_SAMPLES), page.imagelength)
        if page.is_tiled:
            check_size(page.tilewidth, page.tilelength)
        orientation = _value(page, 274, 1)
        metadata = Metadata(_exif(data), _bytes(page, 700), _dpi(page))
        icc = _bytes(page, 34675)
        if page.photometric == _YCBCR or page.photometric == 8 or page.compression == 6:
            return _by_pillow(data, page, icc, metadata), orientation
        samples, extra = _channels(page)
        colours, alpha = _separated_alpha(samples, page, extra)
        if page.photometric == _SEPARATED:
            colours, icc = cmyk_to_srgb(colours, icc)
        grey = colours.shape[2] == 1
        return Photo(np.repeat(colours, 3, 2) if grey else colours, grey, alpha, icc, metadata=metadata), orientation


def _full_picture(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The first page that is neither a thumbnail of another page nor a mask."""
    pages: list[Any] = []
    for number in range(min(len(file.pages), _MOST_PAGES)):
        page = file.pages[number]
        pages.append(page if isinstance(page, tifffile.TiffPage) else page.aspage())
    if pages[0].subifds:
        pages += [page for page in pages[0].pages if isinstance(page, tifffile.TiffPage)]
    whole = [page for page in pages if not page.subfiletype & (_REDUCED | _MASK)] or pages
    first = whole[0]
    for page in whole[1:]:
        larger = page.imagewidth >= 2 * first.imagewidth and page.imagelength >= 2 * first.imagelength
        proportions = page.imagewidth * first.imagelength / max(1, page.imagelength * first.imagewidth)
        if max(first.imagewidth, first.imagelength) <= _THUMBNAIL and larger and 0.95 < proportions < 1.05:
            return page
    return first


def _by_pillow(data: bytes, page: tifffile.TiffPage, icc: bytes | None, metadata: Metadata) -> Photo:
    """Decode YCbCr, Lab and old-style JPEG of 8 bits, which libtiff supports and tifffile does not."""
    if page.bitspersample != 8:
        raise UserError(f"{page.bitspersample}-bit {_name(page)} TIFF; save it as RGB")
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        image.load()
        converted, icc = pillow_to_srgb(image, icc)
    return Photo(np.asarray(converted), icc=icc, metadata=metadata)


def _channels(page: tifffile.TiffPage) -> tuple[np.ndarray, int]:
    """Samples (H, W, C) uint8 or uint16 with black as 0 and palettes resolved, and how many of the C are not colours.

    Raises:
        UserError: the kind of pixels is not supported.
    """
    count = _COLOURS.get(int(page.photometric))
    if count is None or page.imagedepth > 1:
        raise UserError(f"{_name(page)} TIFF{' of several slices' if page.imagedepth > 1 else ''}; save it as RGB")
    samples = page.asarray(maxworkers=1)
    if page.axes == "YX":
        samples = samples[..., None]
    elif page.axes == "SYX":
        samples = samples.transpose(1, 2, 0)
    elif page.axes != "YXS":
        raise UserError(f"TIFF with axes {page.axes}; save it as RGB")
    extra = samples.shape[2] - count
    if extra < 0:
        raise ValueError(f"{samples.shape[2]} samples of {_name(page)}")
    if page.photometric == _PALETTE:
        return _looked_up(page, samples), extra
    samples = _scaled(samples, page)
    if page.photometric == _WHITE_IS_ZERO:
        samples = samples.copy()
        samples[..., 0] = np.iinfo(samples.dtype).max - samples[..., 0]
    return np.ascontiguousarray(samples), extra


def _looked_up(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    """Resolve a palette to 8-bit colours; to one channel if all of them are grey."""
    table = np.asarray(page.colormap)
    # Some programs write 8-bit values where the format demands 16 bits.
    colours = (table if table.max() < 256 else table >> 8).astype(np.uint8).T[samples[..., 0]]
    return colours[..., :1] if (colours == colours[..., :1]).all() else colours


def _scaled(samples: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Scale samples to the full range of uint8 (up to 8 bits) or uint16 (up to 16 bits).

    Floating-point samples from 0 to 1 become uint16. Other kinds have no defined white level.

    Raises:
        UserError: another kind, or floating-point samples outside 0 to 1.
    """
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "b":
        return samples.astype(np.uint8) * 255
    if kind == "u" and bits <= 16:
        own = page.bitspersample if isinstance(page.bitspersample, int) else bits
        if own in (8, 16) and own == bits:
            return samples
        target, largest = (np.uint8, 255) if own <= 8 else (np.uint16, 65535)
        return np.rint(samples * (largest / (2**own - 1))).astype(target)
    if kind == "f":
        low, high = (float(value) for value in (samples.min(), samples.max()))
        if not (low >= -1e-3 and high <= 1.001):
            raise UserError(
                f"{bits}-bit floating-point pixels from {low:.4g} to {high:.4g}, which have no defined white level; "
                "save the image with values from 0 to 1 or as 16-bit integers"
            )
        return np.rint(samples.clip(0, 1).astype(np.float64) * 65535).astype(np.uint16)
    word = {"i": "signed integer", "u": "unsigned integer", "c": "complex"}.get(kind, str(samples.dtype))
    raise UserError(
        f"{bits}-bit {word} pixels, which have no defined white level; save the image with 8 or 16 bits, unsigned"
    )


def _separated_alpha(samples: np.ndarray, page: tifffile.TiffPage, extra: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Separate colours and alpha; other extra samples, such as infrared, are dropped."""
    if page.photometric == _PALETTE:
        return samples, None
    first = samples.shape[2] - extra
    kinds = [int(kind) for kind in page.extrasamples][:extra]
    found = next((place for place, kind in enumerate(kinds) if kind in (_ASSOCIATED, _STRAIGHT)), None)
    colours = np.ascontiguousarray(samples[..., :first])
    if found is None:
        return colours, None
    alpha = np.ascontiguousarray(samples[..., first + found])
    return (unmultiplied(colours, alpha) if kinds[found] == _ASSOCIATED else colours), alpha


def _name(page: tifffile.TiffPage) -> str:
    return getattr(page.photometric, "name", str(page.photometric)).replace("_", " ")


def _value(page: tifffile.TiffPage, tag: int, default: int) -> int:
    found = page.tags.get(tag)
    return found.value if found is not None and isinstance(found.value, int) else default


def _bytes(page: tifffile.TiffPage, tag: int) -> bytes | None:
    found = page.tags.get(tag)
    value = found.value if found is not None else None
    if isinstance(value, tuple) and value and all(isinstance(item, int) and 0 <= item < 256 for item in value):
        value = bytes(value)
    return value if isinstance(value, bytes) and value else None


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(_value(page, 296, 2))
    try:
        across, down = (page.tags[tag].value for tag in (282, 283))
        return plausible_dpi(across[0] / across[1] * unit, down[0] / down[1] * unit)
    except (AttributeError, TypeError, ZeroDivisionError, IndexError, KeyError, OverflowError):
        return None


def _exif(data: bytes) -> bytes | None:
    """The descriptive entries of a TIFF file as an EXIF block; None if there are none that can be read."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            found = image.getexif()
            kept = Image.Exif()
            for tag in _DESCRIPTIVE:
                if tag in found:
                    kept[tag] = found[tag]
            for tag in (_EXIF, _GPS):
                if inner := found.get_ifd(tag):
                    kept[tag] = dict(inner)
            return kept.tobytes()[6:] if len(kept) else None
    except Exception:  # any tag may have any type and offset; the pixels do not depend on it
        return None


def encode(samples: np.ndarray, photo: Photo) -> bytes:
    """Encode an image as a TIFF file with deflate compression.

    Args:
        samples: (H, W, channels) uint8 or uint16; 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        photo: holds the profile and the metadata to write.
    """
    channels = samples.shape[2]
    metadata = photo.metadata
    texts, directories = _exif_parts(metadata.exif)
    tags: list[tuple] = [(700, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else []
    tags += [(tag, 2, len(text), text, True) for tag, text in texts.items()]
    # Entries without a target yet. They go by name, since tifffile skips them by number.
    tags += [(tifffile.TIFF.TAGS[tag], 4, 1, 0, True) for tag in directories]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples if channels > 1 else samples[..., 0],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if photo.alpha is not None else None,
        iccprofile=photo.profile,
        compression="zlib",
        predictor=True,
        resolution=metadata.dpi,
        resolutionunit=2 if metadata.dpi else None,
        extratags=tags,
        software=False,
        metadata=None,
    )
    if not directories or buffer.getbuffer().nbytes > _CLASSIC:
        return buffer.getvalue()
    data = bytearray(buffer.getvalue())
    for tag, content in directories.items():
        _append_directory(data, tag, content)
    return bytes(data)


def _exif_parts(block: bytes | None) -> tuple[dict[int, bytes], dict[int, dict[int, Any]]]:
    """The texts in the first directory of an EXIF block, and those EXIF and GPS entries that Pillow can write."""
    texts: dict[int, bytes] = {}
    directories: dict[int, dict[int, Any]] = {}
    if block is None:
        return texts, directories
    try:
        found = Image.Exif()
        found.load(b"Exif\0\0" + block)
        for tag in _DESCRIPTIVE:
            if isinstance(value := found.get(tag), str):
                texts[tag] = value.encode() + b"\0"
        for tag in (_EXIF, _GPS):
            if inner := {key: value for key, value in found.get_ifd(tag).items() if _writable(tag, key, value)}:
                directories[tag] = inner
    except Exception:  # as in `_exif`
        pass
    return texts, directories


def _writable(group: int, tag: int, value: Any) -> bool:
    """Whether Pillow can write a tag that it read; not if its type differs from that in the standard."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(group=group)
        directory[tag] = value
        directory.tobytes(8)
    except Exception:  # struct.error, TypeError, AttributeError: it depends on the type
        return False
    return True


def _append_directory(data: bytearray, tag: int, content: dict[int, Any]) -> None:
    """Append a directory to a TIFF file, and let the entry `tag` of the first directory point to it."""
    order, entries, _ = exif.directory(data)
    data += bytes(len(data) % 2)
    header = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    directory = TiffImagePlugin.ImageFileDirectory_v2(ifh=header, group=tag)
    for key, value in content.items():
        directory[key] = value
    struct.pack_into(f"{order}I", data, entries[tag].place + 8, len(data))
    data += directory.tobytes(len(data))
