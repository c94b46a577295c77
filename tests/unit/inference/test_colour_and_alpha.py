"""Colour spaces of images and references, hidden colours, grey, scales: what the network gets and what comes back."""

import io
import os
import threading

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

from extracter.inference.upscaler import Upscaler, upscale
from extracter.metrics import psnr_y
from extracter.models.extracter import Extracter
from extracter.photos.colour import srgb, transformed
from extracter.photos.photo import Photo, is_neutral
from extracter.search.search import SearchConfig

# Chromaticities of red, green and blue, and the white point.
P3 = imagecodecs.cms_profile(
    "rgb", whitepoint=[0.3127, 0.3290], primaries=[0.68, 0.32, 0.265, 0.69, 0.15, 0.06], gamma=2.2
)
PROPHOTO = imagecodecs.cms_profile(
    "rgb", whitepoint=[0.3457, 0.3585], primaries=[0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001], gamma=1.8
)


@pytest.fixture(scope="module")
def model() -> Extracter:
    """A network whose result depends on its reference: weights are random and large."""
    torch.manual_seed(0)
    network = Extracter(
        features=4, dfe_width=4, ife_blocks=0, csfi_blocks=(0, 0, 0), gde_blocks=(0, 0, 0), bicubic_skip=True
    )
    torch.nn.init.normal_(network.tail[-1].weight, std=0.1)
    return network


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    """A colourful picture, 96 x 128."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.coffee()[100:196, 200:328])


def in_profile(pixels: np.ndarray, profile: bytes, deep: bool) -> Photo:
    """The same colours in another colour space."""
    samples = pixels.astype(np.uint16) * 257 if deep else pixels
    return Photo(transformed(samples, srgb(), profile, 3), icc=profile)


@pytest.mark.parametrize("deep", [False, True])
def test_references_in_any_colour_space_serve_alike(original, deep):
    """With the released model: the original as reference in sRGB, Display P3 and ProPhoto."""
    lr = Photo(np.asarray(Image.fromarray(original).resize((32, 24), Image.Resampling.BICUBIC)))
    upscaler = Upscaler(memory="1GiB", device="cpu")
    results = [
        upscaler.run(lr, [reference]).photo.rgb
        for reference in (Photo(original), *(in_profile(original, profile, deep) for profile in (P3, PROPHOTO)))
    ]
    values = [psnr_y(original, result) for result in results]
    assert max(values) - min(values) < 0.1, values
    ignored = in_profile(original, PROPHOTO, deep)
    wrong = psnr_y(original, upscaler.run(lr, [Photo(ignored.rgb)]).photo.rgb)
    assert wrong < min(values) - 0.5  # so the conversion matters


def test_an_image_keeps_its_colour_space(model, original):
    photo = in_profile(original[:24, :32], P3, deep=False)
    result = Upscaler(model, memory="1GiB").run(photo, [Photo(original)]).photo
    assert result.icc == P3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_hidden_colours_do_not_show(model, dtype):
    """A disc over hidden black, white and noise: the same result, and no rim."""
    rows, columns = np.mgrid[:24, :24]
    inside = (rows - 12) ** 2 + (columns - 11) ** 2 < 64
    largest = 1 if dtype is np.float64 else np.iinfo(dtype).max
    colour = np.array([0.8, 0.3, 0.2]) * largest
    results = []
    for hidden in (0, largest, np.random.default_rng(0).random((24, 24, 3)) * largest):
        rgb = np.where(inside[..., None], colour, hidden)
        pixels = np.concatenate((rgb, (inside * largest)[..., None]), 2).astype(dtype)
        results.append(upscale(pixels, (), model, memory="1GiB"))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    visible = results[0][..., 3] > largest / 10
    flat = upscale(np.broadcast_to(colour.astype(dtype), (24, 24, 3)).copy(), (), model, memory="1GiB")
    difference = np.abs(results[0][..., :3].astype(float) - flat.astype(float)).max(2)[visible] / largest
    assert difference.max() < 0.02


def test_grey_in_colour_stays_grey(model):
    grey = np.random.default_rng(0).integers(0, 256, (9, 8, 1), dtype=np.uint8)
    colourful = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    result = upscale(grey.repeat(3, 2), colourful, model, memory="1GiB")
    assert result.shape == (36, 32, 3)
    assert is_neutral(result)
    np.testing.assert_array_equal(result[..., 0], upscale(grey, colourful, model, memory="1GiB")[..., 0])


def test_scales_in_python(model):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 7, 3), dtype=np.uint8)
    four = upscale(pixels, (), model, memory="1GiB")
    for scale in (1, 2, 3, 4):
        result = upscale(pixels, (), model, scale=scale, memory="1GiB")
        assert result.shape == (10 * scale, 7 * scale, 3)
        if scale > 1:
            wanted = Image.fromarray(four).resize((7 * scale, 10 * scale), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(result, np.asarray(wanted))


def test_a_model_that_is_passed_in_stays_as_it_was(model):
    model.train()
    before = {name: (x.clone(), x.data_ptr(), x.requires_grad) for name, x in model.named_parameters()}
    own = model.search
    upscaler = Upscaler(model, kernel=12, memory="1GiB", device="cpu")
    upscaler.run(Photo(np.zeros((8, 8, 3), np.uint8)))
    assert model.training
    assert model.search == own
    for name, x in model.named_parameters():
        value, place, grad = before[name]
        assert torch.equal(x, value)
        assert (x.data_ptr(), x.requires_grad) == (place, grad)


def test_upscalers_in_several_threads_do_not_disturb_each_other(model):
    rng = np.random.default_rng(0)
    photo = Photo(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    reference = Photo(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
    upscalers = [Upscaler(model, kernel=kernel, memory="1GiB", device="cpu") for kernel in (6, 12)]
    alone = [upscaler.run(photo, [reference]) for upscaler in upscalers]
    wrong = []

    def work(number: int) -> None:
        for _ in range(4):
            result = upscalers[number].run(photo, [reference])
            if result.search != alone[number].search or not np.array_equal(result.sr, alone[number].sr):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert isinstance(alone[0].search, SearchConfig)
    assert alone[0].search != alone[1].search


def test_the_callers_malloc_is_left_alone(model, monkeypatch):
    monkeypatch.setattr("extracter.memory._tune", None)
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    upscale(np.zeros((8, 8, 3), np.uint8), (), model, memory="1GiB", device="cpu")
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ


def test_files_and_pillow_images_keep_what_belongs_to_them(model, tmp_path):
    block = Image.Exif()
    block[271], block[0x0112] = "Maker", 6
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (9, 99, 9)).save(buffer, "JPEG", exif=block, dpi=(300, 300), icc_profile=srgb())
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    for image in (tmp_path / "a.jpg", str(tmp_path / "a.jpg"), Image.open(tmp_path / "a.jpg")):
        large = upscale(image, (), model, memory="1GiB")
        assert large.size == (32, 48)
        assert large.info["icc_profile"] == srgb()
        assert large.info["dpi"] == (300, 300)
        assert large.getexif()[271] == "Maker"
        assert large.getexif()[0x0112] == 1
    (tmp_path / "b.jpg").write_bytes(buffer.getvalue()[:-2])
    with pytest.warns(UserWarning, match="its end marker is missing"):
        upscale(tmp_path / "b.jpg", (), model, memory="1GiB")
