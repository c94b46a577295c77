"""A user's photographs: read whole with what has to survive the super-resolution, and written whole or not at all."""

import io
import os
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from extracter.data.images import SUFFIXES
from extracter.errors import UserError
from extracter.files import atomic_path
from extracter.inference.png16 import encode_png16

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# Without the time at which it was made, in the header's bytes 24 to 35: the same image gives the same file.
SRGB = _SRGB.tobytes()[:24] + bytes(12) + _SRGB.tobytes()[36:]
# Array operations that bring each EXIF orientation upright: quarter turns to the left, then a mirror image or not.
_UPRIGHT = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
# What Pillow, torchvision and tifffile raise for damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError, tifffile.TiffFileError, zlib.error)
_READABLE = (1, 8, 32946, 32773)  # TIFF compressions that need no further library: none, deflate, PackBits
_REMEDY = "replace the file or leave it out"


class _Unsupported(UserError):
    """A whole file of a kind that is not read; says what to do."""


@dataclass(frozen=True)
class Photo:
    """One photograph, upright.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16; the channels of a grey one are equal.
        grey: it has one channel and is written as one.
        alpha: (H, W) of the same type, or None.
        icc: its colour profile, or None.
    """

    rgb: np.ndarray
    grey: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None

    @property
    def deep(self) -> bool:
        """16 bits a channel."""
        return self.rgb.dtype == np.uint16

    @property
    def profile(self) -> bytes | None:
        """The colour profile, if it is one for as many channels as the photograph has."""
        wanted = b"GRAY" if self.grey else b"RGB "
        return self.icc if self.icc and self.icc[16:20] == wanted else None


