"""Reading photographs of any kind, and refusing broken ones with a sentence that helps."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extracter.data import manifest
from extracter.data.images import decode, is_image
from extracter.errors import UserError


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "RGB"])
def test_any_mode_becomes_rgb(mode, photograph):
    image = photograph(1, 20, 12).convert(mode)
    found = decode(encode(image, "TIFF"), "a.tif", "x")
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))


def test_16_bit_grey_keeps_its_upper_8_bits():
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    found = np.asarray(decode(encode(Image.fromarray(values), "PNG"), "a.png", "x"))
    assert np.array_equal(found[..., 0], (values >> 8).astype(np.uint8))


def test_exif_orientation_is_applied(photograph):
    image = photograph(1, 24, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encode(image, "JPEG", exif=exif), "a.jpg", "x").size == (16, 24)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_truncated_image_is_refused_or_complete(data):
    pixels = np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP"]))
    whole = encode(Image.fromarray(pixels), kind)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    path = f"data/raw/x/a.{kind.lower()}"
    complaint = ""
    try:
        found = decode(cut, path, "delete it")
    except UserError as error:
        complaint = str(error)
    if complaint:
        assert complaint.startswith(f"{path}: ")
        assert complaint.endswith("; delete it")
        assert f"{len(cut):,}" in complaint
    else:
        assert np.array_equal(np.asarray(found), np.asarray(decode(whole, path, "")))


def test_an_unreasonably_large_image_is_refused(monkeypatch, photograph):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"a\.png: more than 200 pixels; resize it"):
        decode(encode(photograph(1, 20, 20), "PNG"), "a.png", "resize it")


def test_what_counts_as_an_image():
    assert [name for name in ("a.PNG", "b.jpeg", ".c.png", "d.txt", "e") if is_image(name)] == ["a.PNG", "b.jpeg"]


def test_reading_against_the_manifest(raw_set):
    folder = raw_set("cufed5", {"012_3.png": (30, 20)}, "cufed5")
    entry = manifest.read(folder)["files"][0]
    assert manifest.read_image(folder, entry).size == (30, 20)
    path = folder / "012_3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(
        UserError, match=rf"cufed5/012_3\.png: truncated PNG \(100 of {len(whole):,} bytes\); delete it"
    ):
        manifest.read_image(folder, entry)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"012_3\.png: altered"):
        manifest.read_image(folder, entry)
    path.unlink()
    with pytest.raises(UserError, match=r"012_3\.png: missing; delete .*manifest\.json"):
        manifest.read_image(folder, entry)


def test_a_broken_manifest_is_named(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: no such file"):
        manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest"):
        manifest.read(tmp_path)
