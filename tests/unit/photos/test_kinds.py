"""Files as cameras, scanners and programs write them: the right pixels, or the kind named."""

import binascii
import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from extracter.errors import UserError
from extracter.photos import exif as exif_block
from extracter.photos.colour import described_profile, srgb
from extracter.photos.photo import Photo
from extracter.photos.read import decode_photo, from_pillow, read_photo
from extracter.photos.write import encode_photo, write_photo

FILES = Path(__file__).parent / "files"
DEEP = np.random.default_rng(0).integers(0, 65536, (12, 10, 3)).astype(np.uint16)
SHALLOW = (DEEP >> 8).astype(np.uint8)


def tiff(samples: np.ndarray, **options) -> Photo:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **options)
    return decode_photo(buffer.getvalue(), "a.tif")


def pillow(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = binascii.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG file with more chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


# TIFF


@pytest.mark.parametrize(
    ("compression", "predictor"),
    [(None, False), ("packbits", False), *((name, on) for name in ("zlib", "lzw", "zstd", "lzma") for on in (0, 1))],
)
@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_deep_tiff_of_every_layout(compression, layout, predictor):
    samples = DEEP if layout == "contig" else DEEP.transpose(2, 0, 1)
    options = {"predictor": True} if predictor else {}
    photo = tiff(samples, photometric="rgb", planarconfig=layout, compression=compression, **options)
    np.testing.assert_array_equal(photo.rgb, DEEP)


def test_tiles_strips_and_byte_orders():
    for options in ({"tile": (16, 16)}, {"rowsperstrip": 3}, {"byteorder": ">"}, {"bigtiff": True}):
        np.testing.assert_array_equal(tiff(DEEP, photometric="rgb", **options).rgb, DEEP)


@pytest.mark.parametrize("grey", [DEEP[..., 0], SHALLOW[..., 0]])
def test_white_is_zero_shows_the_same_picture(grey):
    black, white = (
        tiff(x, photometric=name) for x, name in ((grey, "minisblack"), (np.iinfo(grey.dtype).max - grey, "miniswhite"))
    )
    np.testing.assert_array_equal(white.rgb, black.rgb)
    assert white.grey
    np.testing.assert_array_equal(white.rgb[..., 0], grey)


def test_bits_and_nibbles_fill_the_range():
    one = decode_photo(pillow(Image.fromarray(SHALLOW[..., 0] > 99), "TIFF"), "a.tif")
    np.testing.assert_array_equal(one.rgb[..., 0], np.where(SHALLOW[..., 0] > 99, 255, 0))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, DEEP[..., 0] >> 4, photometric="minisblack", bitspersample=12, metadata=None)
    twelve = decode_photo(buffer.getvalue(), "a.tif").rgb[..., 0]
    np.testing.assert_array_equal(twelve, np.rint((DEEP[..., 0] >> 4) * (65535 / 4095)))


