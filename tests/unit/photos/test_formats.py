"""Reading and writing photographs: what is kept, and what cannot be read."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extracter.errors import UserError
from extracter.photos import colour
from extracter.photos.colour import srgb
from extracter.photos.photo import Photo, shown
from extracter.photos.read import read_photo
from extracter.photos.write import write_photo


def noise(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def saved(folder, image: Image.Image, name: str, **options):
    image.save(folder / name, **options)
    return folder / name


photos = st.builds(
    lambda height, width, dtype, grey, alpha, icc: make(height, width, dtype, grey, alpha, icc),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([np.uint8, np.uint16]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)  # fmt: skip


def make(height, width, dtype, grey, alpha, icc) -> Photo:
    rgb = noise(height, width, 1 if grey else 3, dtype=dtype)
    return Photo(
        np.repeat(rgb, 3, 2) if grey else rgb,
        grey,
        noise(height, width, dtype=dtype) if alpha else None,
        srgb() if icc else None,
    )


@settings(max_examples=60, deadline=None)
@given(photos, st.sampled_from([".png", ".tif"]))
def test_png_and_tiff_hold_everything(tmp_path_factory, photo, suffix):
    path = tmp_path_factory.mktemp("photos") / f"a{suffix}"
    write_photo(photo, path)
    again = read_photo(path)
    assert again.rgb.dtype == photo.rgb.dtype
    np.testing.assert_array_equal(again.rgb, photo.rgb)
    assert again.grey == (photo.grey and not (suffix == ".tif" and photo.deep and photo.alpha is not None))
    assert again.icc == (None if photo.grey else photo.icc)  # sRGB is no profile for grey
    if photo.alpha is None:
        assert again.alpha is None
    else:
        np.testing.assert_array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".webp", 0), (".jpg", 40)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_webp_and_jpeg_hold_eight_bits(tmp_path, suffix, tolerance, dtype):
    smooth = np.linspace(0, np.iinfo(dtype).max, 24 * 24 * 3).reshape(24, 24, 3).astype(dtype)
    write_photo(Photo(smooth, icc=srgb()), tmp_path / f"a{suffix}")
    again = read_photo(tmp_path / f"a{suffix}")
    wanted = np.rint(smooth / np.iinfo(dtype).max * 255)
    assert np.abs(again.rgb.astype(int) - wanted).max() <= tolerance
    assert again.icc == srgb()


def test_jpeg_leaves_alpha_out(tmp_path):
    write_photo(make(8, 8, np.uint8, False, True, False), tmp_path / "a.jpg")
    assert read_photo(tmp_path / "a.jpg").alpha is None


def test_modes(tmp_path):
    rgb = Image.fromarray(noise(5, 7, 3))
    palette = rgb.quantize(8)
    photo = read_photo(saved(tmp_path, palette, "p.png"))
    np.testing.assert_array_equal(photo.rgb, np.asarray(palette.convert("RGB")))
    assert (photo.grey, photo.alpha) == (False, None)
    photo = read_photo(saved(tmp_path, palette, "t.png", transparency=3))
    np.testing.assert_array_equal(photo.alpha, np.where(np.asarray(palette) == 3, 0, 255))
    photo = read_photo(saved(tmp_path, rgb.convert("1"), "one.png"))
    assert photo.grey
    assert set(np.unique(photo.rgb)) <= {0, 255}
    photo = read_photo(saved(tmp_path, Image.fromarray(noise(5, 7, 4), "CMYK"), "c.tif"))
    assert photo.rgb.shape == (5, 7, 3)
    photo = read_photo(saved(tmp_path, rgb.convert("LA"), "la.png"))
    assert photo.grey
    assert photo.alpha.shape == (5, 7)


def test_cmyk_goes_through_its_profile(tmp_path, monkeypatch):
    # There is no CMYK profile to ship; what matters is that the image's own is used and sRGB's is written.
    calls = []

    def transformed(pixels, source, target, channels):
        calls.append((source, target))
        return np.full((*pixels.shape[:2], channels), (1, 2, 3), np.uint8)

    monkeypatch.setattr(colour, "transformed", transformed)
    profile = bytes(16) + b"CMYK" + bytes(120)
    for name in ("c.jpg", "c.tif"):
        photo = read_photo(saved(tmp_path, Image.new("CMYK", (3, 2)), name, icc_profile=profile))
        assert calls.pop() == (profile, srgb())
        assert photo.rgb[0, 0].tolist() == [1, 2, 3]
        assert photo.icc == srgb()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(3, 5, 3))
    shallow = read_photo(saved(tmp_path, image, "a.png", exif=exif)).rgb
    deep = np.asarray(image).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extratags=[(0x0112, 3, 1, orientation, True)])
    turned = read_photo(tmp_path / "a.tif").rgb
    np.testing.assert_array_equal(turned, shallow.astype(np.uint16) * 257)
    assert shallow.shape[0] == (3 if orientation < 5 else 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"hello, world", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image|truncated"),
    ],
)
def test_what_is_no_image(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_photo(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_files(tmp_path, kind, part):
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 50, 3)).save(buffer, kind)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(buffer.getvalue()[: int(part * len(buffer.getvalue()))])
    with pytest.raises(UserError, match=r"truncated or damaged|not an image"):
        read_photo(path)


def test_truncated_deep_files(tmp_path):
    write_photo(make(40, 50, np.uint16, False, False, False), tmp_path / "a.png")
    write_photo(make(40, 50, np.uint16, False, False, False), tmp_path / "a.tif")
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(UserError, match=r"truncated or damaged|not an image"):
            read_photo(path)


def test_formats_that_cannot_hold_the_image(tmp_path):
    with pytest.raises(UserError, match="choose"):
        write_photo(Photo(noise(1, 20000, 3)), tmp_path / "a.webp")
    with pytest.raises(UserError, match=r"\.png, \.jpg"):
        write_photo(Photo(noise(2, 2, 3)), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_names_stay_on_one_line():
    assert shown("a\nb\u200b\U0001f600.png") == "a\\nb\\u200b\U0001f600.png"
