"""The Python interface: what goes in comes out, four times as large."""

import subprocess
import sys
from pathlib import Path

import evaluation_setup
import numpy as np
import pytest
import scenes
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import extracter
from extracter.data.degradation import downscale
from extracter.data.degradation import upscale as bicubic
from extracter.errors import UserError
from extracter.image_tensors import to_tensor, to_uint8
from extracter.inference.batch import named_search
from extracter.inference.compare_figure import draw
from extracter.inference.pictures import to_photo
from extracter.inference.upscaler import Upscaler, parse_memory, upscale
from extracter.models.locate import RELEASED, open_model
from extracter.models.ttsr import TTSR
from extracter.photos.photo import Photo


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return evaluation_setup.write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(checkpoint):
    return open_model(checkpoint)


def forward(model, lr: Image.Image, *refs: Image.Image) -> np.ndarray:
    """The network on whole images, prepared as the workflow prepares them."""
    lr_up = bicubic(lr)
    if not refs and model.needs_reference:
        refs = (lr_up,)
    tensors = [
        to_tensor(np.asarray(image)[None]) for image in (lr, lr_up, *refs, *(bicubic(downscale(ref)) for ref in refs))
    ]
    with torch.inference_mode():
        return to_uint8(model(tensors[0], tensors[1], tensors[2 : 2 + len(refs)], tensors[2 + len(refs) :]))


def test_result_is_the_networks_on_images_prepared_as_in_the_workflow(model):
    lr, a, b = (evaluation_setup.photograph(seed, *size) for seed, size in enumerate([(20, 28), (64, 48), (40, 84)]))
    for refs in ((a,), (a, b), ()):
        ours = np.asarray(upscale(lr, refs, model, memory="1GiB")).astype(int)
        # A value that ends in a half may be rounded either way.
        assert np.abs(ours - forward(model, lr, *refs)).max() <= 1


def test_registered_copies_are_those_of_the_evaluation(checkpoint):
    """In tiles as on whole images."""
    model = open_model(checkpoint)
    model.registration = True
    original = scenes.scene(1)
    reference = scenes.seen_from(original)
    lr = downscale(original)
    result = Upscaler(model, memory="300MiB", device="cpu").run(to_photo(lr)[0], [to_photo(reference)[0]])
    assert len(result.inputs.refs) == 2
    copy = Image.fromarray(result.inputs.refs[1])
    assert np.abs(result.photo.rgb.astype(int) - forward(model, lr, reference, copy)).max() <= 1
    assert (result.photo.rgb != np.asarray(upscale(lr, reference, open_model(checkpoint)))).any()
    alone = Upscaler(model, memory="300MiB", device="cpu").run(to_photo(lr)[0])
    assert len(alone.inputs.refs) == 1


def test_a_model_that_needs_no_reference_searches_none(tmp_path):
    """The released model: as in the evaluation, and the figure has no map of origins."""
    lr = downscale(scenes.scene(1))
    result = Upscaler(memory="600MiB", device="cpu", precision="32").run(to_photo(lr)[0])
    assert (len(result.inputs.refs), result.matches, named_search(result)) == (0, None, "no reference")
    assert np.abs(result.photo.rgb.astype(int) - forward(open_model(None), lr)).max() <= 1
    draw(result, tmp_path / "compare.png")
    assert Image.open(tmp_path / "compare.png").size[0] > 1000


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["L", "RGB", "P"]),
    st.sampled_from([3, 6, 12]),
)
def test_every_mode_and_size(model, height, width, mode, ref, ref_mode, kernel):
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise).convert(mode)
    reference = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*ref, 3), dtype=np.uint8)).convert(ref_mode)
    large = upscale(image, reference, model, kernel=kernel, memory="1GiB")
    assert large.size == (4 * width, 4 * height)
    assert large.mode == {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)


def test_alpha_goes_bicubically_beside(model):
    pixels = np.random.default_rng(0).integers(1, 256, (9, 7, 4), dtype=np.uint8)
    large = upscale(pixels, (), model, memory="1GiB")
    wanted = Image.fromarray(pixels[..., 3]).resize((28, 36), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(large[..., 3], np.asarray(wanted))
    np.testing.assert_array_equal(large[..., :3], upscale(pixels[..., :3], (), model, memory="1GiB"))


def test_kinds_agree(model):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    eight = upscale(pixels, (), model, memory="1GiB")
    sixteen = upscale(pixels.astype(np.uint16) * 257, (), model, memory="1GiB")
    floating = upscale(pixels / 255, (), model, memory="1GiB")
    tensor = upscale(torch.from_numpy(pixels / 255).movedim(2, 0), (), model, memory="1GiB")
    batch = upscale(torch.from_numpy(pixels / 255).movedim(2, 0).expand(2, -1, -1, -1), (), model, memory="1GiB")
    assert (eight.dtype, sixteen.dtype, floating.dtype) == (np.uint8, np.uint16, np.float64)
    # LR_up is rounded to 8 bits in the first alone.
    assert np.abs(eight / 255 - sixteen / 65535).mean() < 0.01
    np.testing.assert_allclose(floating, sixteen / 65535, atol=2e-3)
    np.testing.assert_allclose(tensor.movedim(0, 2).numpy(), floating, atol=1e-6)
    assert torch.equal(batch[1], tensor)


def test_grey_arrays_stay_grey(model):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    assert upscale(pixels, (), model, memory="1GiB").shape == (36, 28)
    assert upscale(pixels[..., None], (), model, memory="1GiB").shape == (36, 28, 1)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.int32),
        np.full((4, 4, 3), 7.0),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(4, 4, 3),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        [[1, 2]],
    ],
)
def test_what_is_no_image(model, bad):
    with pytest.raises(ValueError, match=r"array|tensor|floating-point"):
        upscale(bad, (), model)