@pytest.mark.parametrize("samples", [DEEP, SHALLOW])
def test_associated_and_straight_alpha_are_the_same_picture(samples):
    largest = np.iinfo(samples.dtype).max
    alpha = np.linspace(largest // 2, largest, samples.shape[0] * samples.shape[1]).reshape(samples.shape[:2])
    alpha = alpha.astype(samples.dtype)[..., None]
    multiplied = np.rint(samples * (alpha / largest)).astype(samples.dtype)
    straight = tiff(np.concatenate((samples, alpha), 2), photometric="rgb", extrasamples=["unassalpha"])
    associated = tiff(np.concatenate((multiplied, alpha), 2), photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(straight.rgb, samples)
    np.testing.assert_array_equal(associated.alpha, alpha[..., 0])
    assert np.abs(associated.rgb.astype(int) - samples).max() <= 1


@pytest.mark.parametrize("samples", [DEEP, SHALLOW])
def test_extra_samples_that_are_no_alpha_are_left_out(samples):
    infrared = samples[..., :1] // 3
    photo = tiff(np.concatenate((samples, infrared), 2), photometric="rgb", extrasamples=["unspecified"])
    assert photo.alpha is None
    np.testing.assert_array_equal(photo.rgb, samples)
    five = np.concatenate((samples, infrared, samples[..., 1:2]), 2)
    photo = tiff(five, photometric="rgb", extrasamples=["unspecified", "unassalpha"])
    np.testing.assert_array_equal(photo.rgb, samples)
    np.testing.assert_array_equal(photo.alpha, samples[..., 1])


def test_grey_and_alpha():
    photo = tiff(DEEP[..., :2], photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig")
    assert photo.grey
    np.testing.assert_array_equal(photo.rgb[..., 2], DEEP[..., 0])
    np.testing.assert_array_equal(photo.alpha, DEEP[..., 1])


def test_floating_point_from_0_to_1_is_taken_to_16_bits():
    for dtype in (np.float16, np.float32, np.float64):
        photo = tiff((DEEP / 65535).astype(dtype), photometric="rgb")
        assert photo.rgb.dtype == np.uint16
        tolerance = 40 if dtype is np.float16 else 1
        assert np.abs(photo.rgb.astype(int) - DEEP).max() <= tolerance


@pytest.mark.parametrize(("samples", "kind"), [
    (DEEP.astype(np.float32), "32-bit floating-point pixels from"),
    (np.full((4, 4), np.nan, np.float32), "32-bit floating-point pixels from nan"),
    (DEEP.astype(np.int32), "32-bit signed integer"),
    (DEEP.astype(np.uint32), "32-bit unsigned integer"),
    (DEEP.view(np.int16), "16-bit signed integer"),
    (SHALLOW.view(np.int8), "8-bit signed integer"),
    (DEEP[..., 0].astype(np.complex64), "64-bit complex"),
])  # fmt: skip
def test_kinds_whose_white_is_unknown_are_named(samples, kind):
    with pytest.raises(UserError, match=rf"^a\.tif: {kind}.*save the image"):
        tiff(samples, photometric="rgb" if samples.ndim == 3 else "minisblack")


@pytest.mark.parametrize("marked", [True, False])
def test_the_full_picture_and_not_its_thumbnail(marked):
    buffer = io.BytesIO()
    full = np.kron(SHALLOW, np.ones((8, 8, 1), np.uint8))
    with tifffile.TiffWriter(buffer) as file:
        file.write(SHALLOW, photometric="rgb", subfiletype=1 if marked else 0, metadata=None)
        file.write(full, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(decode_photo(buffer.getvalue(), "a.tif").rgb, full)


def test_the_full_picture_in_a_subdirectory():
    buffer = io.BytesIO()
    full = np.kron(SHALLOW, np.ones((4, 4, 1), np.uint8))
    with tifffile.TiffWriter(buffer) as file:
        file.write(SHALLOW, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(full, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(decode_photo(buffer.getvalue(), "a.tif").rgb, full)


def test_of_several_pages_the_first():
    np.testing.assert_array_equal(tiff(np.stack([SHALLOW, 255 - SHALLOW]), photometric="rgb").rgb, SHALLOW)


@pytest.mark.parametrize("name", ["fuzz_03_deep.tif", "fuzz_07.tif"])
def test_damaged_directories_are_one_line(name):
    reason = r"truncated or damaged image \([\d,]+ bytes: no decoder can read it\); replace"
    with pytest.raises(UserError, match=rf"{name}: {reason}"):
        read_photo(FILES / name)


def test_more_samples_than_memory_holds_are_refused(capfd):
    """A directory alone may promise 65,535 samples a pixel; Pillow, too, has its say about that."""
    entries = [(256, 9000), (257, 9000), (258, 8), (259, 8), (262, 1), (273, 8), (277, 65535), (278, 9000), (279, 8)]
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    with pytest.raises(UserError, match="more than 178,956,970 pixels; cut it into parts first"):
        decode_photo(b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + bytes(4), "a.tif")
    assert capfd.readouterr().err == ""


# Deep formats beside PNG and TIFF


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_deep_jpeg_2000(bits, channels, codec):
    samples = np.random.default_rng(bits).integers(0, 2**bits, (9, 7, channels)).astype(np.uint16)
    samples[0, 0], samples[0, 1] = 2**bits - 1, 0  # white is not taken for black
    data = imagecodecs.jpeg2k_encode(samples.squeeze(), level=0, codecformat=codec, bitspersample=bits)
    photo = decode_photo(data, "a.jp2")
    wanted = np.rint(samples * (65535 / (2**bits - 1)))
    assert photo.grey == (channels < 3)
    np.testing.assert_array_equal(
        photo.rgb[..., : channels - (channels in (2, 4))], wanted[..., : 3 if channels > 2 else 1]
    )
    if channels in (2, 4):
        np.testing.assert_array_equal(photo.alpha, wanted[..., -1])
    else:
        assert photo.alpha is None


def test_jpeg_2000_of_signed_samples_is_named():
    data = imagecodecs.jpeg2k_encode(DEEP.view(np.int16), level=0, codecformat="jp2")
    with pytest.raises(UserError, match=r"^a\.jp2: JPEG 2000 of 3 channels of int16; save it as RGB"):
        decode_photo(data, "a.jp2")


def test_jpeg_2000_is_as_large_as_its_codestream():
    data = bytearray(imagecodecs.jpeg2k_encode(DEEP, level=0, codecformat="jp2"))
    place = data.index(b"\xff\x4f\xff\x51") + 8
    data[place : place + 8] = struct.pack(">2I", 60_000, 60_000)
    with pytest.raises(UserError, match="more than 178,956,970 pixels"):
        decode_photo(bytes(data), "a.jp2")


@pytest.mark.parametrize("white", [1023, 65535])
def test_deep_grey_pnm(white):
    samples = np.minimum(DEEP[..., 0], white).astype(">u2")
    photo = decode_photo(b"P5 10 12 %d\n" % white + samples.tobytes(), "a.pgm")
    assert photo.grey
    assert np.abs(photo.rgb[..., 0] - samples * (65535 / white)).max() <= 0.5


# Grey


def test_grey_stays_grey():
    ramp = np.arange(120, dtype=np.uint8).reshape(10, 12)
    palette = Image.fromarray(ramp % 50).convert("P")
    palette.putpalette([value for step in range(256) for value in [(step * 5) % 256] * 3])
    for image, options in [
        (Image.fromarray(ramp), {"transparency": 3}),
        (Image.fromarray(ramp.astype(np.uint16) * 257), {"transparency": 771}),
        (palette, {}),
        (palette, {"transparency": 3}),
    ]:
        photo = decode_photo(pillow(image, "PNG", **options), "a.png")
        assert photo.grey, image.mode
        assert (photo.alpha is not None) == bool(options)
        if options:
            assert 0 < (photo.alpha == 0).sum() < photo.alpha.size
    gif = decode_photo(pillow(palette, "GIF"), "a.gif")
    assert gif.grey


def test_png_of_16_bits_keeps_them_with_its_transparency():
    png = encode_photo(Photo(DEEP), ".png")
    colour = tuple(int(x) for x in DEEP[3, 4])
    photo = decode_photo(with_chunks(png, chunk(b"tRNS", struct.pack(">3H", *colour))), "a.png")
    np.testing.assert_array_equal(photo.rgb, DEEP)
    assert (photo.alpha == 0).sum() == (DEEP[3, 4] == DEEP).all(2).sum()


# PNG's chunks


def test_large_texts_and_profiles():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 2**21, zip=True)
    profile = srgb() + np.random.default_rng(0).bytes(2**21)
    photo = decode_photo(pillow(Image.fromarray(SHALLOW), "PNG", pnginfo=info, icc_profile=profile), "a.png")
    np.testing.assert_array_equal(photo.rgb, SHALLOW)
    assert photo.icc == profile
    assert photo.notes == ()


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"gAMA", b"eXIf", b"pHYs"])
def test_wrong_checksums_beside_the_pixels_are_a_warning(kind):
    photo = decode_photo(with_chunks(pillow(Image.fromarray(SHALLOW), "PNG"), chunk(kind, b"x\0y", 1)), "a.png")
    np.testing.assert_array_equal(photo.rgb, SHALLOW)
    assert photo.notes == (f"left out chunk {kind.decode()}, whose checksum is wrong",)


def test_wrong_checksums_of_pixels_are_an_error():
    data = bytearray(pillow(Image.fromarray(SHALLOW), "PNG"))
    data[data.index(b"IDAT") + 9] ^= 1
    with pytest.raises(UserError, match="IDAT has a wrong checksum"):
        decode_photo(bytes(data), "a.png")


def test_png_longer_than_its_library_reads():
    header = struct.pack(">IIBBBBB", 2_000_000, 1, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))
    with pytest.raises(UserError, match=r"^a\.png: PNG with a side of 2,000,000 pixels, more than 1,000,000; cut it"):
        decode_photo(data, "a.png")


def test_png_without_its_end():
    data = pillow(Image.fromarray(SHALLOW), "PNG")
    photo = decode_photo(data[:-12], "a.png")
    np.testing.assert_array_equal(photo.rgb, SHALLOW)
    assert photo.notes == ("its end is missing",)


def test_colour_chunks_are_kept_and_become_a_profile_elsewhere():
    linear = chunk(b"gAMA", struct.pack(">I", 100000))
    photo = decode_photo(with_chunks(pillow(Image.fromarray(SHALLOW), "PNG"), linear), "a.png")
    again = decode_photo(encode_photo(photo, ".png"), "a.png")
    assert again.chunks == photo.chunks == ((b"gAMA", struct.pack(">I", 100000)),)
    tagged = decode_photo(encode_photo(photo, ".tif"), "a.tif")
    assert tagged.icc == described_profile(photo)
    assert tagged.icc[16:20] == b"RGB "
    usual = chunk(b"gAMA", struct.pack(">I", 45455))
    photo = decode_photo(with_chunks(pillow(Image.fromarray(SHALLOW), "PNG"), usual), "a.png")
    assert described_profile(photo) is None


@pytest.mark.parametrize(("points", "known"), [
    (b"\x01\x0d\0\1", False), (b"\x0c\x0d\0\1", True), (b"\x09\x01\0\1", True), (b"\x09\x10\0\1", False),
    (b"\x63\x0d\0\1", False), (b"\x0c\x0d", False),
])  # fmt: skip
def test_code_points(points, known):
    photo = decode_photo(with_chunks(pillow(Image.fromarray(SHALLOW), "PNG"), chunk(b"cICP", points)), "a.png")
    assert (described_profile(photo) is not None) == known
    assert dict(decode_photo(encode_photo(photo, ".png"), "a.png").chunks)[b"cICP"] == points


# JPEG


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_jpeg_without_its_end_marker(progressive, missing):
    data = pillow(Image.fromarray(np.kron(SHALLOW, np.ones((4, 4, 1), np.uint8))), "JPEG", progressive=progressive)
    whole, cut = decode_photo(data, "a.jpg"), decode_photo(data[:-missing], "a.jpg")
    np.testing.assert_array_equal(cut.rgb, whole.rgb)
    assert cut.notes == ("its end marker is missing",)


@pytest.mark.parametrize("part", [0.5, 0.8, 0.97])
def test_jpeg_that_lacks_pixels(part):
    data = pillow(Image.fromarray(np.kron(SHALLOW, np.ones((9, 9, 1), np.uint8))), "JPEG")
    with pytest.raises(UserError, match="truncated"):
        decode_photo(data[: int(part * len(data))], "a.jpg")


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_whose_end_is_zeros(progressive):
    """As a download leaves it that was interrupted and had reserved its space."""
    image = Image.fromarray(np.kron(SHALLOW, np.ones((9, 9, 1), np.uint8)))
    thumbnail = pillow(image, "JPEG")
    data = pillow(image, "JPEG", progressive=progressive, exif=b"Exif\0\0" + exif_bytes(more=thumbnail))
    whole = decode_photo(data, "a.jpg")
    cut = decode_photo(data[:-2] + bytes(5000), "a.jpg")
    np.testing.assert_array_equal(cut.rgb, whole.rgb)
    assert cut.notes == ("its end marker is missing",)
    with pytest.raises(UserError, match="truncated"):
        decode_photo(data[: int(0.8 * len(data))] + bytes(5000), "a.jpg")
    appended = decode_photo(data + b"\xff\xda and a film", "a.jpg")
    np.testing.assert_array_equal(appended.rgb, whole.rgb)
    assert appended.notes == ()


# EXIF, XMP, resolution


def exif_bytes(*entries: tuple[int, int, int, bytes], order: str = "<", more: bytes = b"") -> bytes:
    """An EXIF block of (tag, type, count, value or offset)."""
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    rows = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    return header + struct.pack(f"{order}H", len(entries)) + rows + bytes(4) + more


@pytest.mark.parametrize(("entry", "turned"), [
    ((0x0112, 3, 1, b"\6\0"), True),
    ((0x0112, 4, 1, b"\6\0\0\0"), True),
    ((0x0112, 1, 1, b"\6"), True),
    ((0x0112, 2, 2, b"6\0"), True),
    ((0x0112, 5, 1, struct.pack("<I", 38)), True),  # a rational, behind two entries
    ((0x0112, 5, 1, struct.pack("<I", 9999)), False),
    ((0x0112, 3, 1, b"\x63\0"), False),
    ((0x0112, 99, 1, b"\6\0"), False),
    ((0x0112, 2, 2**31, b"\xff\xff\xff\xff"), False),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO"])
def test_orientation_of_any_type(entry, turned, kind):
    block = exif_bytes(entry, (0x9999, 2, 1, b"\1"), more=struct.pack("<II", 6, 1))
    options = {"save_all": True, "append_images": [Image.new("RGB", (10, 12))]} if kind == "MPO" else {}
    data = pillow(Image.fromarray(SHALLOW), kind, exif=b"Exif\0\0" + block, **options)
    photo = decode_photo(data, "a.jpg")
    assert photo.rgb.shape[:2] == ((10, 12) if turned else (12, 10))
    assert photo.metadata.exif is None or exif_block.orientation(photo.metadata.exif) in range(1, 9)
    if turned:
        assert exif_block.orientation(photo.metadata.exif) == 1


@pytest.mark.parametrize("value", range(2, 9))
def test_one_column_upright_is_written(value):
    """Of one column NumPy takes any strides for contiguous."""
    block = exif_bytes((0x0112, 3, 1, struct.pack("<H", value)))
    for pixels in (SHALLOW[:, :1], SHALLOW[:1]):
        photo = decode_photo(pillow(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0" + block), "a.png")
        for suffix in (".png", ".tif"):
            again = decode_photo(encode_photo(photo, suffix), "a.png")
            np.testing.assert_array_equal(again.rgb, photo.rgb)


@pytest.mark.parametrize(
    "block", [b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"nonsense", b"II", b"Exif\0\0"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_that_cannot_be_read(kind, block):
    photo = decode_photo(pillow(Image.fromarray(SHALLOW), kind, exif=b"Exif\0\0" + block), "a.jpg")
    assert photo.rgb.shape == SHALLOW.shape
    assert photo.metadata.exif is None
    assert all(note.startswith("left out damaged EXIF data (") for note in photo.notes)
    assert photo.notes or not block.startswith(b"II*")


def test_one_tag_of_the_wrong_type_does_not_keep_the_image_from_being_turned():
    with Image.open(FILES / "bad_exif.jpg") as image:
        width, height = image.size
    photo = read_photo(FILES / "bad_exif.jpg")
    assert photo.rgb.shape[:2] == (width, height)
    assert decode_photo(encode_photo(photo, ".jpg"), "a.jpg").rgb.shape[:2] == (width, height)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("deep", [False, True])
def test_metadata_goes_from_format_to_format(tmp_path, suffix, deep):
    found = Image.Exif()
    found[0x0112], found[271] = 6, "Maker"
    found[0x8769] = {36867: "2020:01:02 03:04:05", 0xA002: 10, 0xA003: 12}
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:x="y"/></x:xmpmeta>'
    data = pillow(
        Image.fromarray(SHALLOW), "JPEG", exif=found.tobytes(), xmp=xmp, dpi=(300, 200), icc_profile=srgb(), quality=100
    )
    photo = decode_photo(data, "a.jpg")
    if deep:
        photo = Photo(photo.rgb.astype(np.uint16) * 257, icc=photo.icc, metadata=photo.metadata)
    path = tmp_path / f"a{suffix}"
    write_photo(photo, path)
    with Image.open(path) as image:
        written = image.getexif()
        assert written[271] == "Maker"
        assert written.get(0x0112, 1) == 1
        inside = written.get_ifd(0x8769)
        assert inside[36867] == "2020:01:02 03:04:05"
        assert (inside[0xA002], inside[0xA003]) == image.size == (12, 10)
        assert image.info["icc_profile"] == srgb()
    again = read_photo(path)
    assert again.metadata.xmp == xmp.replace(b'"6"', b'"1"')
    # In WebP and AVIF the resolution is a part of EXIF, which says nothing of it here.
    assert again.metadata.dpi == pytest.approx((200, 300), abs=0.1) or suffix in (".webp", ".avif")
    write_photo(photo, path, strip=True)
    again = read_photo(path)
    assert again.metadata.xmp is None
    assert again.metadata.dpi is None
    assert again.icc == srgb()
    with Image.open(path) as image:
        assert not {271, 0x8769} & set(image.getexif())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_a_resolution_without_exif(suffix):
    photo = decode_photo(pillow(Image.fromarray(SHALLOW), "PNG", dpi=(300, 150)), "a.png")
    again = decode_photo(encode_photo(photo, suffix), "a")
    assert again.metadata.dpi == pytest.approx((300, 150), abs=0.5)
    photo = decode_photo(pillow(Image.fromarray(SHALLOW), "JPEG"), "a.jpg")
    assert photo.metadata.dpi is None


def test_a_resolution_that_no_format_holds_is_none():
    data = bytearray(pillow(Image.fromarray(SHALLOW), "BMP"))
    data[38:46] = b"\xff\xff\xff\x7f" * 2  # pixels per metre
    photo = decode_photo(bytes(data), "a.bmp")
    assert photo.metadata.dpi is None


def test_exif_too_large_for_jpeg_is_left_out():
    large = exif_bytes((0x927C, 7, 70_000, struct.pack("<I", 26)), more=bytes(70_000))
    photo = decode_photo(pillow(Image.fromarray(SHALLOW), "PNG", exif=large), "a.png")
    assert photo.metadata.exif is not None
    assert decode_photo(encode_photo(photo, ".jpg"), "a.jpg").metadata.exif is None


# What a name says and what a file is


def test_postscript_named_as_jpeg_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UserError, match="not an image"):
        read_photo(path)


def test_the_content_and_not_the_name_decides(tmp_path):
    for name, kind in (("a.jpg", "PNG"), ("b.png", "JPEG"), ("c.tif", "WEBP"), ("d.webp", "TIFF"), ("e.jfif", "GIF")):
        (tmp_path / name).write_bytes(pillow(Image.fromarray(SHALLOW), kind))
        assert read_photo(tmp_path / name).rgb.shape == SHALLOW.shape


def test_heic(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    image = pillow_heif.from_pillow(Image.fromarray(np.kron(SHALLOW, np.ones((8, 8, 1), np.uint8))))
    image.save(buffer)
    assert decode_photo(buffer.getvalue(), "a.heic").rgb.shape == (96, 80, 3)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(
        UserError, match=r"a\.heic: HEIC needs pillow-heif; install it with `pip install 'extracter\[heif"
    ):
        decode_photo(buffer.getvalue(), "a.heic")


def test_pillow_images_of_any_state():
    data = pillow(Image.fromarray(SHALLOW), "JPEG", exif=b"Exif\0\0" + exif_bytes((0x0112, 3, 1, b"\6\0")))
    assert from_pillow(Image.open(io.BytesIO(data))).rgb.shape == (10, 12, 3)
    for mode in ("I", "F"):
        with pytest.raises(UserError, match="pixels, which have no defined white level"):
            from_pillow(Image.new(mode, (3, 3)))


def test_zlib_bombs_beside_the_pixels():
    bomb = zlib.compress(bytes(2**27), 9)
    data = with_chunks(
        pillow(Image.fromarray(SHALLOW), "PNG"), chunk(b"iCCP", b"x\0\0" + bomb), chunk(b"zTXt", b"y\0\0" + bomb)
    )
    photo = decode_photo(data, "a.png")
    assert photo.icc is None
    assert photo.notes == ("left out a damaged colour profile",)
