"""Damaged files of every format: the outcome is a photograph or one sentence, whatever the bytes are.

EXTRACTER_FUZZ_SECONDS sets how long it runs (by default 8 seconds) and EXTRACTER_FUZZ_SEED where it begins.
"""

import io
import os
import time
import warnings

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from extracter.errors import UserError
from extracter.photos.colour import described_profile, match, srgb
from extracter.photos.photo import Photo
from extracter.photos.read import decode_photo
from extracter.photos.write import encode_photo

SECONDS = float(os.environ.get("EXTRACTER_FUZZ_SECONDS", "8"))
SEED = int(os.environ.get("EXTRACTER_FUZZ_SEED", "0"))


def picture(height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    """Smooth, with some noise; small, so that many files are tried in a second."""
    rng = np.random.default_rng(channels)
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([(5 * rows + 3 * columns * (n + 1)) % 256 for n in range(channels)], 2)
    return (smooth + rng.integers(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8)


def exif() -> bytes:
    block = Image.Exif()
    block[0x0112], block[271], block[282] = 6, "Maker", 300.0
    block[0x8769] = {36867: "2020:01:02 03:04:05", 0xA002: 32, 0x927C: bytes(40), 0x829A: 0.01}
    block[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return block.tobytes()


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'


def pillow(kind: str, image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(samples: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **options)
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    """Whole files of many kinds."""
    rgb, rgba = Image.fromarray(picture()), Image.fromarray(picture(channels=4))
    cmyk = Image.fromarray(picture(channels=4), "CMYK")
    deep = picture().astype(np.uint16) * 257
    full = {"exif": exif(), "icc_profile": srgb()}
    found = {
        "png": pillow("PNG", rgb, dpi=(300, 300), **full),
        "png rgba": pillow("PNG", rgba),
        "png palette": pillow("PNG", rgb.quantize(17), transparency=3),
        "png grey": pillow("PNG", rgb.convert("L"), transparency=7),
        "png bits": pillow("PNG", rgb.convert("1")),
        "png deep": encode_photo(Photo(deep, icc=srgb()), ".png"),
        "apng": pillow("PNG", rgb, save_all=True, append_images=[rgb.rotate(180)]),
        "jpeg": pillow("JPEG", rgb, dpi=(300, 300), xmp=XMP, **full),
        "jpeg progressive": pillow("JPEG", rgb, progressive=True),
        "jpeg grey": pillow("JPEG", rgb.convert("L")),
        "jpeg cmyk": pillow("JPEG", cmyk),
        "mpo": pillow("MPO", rgb, save_all=True, append_images=[rgb.rotate(180)], exif=exif()),
        "webp": pillow("WEBP", rgb, xmp=XMP, **full),
        "webp lossless": pillow("WEBP", rgba, lossless=True),
        "webp moving": pillow("WEBP", rgb, save_all=True, append_images=[rgb.rotate(180)]),
        "bmp": pillow("BMP", rgb),
        "bmp palette": pillow("BMP", rgb.quantize(200)),
        "gif": pillow("GIF", rgb.quantize(100), transparency=1),
        "gif moving": pillow("GIF", rgb.quantize(9), save_all=True, append_images=[rgb.quantize(20)]),
        "avif": pillow("AVIF", rgb, xmp=XMP, **full),
        "avif alpha": pillow("AVIF", rgba),
        "jpeg 2000": pillow("JPEG2000", rgb),
        "jpeg 2000 deep": imagecodecs.jpeg2k_encode(deep, level=0, codecformat="jp2"),
        "pgm deep": b"P5 32 24 65535\n" + deep[..., 0].astype(">u2").tobytes(),
        "tiff pillow": pillow("TIFF", rgb, compression="tiff_lzw", icc_profile=srgb()),
        "tiff exif": pillow("TIFF", rgb, **full),
        "tiff cmyk": pillow("TIFF", cmyk),
        "tiff palette": pillow("TIFF", rgb.quantize(9)),
        "tiff bits": pillow("TIFF", rgb.convert("1"), compression="group4"),
        "tiff lab": pillow("TIFF", Image.new("LAB", (9, 7))),
        "tiff ycbcr": pillow("TIFF", rgb.convert("YCbCr")),
        "tiff jpeg": pillow("TIFF", rgb, compression="jpeg"),
        "tiff float": tiff(picture().astype(np.float32) / 255, photometric="rgb"),
        "tiff tiled": tiff(deep, photometric="rgb", tile=(16, 16), compression="zlib", predictor=True),
        "tiff planar": tiff(deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        "tiff alpha": tiff(picture(channels=4), photometric="rgb", extrasamples=["assocalpha"]),
        "tiff white": tiff(deep[..., 0], photometric="miniswhite", compression="lzw"),
        "tiff pages": tiff(np.stack([picture()] * 3), photometric="rgb"),
        "tiff ours": encode_photo(decode_photo(pillow("JPEG", rgb, xmp=XMP, **full), "a.jpg"), ".tif"),
    }
    try:
        import pillow_heif
    except ImportError:
        return found
    buffer = io.BytesIO()
    pillow_heif.from_pillow(rgb).save(buffer)
    return {**found, "heic": buffer.getvalue()}


def damaged(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A file with one to several faults."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        length = len(changed)
        # Half of the faults strike the headers, which decoders trust most.
        place = int(rng.integers(0, min(length, 200) if rng.random() < 0.5 else length)) if length else 0
        kind = rng.integers(0, 8)
        if kind == 0:
            changed[place : place + 1] = bytes([rng.integers(0, 256)])
        elif kind == 1:
            changed[place : place + 4] = rng.choice([0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1]).astype(">u4").tobytes()
        elif kind == 2:
            changed[place : place + 4] = rng.choice([0, 1, 4, 2**31 - 1, 2**32 - 1]).astype("<u4").tobytes()
        elif kind == 3:
            del changed[place:]
        elif kind == 4:
            del changed[place : place + int(rng.integers(1, 40))]
        elif kind == 5:
            changed[place:place] = rng.bytes(int(rng.integers(1, 40)))
        elif kind == 6 and place < length:
            changed[place] ^= 1 << int(rng.integers(0, 8))
        else:
            other = others[rng.integers(0, len(others))]
            start = int(rng.integers(0, len(other)))
            changed[place : place + 16] = other[start : start + 16]
    return bytes(changed)


def attempt(data: bytes) -> str:
    """What becomes of a file: the reason why it is not read, or nothing if its result can be written."""
    try:
        photo = decode_photo(data, "a.png")
    except UserError as error:
        return str(error)
    assert photo.rgb.dtype in (np.uint8, np.uint16)
    assert photo.rgb.ndim == 3
    assert photo.rgb.shape[2] == 3
    assert photo.alpha is None or photo.alpha.shape == photo.rgb.shape[:2]
    if photo.rgb.size < 100_000:
        described_profile(photo)
        match(photo, Photo(picture()))
        for suffix in (".png", ".jpg", ".tif", ".webp"):
            encode_photo(photo, suffix)
    return ""


@pytest.mark.parametrize("name", files())
def test_whole_files_are_read(name):
    assert attempt(files()[name]) == ""


def test_damaged_files_are_read_or_named():
    warnings.simplefilter("ignore")
    whole = files()
    others = list(whole.values())
    end = time.monotonic() + SECONDS
    number = read = 0
    while time.monotonic() < end:
        for name, data in whole.items():
            rng = np.random.default_rng([SEED, number])
            bad = damaged(data, others, rng)
            try:
                reason = attempt(bad)
                assert "\n" not in reason
                read += not reason
            except Exception as error:
                raise AssertionError(f"{name}, seed [{SEED}, {number}]: {type(error).__name__}: {error}") from error
            number += 1
    print(f"{number} files, {read} of them read")
    assert 0 < read < number
