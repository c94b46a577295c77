"""Read photographs. Whatever a decoder does with damaged bytes, the outcome is a photograph or a `UserError`."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PpmImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from extracter.errors import UserError
from extracter.files import open_regular
from extracter.photos import exif, jpeg, jpeg2000, png, tiff
from extracter.photos.colour import cmyk_to_srgb, pillow_to_srgb
from extracter.photos.photo import (
    Metadata,
    Photo,
    TooManyPixelsError,
    check_size,
    is_neutral,
    most_pixels,
    plausible_dpi,
    shown,
)

# Pillow gets a list of formats: left to choose, it would start Ghostscript for any PostScript file. It knows a format
# by name only once the plugin is imported, as all of these are. MPO is opened as JPEG.
_FORMATS = ("JPEG", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000", "PPM")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
REMEDY = "replace the file or leave it out"
# Array operations that bring each EXIF orientation upright: quarter turns to the left, then a mirror image or not.
_UPRIGHT = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
# Errors whose messages describe the file; those of other types describe variables of the decoder.
_TELLING = (OSError, SyntaxError, ValueError, EOFError, RuntimeError)


def read_photo(path: Path, remedy: str = REMEDY) -> Photo:
    """Read a photograph from a file; see `decode_photo`.

    Raises:
        UserError: the file cannot be read, is truncated, damaged, not a photograph, or unreasonably large.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: no such file; {'check its path' if remedy == REMEDY else remedy}") from None
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read ({error.strerror or error}); {remedy}") from None
    return decode_photo(data, path, remedy)


