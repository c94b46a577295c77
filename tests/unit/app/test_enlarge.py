"""A job of the page: files in, files out, and one sentence about whatever is wrong."""

import numpy as np
import pytest
import scenes
from evaluation_setup import write_checkpoint
from PIL import Image

from extracter.app.enlarge import Settings, Wish, enlarge
from extracter.app.jobs import Job
from extracter.data.degradation import downscale
from extracter.errors import UserError
from extracter.inference.upscaler import upscale


@pytest.fixture
def model(tmp_path) -> str:
    return str(write_checkpoint(tmp_path / "model"))


@pytest.fixture
def files(tmp_path, photograph):
    photograph(0, 40, 32).save(tmp_path / "small.png")
    photograph(0, 120, 90).save(tmp_path / "sharp.jpg")
    (tmp_path / "out").mkdir()
    return tmp_path


def run(files, **choices):
    wish = Wish(files / "small.png", **choices)
    return enlarge(wish, files / "out", Settings(), Job())


@pytest.mark.parametrize(("scale", "suffix"), [(4, ".png"), (2, ".tif"), (1, ".png")])
def test_the_result_is_that_of_upscale(files, model, scale, suffix):
    done = run(files, references=[files / "sharp.jpg"], model=model, scale=scale, suffix=suffix)
    expected = upscale(files / "small.png", [files / "sharp.jpg"], model, scale=scale)
    assert done.result.name == f"small_x{scale}{suffix}"
    assert (np.asarray(Image.open(done.result)) == np.asarray(expected)).all()
    assert Image.open(done.bicubic).size == Image.open(done.sharp).size == (scale * 40, scale * 32)
    assert f"{scale * 40} x {scale * 32} pixels, exact search of 6x6 patches in 1 reference, " in done.summary
    assert [caption for _, caption in done.keys] == ["sharp.jpg"]
    assert Image.open(done.keys[0][0]).size == (120, 88)


def test_the_map_shows_the_photograph_s_shape(files, model):
    done = run(files, model=model)
    assert Image.open(done.origins).size == (1000, 800)
    assert done.keys[0][1] == "the photograph's own bicubic enlargement"
    assert "patches in the photograph itself, " in done.summary


def test_without_a_reference_to_copy_from_there_is_no_map(files):
    """Of the released model, which needs none."""
    done = run(files)
    assert (done.origins, done.keys) == (None, [])
    assert done.summary.startswith("160 x 128 pixels, no reference, ")


def test_registered_copies_are_among_the_references(files):
    """The released model searches a copy of each reference, warped onto the photograph."""
    original = scenes.scene(1)
    downscale(original).save(files / "small.png")
    scenes.seen_from(original).save(files / "sharp.jpg", quality=95)
    done = run(files, references=[files / "sharp.jpg"])
    assert [caption for _, caption in done.keys] == ["sharp.jpg", "registered copy 1"]
    assert "in 1 reference, " in done.summary


def test_a_text_named_png_is_refused(files, model):
    (files / "notes.png").write_text("no pixels at all")
    with pytest.raises(UserError, match=r"^notes\.png: not an image \(16 bytes\); replace the file or leave it out$"):
        run(files, references=[files / "notes.png"], model=model)


def test_an_upload_that_is_gone_is_named(files, model):
    with pytest.raises(UserError, match=r"^gone\.png: this upload is deleted already; drop the file again$"):
        run(files, references=[files / "gone.png"], model=model)


def test_too_many_pixels_are_refused_before_they_are_decoded(files, model):
    Image.new("L", (9000, 9000)).save(files / "huge.png")
    wish = Wish(files / "small.png", [files / "huge.png"], model)
    with pytest.raises(UserError, match="81 million pixels are too many for 600 MiB of memory; reduce"):
        enlarge(wish, files / "out", Settings(memory="600MiB"), Job())


def test_a_format_that_cannot_hold_the_result(files, model):
    Image.new("RGB", (5000, 4)).save(files / "small.png")
    with pytest.raises(UserError, match="webp holds at most 16,383 pixels"):
        run(files, model=model, suffix=".webp")