def shown(path: Path) -> str:
    """A path on one line, whatever its name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fsdecode(path))


def read_photo(path: Path) -> Photo:
    """Read PNG, JPEG, TIFF, WebP and BMP of any mode.

    Sixteen bits are kept in grey and RGB, PNG and TIFF. A palette becomes RGB, or RGB and alpha; CMYK becomes sRGB by
    its own profile. Of several pages or frames the first counts.

    Raises:
        UserError: the file cannot be read, is cut short, damaged, no image, or unreasonably large.
    """
    name = shown(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error}); {_REMEDY}") from None
    if not data:
        raise UserError(f"{name}: empty file (0 bytes); {_REMEDY}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Other warnings of Pillow are about metadata.
            warnings.filterwarnings("ignore", category=UserWarning)
            return _decode(data)
    except _Unsupported as error:
        raise UserError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image ({len(data):,} bytes); {_REMEDY}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; cut it into parts first") from None
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: truncated or damaged image ({len(data):,} bytes: {reason}); {_REMEDY}") from None


def _decode(data: bytes) -> Photo:
    image = Image.open(io.BytesIO(data))
    if 0 in image.size:
        raise ValueError(f"{image.width} x {image.height} pixels")
    samples = _deep_samples(image, data)
    if samples is not None:
        samples = _upright(samples, image.getexif().get(_ORIENTATION, 1))
        alpha = samples[..., -1] if samples.shape[2] in (2, 4) else None
        colours = samples[..., : samples.shape[2] - (alpha is not None)]
        grey = colours.shape[2] == 1
        return Photo(np.repeat(colours, 3, 2) if grey else colours, grey, alpha, image.info.get("icc_profile"))
    image.load()
    return from_pillow(image)


def from_pillow(image: Image.Image) -> Photo:
    """A Pillow image of any mode, brought upright.

    Raises:
        UserError: 32-bit floating-point pixels, whose range is not known.
    """
    icc = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        samples = np.clip(np.asarray(image).astype(np.int64), 0, 65535).astype(np.uint16)
        return Photo(np.repeat(samples[..., None], 3, 2), True, None, icc)
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        image, icc = _to_srgb(image, icc)
    if image.mode == "F":
        raise _Unsupported("32-bit floating-point pixels, whose range is unknown; save it with 16 bits")
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA", "La") and not (image.mode == "L" and transparent)
    image = image.convert("RGBA" if transparent else "RGB")
    pixels = np.asarray(image)
    return Photo(pixels[..., :3], grey, pixels[..., 3] if transparent else None, icc)


def _deep_samples(image: Image.Image, data: bytes) -> np.ndarray | None:
    """uint16 samples (H, W, channels) of an image of 16 bits a channel that Pillow would cut down to 8; else None."""
    if image.format == "PNG" and data[24] == 16 and not image.mode.startswith("I"):  # the bit depth in the header
        # Imported where it is used: torchvision takes two seconds to load, and only such files need it.
        import torch
        from torchvision.io import ImageReadMode, decode_png

        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return decode_png(encoded, ImageReadMode.UNCHANGED).numpy().transpose(1, 2, 0)
    if image.format == "TIFF" and max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,))) == 16 and image.mode in ("RGB", "RGBA"):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            if page.compression not in _READABLE:
                raise _Unsupported(
                    f"16-bit TIFF compressed by {page.compression.name}; save it uncompressed or with deflate"
                )
            return page.asarray() if page.axes == "YXS" else page.asarray().transpose(1, 2, 0)
    return None


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    turns, mirrored = _UPRIGHT.get(orientation, (0, False))
    samples = np.rot90(samples, turns)
    return np.ascontiguousarray(samples[:, ::-1] if mirrored else samples)


def _to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """RGB by the image's profile where it has a valid one, else by Pillow's formula; and the profile of the result."""
    if icc and image.mode in ("CMYK", "LAB"):
        try:
            converted = ImageCms.profileToProfile(image, io.BytesIO(icc), _SRGB, outputMode="RGB")
            return converted, SRGB
        except ImageCms.PyCMSError:
            return image.convert("RGB"), None  # a damaged profile says nothing about the colours
    return image.convert("RGB"), icc if image.mode == "YCbCr" else None


def to_pillow(photo: Photo) -> Image.Image:
    """The Pillow image: L, LA, RGB or RGBA; I;16 for deep grey, the upper 8 bits of other deep images."""
    samples = _samples(photo)
    if photo.deep and samples.shape[2] > 1:
        samples = _rounded(samples)
    image = Image.fromarray(samples.squeeze(2) if samples.shape[2] == 1 else samples)
    if photo.profile:
        image.info["icc_profile"] = photo.profile
    return image


def _samples(photo: Photo) -> np.ndarray:
    """(H, W, channels): grey or RGB, and alpha where there is one."""
    samples = photo.rgb
    if photo.grey:
        # The network gives three channels; they differ by little, and their luma is the grey value.
        samples = np.rint(samples @ np.array([0.299, 0.587, 0.114], np.float32)).astype(samples.dtype)[..., None]
    return samples if photo.alpha is None else np.concatenate((samples, photo.alpha[..., None]), 2)


def _rounded(samples: np.ndarray) -> np.ndarray:
    """uint16 to uint8."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photograph in the format that the suffix names, whole or not at all.

    PNG and TIFF hold everything. JPEG and WebP hold 8 bits, to which deeper images are rounded; JPEG has no alpha,
    which is left out.

    Raises:
        UserError: an unknown suffix, an image too large for the format, or a disk that is full or not writable.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES or suffix == ".bmp":
        raise UserError(f"{shown(path)}: results are written as .png, .jpg, .tif or .webp; choose one of them")
    try:
        with atomic_path(path) as temporary:
            _write(photo, temporary, suffix)
    except (ValueError, SystemError) as error:
        raise UserError(f"{shown(path)}: this format cannot hold the image ({error}); choose .png or .tif") from None


def _write(photo: Photo, path: Path, suffix: str) -> None:
    if suffix in (".jpg", ".jpeg"):
        photo = replace(photo, alpha=None)
    if photo.deep and suffix == ".png":
        path.write_bytes(encode_png16(_samples(photo), photo.profile))
        return
    if photo.deep and suffix in (".tif", ".tiff"):
        # Few programs open grey and alpha of 16 bits in TIFF.
        samples = _samples(replace(photo, grey=photo.grey and photo.alpha is None))
        colour, several = samples.shape[2] > 2, samples.shape[2] > 1
        tifffile.imwrite(
            path,
            samples if several else samples.squeeze(2),
            photometric="rgb" if colour else "minisblack",
            planarconfig="contig" if several else None,
            extrasamples=["unassalpha"] if photo.alpha is not None else None,
            iccprofile=photo.profile,
            compression="zlib",
            metadata=None,
        )
        return
    image = to_pillow(photo)
    if image.mode == "I;16":
        image = Image.fromarray(_rounded(_samples(photo)).squeeze(2))
    options = {
        ".png": {"compress_level": 4},
        ".webp": {"lossless": True},
        ".tif": {"compression": "tiff_adobe_deflate"},
        ".tiff": {"compression": "tiff_adobe_deflate"},
    }.get(suffix, {"quality": 95, "subsampling": 0})
    image.save(path, icc_profile=photo.profile, **options)