def decode_photo(data: bytes, path: Path | str, remedy: str = REMEDY) -> Photo:
    """Decode the bytes of a file to an upright photograph. The format is detected from the content, not the name.

    Supported are PNG, JPEG, MPO, TIFF, WebP, BMP, GIF, AVIF, JPEG 2000, PPM and, with pillow-heif, HEIC. Samples of
    more than 8 bits become 16 bits in PNG, TIFF, JPEG 2000 and grey PPM, and 8 bits in the other formats. Palettes are
    resolved, grey ones to one channel; CMYK is converted to sRGB by its own profile. Only the first page or frame is
    read.

    Args:
        data: the whole file.
        path: where the bytes come from, for messages.
        remedy: what the user can do about a bad file; it ends the message.

    Raises:
        UserError: the bytes are truncated, damaged, not a photograph, or unreasonably large.
    """
    name = shown(path)
    if not data:
        raise UserError(f"{name}: empty file (0 bytes); {remedy}")
    try:
        return _decode(data)
    except (TooManyPixelsError, Image.DecompressionBombError):
        what = "cut it into parts first" if remedy == REMEDY else remedy
        raise UserError(f"{name}: more than {most_pixels():,} pixels; {what}") from None
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image ({len(data):,} bytes); {remedy}") from None
    except Exception as error:
        # Decoders raise nearly anything for damaged bytes: struct.error, TypeError, ZeroDivisionError, MemoryError.
        reason = " ".join(str(error).split())[:200] if isinstance(error, _TELLING) else "no decoder can read it"
        raise UserError(f"{name}: truncated or damaged image ({len(data):,} bytes: {reason}); {remedy}") from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height from the header of a photograph, before rotation; None if they cannot be read."""
    try:
        with open_regular(path) as file:
            start = file.read(32)
            file.seek(0)
            if start.startswith(png.SIGNATURE):
                return png.size(start)
            formats = ("TIFF",) if start[:4] in _TIFF else _FORMATS
            with Image.open(file, formats=formats) as image:
                return image.size
    except Exception:  # the file is read completely later, which reports the error
        return None


def _decode(data: bytes) -> Photo:
    if data.startswith(png.SIGNATURE):
        check_size(*png.size(data))
        return _turned(png.decode(data))
    if data[:4] in _TIFF:
        photo, orientation = tiff.decode(data)
        return _turned(photo, orientation)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        if data[4:8] != b"ftyp" or data[8:12] not in _HEIF:
            raise
        image = _open_heif(data)
    with image:
        check_size(*image.size)
        if image.format == "JPEG2000" and jpeg2000.bits(data) > 8:
            return _described(jpeg2000.decode(data, _profile(image)), image)
        if image.format in ("JPEG", "MPO") and jpeg.lacks_end(data):
            photo = _of_loaded(jpeg.without_end(data))
            return replace(photo, notes=("its end marker is missing", *photo.notes))
        image.load()
        return _of_loaded(image)


def from_pillow(image: Image.Image) -> Photo:
    """Convert a Pillow image of any mode to an upright photograph.

    Raises:
        UserError: pixels without a defined white level.
    """
    image.load()
    return _of_loaded(image)


def _of_loaded(image: Image.Image) -> Photo:
    return _described(_pixels(image, _profile(image)), image)


def _described(photo: Photo, image: Image.Image) -> Photo:
    """Add the metadata that Pillow read to the pixels, and turn both upright."""
    info = image.info
    block = info.get("exif")
    block = exif.without_header(block if isinstance(block, bytes) else None)
    turn = 1
    if block is None and image.getexif is not None:
        try:
            turn = image.getexif().get(exif.ORIENTATION, 1)
        except Exception:  # the pixels are usable without EXIF
            turn = 1
    xmp = info.get("xmp")
    metadata = Metadata(
        block, xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else None, _dpi(info)
    )
    return _turned(replace(photo, metadata=metadata), turn)


def _profile(image: Image.Image) -> bytes | None:
    icc = image.info.get("icc_profile")
    return icc if isinstance(icc, bytes) and icc else None


def _pixels(image: Image.Image, icc: bytes | None) -> Photo:
    """The pixels of a Pillow image, not rotated."""
    # Pillow scales PPM of more than 8 bits to the full range of 16 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        samples = np.asarray(image).astype(np.uint16)
        return Photo(np.repeat(samples[..., None], 3, 2), True, None, icc)
    if image.mode in ("I", "F"):
        kind = "32-bit integer" if image.mode == "I" else "32-bit floating-point"
        raise UserError(f"{kind} pixels, which have no defined white level; save the image with 8 or 16 bits")
    if image.mode == "CMYK":
        rgb, icc = cmyk_to_srgb(np.asarray(image), icc)
        return Photo(rgb, icc=icc)
    if image.mode in ("LAB", "YCbCr", "HSV"):
        image, icc = pillow_to_srgb(image, icc)
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    palette = image.mode in ("P", "PA")
    grey = image.mode in ("1", "L", "LA", "La")
    if grey:
        samples = np.asarray(image.convert("LA") if transparent else image.convert("L"))
        samples = samples[..., None] if samples.ndim == 2 else samples
        return Photo(np.repeat(samples[..., :1], 3, 2), True, samples[..., 1] if transparent else None, icc)
    samples = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    rgb = np.ascontiguousarray(samples[..., :3])
    has_profile = icc is not None and icc[16:20] == b"RGB "
    return Photo(rgb, palette and not has_profile and is_neutral(rgb), samples[..., 3] if transparent else None, icc)


def _turned(photo: Photo, orientation: int = 1) -> Photo:
    """Turn a photograph upright by the orientation in its EXIF block, or else by the given one; adjust its metadata."""
    metadata, notes = photo.metadata, photo.notes
    if metadata.exif is not None:
        try:
            found = exif.orientation(metadata.exif)
            orientation = found if found != 1 else orientation
            dpi = metadata.dpi or exif.resolution(metadata.exif)
            metadata = replace(metadata, exif=exif.upright(metadata.exif), dpi=dpi)
        except ValueError as error:
            metadata, notes = replace(metadata, exif=None), (*notes, f"left out damaged EXIF data ({error})")
    if metadata.xmp is not None:
        metadata = replace(metadata, xmp=exif.upright_xmp(metadata.xmp))
    turns, mirrored = _UPRIGHT.get(orientation, (0, False)) if isinstance(orientation, int) else (0, False)
    if turns % 2 and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])

    def turn(pixels: np.ndarray) -> np.ndarray:
        if (turns, mirrored) == (0, False):
            return pixels
        pixels = np.rot90(pixels, turns)
        # A copy, since NumPy regards a single column with any stride as contiguous, but encoders do not.
        return (pixels[:, ::-1] if mirrored else pixels).copy()

    return replace(
        photo,
        rgb=turn(photo.rgb),
        alpha=None if photo.alpha is None else turn(photo.alpha),
        metadata=metadata,
        notes=notes,
    )


def _open_heif(data: bytes) -> Image.Image:
    """Open the main image of a HEIC file.

    Raises:
        UserError: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise UserError("HEIC needs pillow-heif; install it with `pip install 'extracter[heif]'`") from None
    found = pillow_heif.open_heif(io.BytesIO(data))
    check_size(*found.size)
    image = found.to_pillow()
    # The decoder has rotated the image already.
    if isinstance(block := image.info.get("exif"), bytes):
        try:
            image.info["exif"] = exif.upright(exif.without_header(block) or b"")
        except ValueError:
            del image.info["exif"]
    return image


def _dpi(info: dict) -> tuple[float, float] | None:
    """The resolution in the file, if any; for JPEG files without one Pillow reports 72."""
    value = info.get("dpi")
    if not isinstance(value, tuple) or len(value) != 2 or (value == (72, 72) and info.get("jfif_unit") == 0):
        return None
    try:
        return plausible_dpi(float(value[0]), float(value[1]))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
