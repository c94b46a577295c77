"""Colour spaces: the profiles that files embed or describe, and conversion from one into another."""

import io
import struct
from contextlib import suppress
from dataclasses import replace
from functools import cache

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

from extracter.photos.photo import Photo, is_neutral

# Chromaticities of white, and of red, green and blue by the code points of cICP (ITU-T H.273).
_WHITE = (0.3127, 0.3290)
_PRIMARIES = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_TRANSFERS: dict[int, float | str] = {
    1: "bt709", 4: 2.2, 5: 2.8, 6: "bt709", 8: 1.0, 13: "srgb", 14: "bt709", 15: "bt709",
}  # fmt: skip
_SRGB_GAMMA = 45455  # the gAMA value that encoders write for sRGB
_SRGB_CHROMA = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_STRIP = 2**22  # pixels converted at once


@cache
def srgb() -> bytes:
    """The sRGB profile, always the same bytes: the date in its header is zeroed."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + bytes(12) + made[36:]


def described_profile(photo: Photo) -> bytes | None:
    """The colour profile of a photograph: its own, or one built from PNG's colour chunks; None for sRGB.

    As in the PNG standard, cICP takes precedence over iCCP, iCCP over sRGB, and sRGB over gAMA and cHRM. PQ and HLG
    (HDR) cannot be written as a profile of this kind; their pixels are used as they are.
    """
    chunks = dict(photo.chunks)
    if b"cICP" in chunks and (made := _of_code_points(chunks[b"cICP"])) is not None:
        return made or None
    if photo.profile:
        return photo.profile
    if b"sRGB" in chunks or not (b"gAMA" in chunks or b"cHRM" in chunks):
        return None
    try:
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] if b"gAMA" in chunks else _SRGB_GAMMA
        chroma = struct.unpack(">8I", chunks[b"cHRM"]) if b"cHRM" in chunks else _SRGB_CHROMA
        if abs(gamma - _SRGB_GAMMA) < 100 and max(abs(a - b) for a, b in zip(chroma, _SRGB_CHROMA, strict=True)) < 200:
            return None
        return _made_profile(photo.grey, 100000 / gamma, tuple(value / 100000 for value in chroma))
    except (struct.error, ZeroDivisionError, ValueError, RuntimeError):
        return None


def match(reference: Photo, photo: Photo) -> Photo:
    """A reference converted to the colour space of the photograph that takes textures from it."""
    source, target = described_profile(reference), described_profile(photo)
    if source == target or reference.rgb.dtype.kind == "f":
        return reference
    try:
        pixels = reference.rgb[..., :1] if reference.grey and source is not None else reference.rgb
        channels = 1 if photo.grey and target is not None else 3
        rgb = transformed(pixels, source or srgb(), target or srgb(), channels)
    except (ValueError, RuntimeError) as error:
        return replace(reference, notes=(*reference.notes, f"its colour profile cannot be used ({error})"))
    rgb = np.repeat(rgb, 3, 2) if rgb.shape[2] == 1 else rgb
    return replace(reference, rgb=rgb, grey=reference.grey and is_neutral(rgb), icc=photo.icc, chunks=photo.chunks)


def transformed(pixels: np.ndarray, source: bytes, target: bytes, channels: int) -> np.ndarray:
    """Convert pixels from the colour space of one profile to that of another.

    Args:
        pixels: (H, W, C) uint8 or uint16, C = 1, 3 or 4 (CMYK).
        source: their profile.
        target: the profile to convert to.
        channels: of the result, 1 or 3.

    Returns:
        (H, W, channels) of the same type as `pixels`.

    Raises:
        RuntimeError, ValueError: a profile is damaged or made for another number of channels.
    """
    spaces = {1: "gray", 3: "rgb", 4: "cmyk"}
    height, width = pixels.shape[:2]
    result = np.empty((height, width, channels), pixels.dtype)
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        part = np.ascontiguousarray(pixels[top : top + rows])
        converted = imagecodecs.cms_transform(
            part[..., 0] if part.shape[2] == 1 else part,
            source,
            target,
            colorspace=spaces[pixels.shape[2]],
            outcolorspace=spaces[channels],
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        )
        result[top : top + rows] = converted[..., None] if converted.ndim == 2 else converted
    return result


def cmyk_to_srgb(pixels: np.ndarray, icc: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """CMYK (H, W, 4) as RGB with its profile: converted by the image's own profile, else by Pillow's formula."""
    if icc and icc[16:20] == b"CMYK":
        with suppress(ValueError, RuntimeError):  # a damaged profile is of no use
            return transformed(pixels, icc, srgb(), 3), srgb()
    largest = np.iinfo(pixels.dtype).max
    light = largest - pixels.astype(np.float32)
    return np.rint(light[..., :3] * (light[..., 3:] / largest)).astype(pixels.dtype), None


def pillow_to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """A Pillow image in CMYK, Lab, YCbCr or HSV as RGB, with the profile of the result."""
    if icc and image.mode in ("CMYK", "LAB"):
        try:
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, io.BytesIO(icc), target, outputMode="RGB")
            return converted or image.convert("RGB"), srgb()
        except (ImageCms.PyCMSError, ValueError, OSError):
            return image.convert("RGB"), None
    return image.convert("RGB"), icc if image.mode == "YCbCr" else None


def _of_code_points(content: bytes) -> bytes | None:
    """The profile that a cICP chunk describes: empty for sRGB, None if there is none for its code points."""
    if len(content) != 4 or content[0] not in _PRIMARIES or content[1] not in _TRANSFERS or content[2] != 0:
        return None
    if content[:2] == b"\x01\x0d":
        return b""
    return _made_profile(False, _TRANSFERS[content[1]], (*_WHITE, *_PRIMARIES[content[0]]))


@cache
def _made_profile(grey: bool, curve: float | str, chroma: tuple[float, ...]) -> bytes:
    """Build a profile from a gamma or named curve and the chromaticities of white, red, green and blue."""
    tone: dict = {"gamma": curve}
    if isinstance(curve, str):
        value = np.linspace(0, 1, 1024)
        offset, knee, slope, power = (0.055, 0.04045, 12.92, 2.4) if curve == "srgb" else (0.099, 0.081, 4.5, 1 / 0.45)
        linear = np.where(value <= knee, value / slope, ((value + offset) / (1 + offset)) ** power)
        tone = {"transferfunction": linear.astype(np.float32)}
    if grey:
        made = imagecodecs.cms_profile("gray", **tone)
    else:
        made = imagecodecs.cms_profile("rgb", whitepoint=list(chroma[:2]), primaries=list(chroma[2:]), **tone)
    return made[:24] + bytes(12) + made[36:]