def test_several_references_are_searched_together(model):
    """With both halves of a picture as references an image finds what it finds in the better one."""
    lr, a, b = (evaluation_setup.photograph(seed, 32, 48) for seed in (0, 1, 0))
    photos = [Photo(np.asarray(image)) for image in (lr, a, b)]
    upscaler = Upscaler(model, memory="1GiB")
    both = upscaler.run(photos[0], photos[1:]).matches
    single = [upscaler.run(photos[0], [photo]).matches for photo in photos[1:]]
    best = torch.maximum(single[0].scores[:, 0], single[1].scores[:, 0])
    torch.testing.assert_close(both.scores[:, 0], best)
    assert both.keys == single[0].keys + single[1].keys


def test_models_own_search_is_left_as_it_was(model):
    own = model.search
    upscale(np.zeros((4, 4, 3), np.uint8), (), model, kernel=12, memory="1GiB")
    assert model.search == own


@pytest.mark.parametrize(("options", "message"), [
    ({"kernel": 5}, "--kernel 5"),
    ({"memory": "lots"}, "--memory lots: not a size"),
    ({"memory": "1MiB"}, "--memory: 1 MiB is too little for this image and its references; the minimum is"),
    ({"precision": 32}, "precision=32: allowed are 'auto', '32'"),
    ({"scale": "4"}, "scale='4': allowed are 1, 2, 3, 4"),
    ({"threads": 0}, "--threads 0: allowed are 1 to"),
    ({"threads": 100_000}, "--threads 100000: allowed are 1 to"),
    ({"kernel": 51}, "--kernel 51: .*48"),
    ({"precision": "16", "device": "cpu"}, "--precision 16 needs a GPU"),
    ({"device": "abacus"}, "--device abacus"),
])  # fmt: skip
def test_options_that_do_not_fit(model, options, message):
    with pytest.raises(UserError, match=message):
        upscale(np.zeros((4, 4, 3), np.uint8), (), model, **options)


def test_sizes_of_memory():
    assert parse_memory("4GiB") == 4 * 2**30
    assert parse_memory("4g") == parse_memory("4096 MB") == parse_memory(4 * 2**30)
    for text in ("2", "", "4 apples", "-1", "0", "GiB"):
        with pytest.raises(UserError, match="not a size"):
            parse_memory(text)


def test_importing_the_package_is_cheap_and_knows_its_names():
    code = "import sys, extracter; assert 'torch' not in sys.modules; from extracter import upscale, Extracter; "
    code += "assert callable(upscale) and 'torch' in sys.modules; import extracter.commands.upscale; "
    code += "from extracter import upscale; assert upscale.__module__ == 'extracter.inference.upscaler'"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"Extracter", "upscale"} <= set(dir(extracter))
    with pytest.raises(AttributeError, match="nothing"):
        extracter.nothing  # noqa: B018


def test_the_command_loads_no_library_that_it_does_not_use(photograph, tmp_path):
    """Start-up counts: each of these takes a tenth of a second or more."""
    photograph(1, 32, 32).save(tmp_path / "small.png")
    photograph(1, 96, 96).save(tmp_path / "sharp.png")
    code = "import sys; from typer.testing import CliRunner; from extracter.cli import app; "
    code += "assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0; "
    code += "loaded = {'torch', 'cv2', 'pandas', 'torchvision', 'lightning_fabric', 'skimage', 'matplotlib'}; "
    code += "print(*sorted(loaded & set(sys.modules)))"
    words = ["upscale", "small.png", "--ref", "sharp.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["cv2", "torch"]


def test_pretrained_round_trip(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = extracter.Extracter.from_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(upscale(pixels, (), again), upscale(pixels, (), model))
    np.testing.assert_array_equal(upscale(pixels, (), tmp_path), upscale(pixels, None, model))
    with pytest.raises(UserError, match="class Extracter"):
        TTSR.from_pretrained(RELEASED)
