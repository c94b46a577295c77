"""The picture of what a reference adds: a row for each pair, and errors in one sentence."""

import numpy as np
import pytest
from evaluation_setup import write_checkpoint
from PIL import Image
from typer.testing import CliRunner

from extracter.cli import app
from extracter.errors import UserError
from extracter.inference.reference_figure import STEREO, figure_reference
from extracter.reporting.squares import gain_crop


def test_each_pair_is_a_row(tmp_path, photograph):
    photograph(0, 102, 98).save(tmp_path / "a.png")
    photograph(0, 130, 110).save(tmp_path / "b.jpg")
    model = write_checkpoint(tmp_path / "model")
    heights = []
    for pairs in (1, 2):
        figure_reference(
            [(tmp_path / "a.png", tmp_path / "b.jpg")] * pairs, tmp_path / "p.png", model=model, device="cpu"
        )
        picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
        heights.append(picture.shape[0])
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
    assert heights[1] > 1.8 * heights[0]


def test_a_reference_that_is_too_small_is_named(tmp_path, photograph):
    photograph(0, 100, 100).save(tmp_path / "a.png")
    photograph(1, 40, 40).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=r"small\.png: smaller than the detail of 96 x 96 pixels; choose a larger"):
        figure_reference(
            [(tmp_path / "a.png", tmp_path / "small.png")],
            tmp_path / "p.png",
            model=write_checkpoint(tmp_path / "model"),
            device="cpu",
        )


def test_the_detail_is_where_the_reference_gains_most():
    hr = np.random.default_rng(3).integers(40, 200, (240, 320, 3), dtype=np.uint8)
    without, guided = hr + 10, hr + 10
    guided[100:196, 52:148] = hr[100:196, 52:148]
    guided[0:96, 220:316] = hr[0:96, 220:316] - 12  # changed more, for the worse
    assert gain_crop(hr, without, guided) == (100, 52, 96)


def test_the_stereo_pair_is_the_default_and_each_original_needs_a_reference():
    assert all(path.is_file() for path in STEREO)
    result = CliRunner().invoke(app, ["figure-reference", "p.png", "--original", "a.png"])
    assert "1 --original and 0 --ref" in str(result.exception)
    assert "p.txt: the figure is a PNG" in str(CliRunner().invoke(app, ["figure-reference", "p.txt"]).exception)
