"""Figures: the same bytes for the same inputs, and what they show."""

import shutil

import numpy as np
import pytest
from evaluation_setup import write_test_set
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from summaries import kernel

from extracter.data.datasets import TestSet
from extracter.errors import UserError
from extracter.metrics import luma
from extracter.reporting import figure_comparison as module
from extracter.reporting.figure_comparison import SHOWN, figure_comparison
from extracter.reporting.figures import figure_kernels, figure_training
from extracter.reporting.squares import worst_crop

COLUMNS = "step,loss,rec,perc,grad,adv,critic,validation_psnr\n"


def log(folder, variant, *rows):
    path = folder / variant / "train_log.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(COLUMNS + "".join(f"{step},,{rec},,,,,{psnr}\n" for step, rec, psnr in rows))
    return path


@pytest.fixture
def results(tmp_path):
    """Three images; Extracter-rec gains most on c, least on a."""
    folder = write_test_set(tmp_path / "set", sizes=((64, 48), (52, 72), (120, 128)))
    for inputs in TestSet(folder):
        up = np.asarray(Image.open(folder / "lr_up" / f"{inputs.name}.png"), np.float64)
        for variant in SHOWN:
            share = {"a": 0.1, "b": 0.3, "c": 0.6}[inputs.name] if variant == "extracter-rec" else 0
            path = tmp_path / "sr" / variant / "set14" / f"{inputs.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((up + share * (inputs.hr_pixels - up)).round().astype(np.uint8)).save(path)
    return tmp_path


def same_twice(draw, out):
    draw(out)
    first = out.read_bytes()
    draw(out)
    assert out.read_bytes() == first
    image = Image.open(out)
    assert image.format == "PNG"
    assert not image.info.get("Software")
    return np.asarray(image.convert("RGB"))


def test_comparison_is_reproducible_and_shows_the_median(results, monkeypatch):
    labels = []

    def show(axes, pixels, label):
        labels.append(label)
        draw(axes, pixels, label)

    draw = module.show_image
    monkeypatch.setattr(module, "show_image", show)
    pixels = same_twice(lambda out: figure_comparison([results / "set"], results / "sr", out), results / "c.png")
    assert pixels.std() > 10
    assert [label.split("\n")[0] for label in labels[:9]] == [
        "Set14 (stand-in): b", "LR", "Bicubic", "TTSR-rec", "Extracter-rec", "Extracter", "Extracter-rec, released",
        "reference (random)", "HR",
    ]  # fmt: skip
    assert all(label.endswith(" dB") for label in labels[2:7])

    labels.clear()
    shutil.rmtree(results / "sr/ttsr-rec")  # a preset that does not train it
    figure_comparison([results / "set"], results / "sr", results / "c.png")
    assert not any("TTSR" in label for label in labels)


def test_comparison_refuses_what_is_missing_or_of_another_size(results):
    path = results / "sr/ttsr-rec/set14/b.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(UserError, match=r"ttsr-rec/set14/b.png: not of the size of b"):
        figure_comparison([results / "set"], results / "sr", results / "c.png")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"ttsr-rec/set14/b.png: not an image"):
        figure_comparison([results / "set"], results / "sr", results / "c.png")
    path.unlink()
    with pytest.raises(UserError, match=r"ttsr-rec/set14/b.png: no such file; evaluate ttsr-rec on set14 first"):
        figure_comparison([results / "set"], results / "sr", results / "c.png")
    assert not (results / "c.png").exists()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 45), st.integers(3, 45))
def test_the_detail_is_where_most_is_lost(seed, rows, columns):
    rng = np.random.default_rng(seed)
    hr, bicubic = rng.integers(0, 256, (2, 4 * rows, 4 * columns, 3), dtype=np.uint8)
    top, left, side = worst_crop(hr, bicubic)
    error = (luma(hr) - luma(bicubic)) ** 2
    assert side == min(96, *hr.shape[:2])
    sums = {
        (y, x): error[y : y + side, x : x + side].sum()
        for y in range(0, hr.shape[0] - side + 1, 4)
        for x in range(0, hr.shape[1] - side + 1, 4)
    }
    assert sums[top, left] == pytest.approx(max(sums.values()))


def test_training_curves_are_reproducible(tmp_path):
    logs = [
        log(tmp_path, "ttsr-rec", (10, 0.05, 25.0), (20, 0.04, 26.0)),
        log(tmp_path, "ttsr", (10, 0.03, 26.5), (20, 0.03, "")),
        log(tmp_path, "extracter", (10, "", 26.5)),
    ]
    pixels = same_twice(lambda out: figure_training(logs, out), tmp_path / "t.png")
    assert (pixels != 255).any()


def test_what_is_no_training_log_is_refused(tmp_path):
    path = log(tmp_path, "ttsr")
    for content, says in (
        (COLUMNS, "has no steps; delete it and train the model again"),
        ("step,rec\n1,2\n", "has no column `validation_psnr`"),
        (COLUMNS + "1,1,high,,,,,\n", "not a table as expected"),
        ("", "not a table as expected"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=rf"ttsr/train_log.csv: {says}"):
            figure_training([path], tmp_path / "t.png")
    with pytest.raises(UserError, match="no such file"):
        figure_training([tmp_path / "none.csv"], tmp_path / "t.png")


def test_kernels_are_reproducible_and_show_what_did_not_fit(tmp_path):
    fitting = [kernel(tmp_path, name, side, "chunked") for name in ("sun80", "urban100") for side in (3, 6)]
    dense = [kernel(tmp_path, "sun80", 6, "dense"), kernel(tmp_path, "sun80", 3, "dense", fits=False)]
    whole = same_twice(lambda out: figure_kernels([*dense, *fitting], out), tmp_path / "k.png")
    part = same_twice(lambda out: figure_kernels(fitting, out), tmp_path / "k.png")
    assert (whole != part).any()
