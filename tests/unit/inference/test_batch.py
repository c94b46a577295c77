"""`extracter upscale` on folders of everything that folders hold."""

from pathlib import Path

import evaluation_setup
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from extracter.cli import app
from extracter.photos.read import read_photo


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return evaluation_setup.write_checkpoint(tmp_path_factory.mktemp("model"))


def run(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments)], catch_exceptions=True)


def noise(number: int, channels: int = 3) -> np.ndarray:
    shape = (4 + number % 5, 3 + number % 7, channels)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def test_overwrite_makes_what_is_named(tmp_path, checkpoint):
    for number in range(3):
        Image.fromarray(noise(number)).save(tmp_path / f"{number}.png")
    out = tmp_path / "out"
    assert run(tmp_path, "-o", out, "--model", checkpoint).exit_code == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    arguments = (tmp_path / "0.png", tmp_path / "2.png", "-o", out, "--model", checkpoint, "--overwrite")
    assert run(*arguments).exit_code == 0
    assert {path.name for path in out.iterdir() if path.stat().st_mtime_ns != before[path.name]} == {"0.png", "2.png"}


def test_references_by_name_for_all_and_missing(tmp_path, checkpoint):
    for folder in ("in", "refs"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(("a", "b", "c")):
        Image.fromarray(noise(number)).save(tmp_path / "in" / f"{name}.png")
    for name in ("a.jpg", "b.png", "b.webp"):
        Image.fromarray(noise(9)).save(tmp_path / "refs" / name)
    result = run(tmp_path / "in", "--ref", tmp_path / "refs", "-o", tmp_path / "out", "--model", checkpoint)
    assert result.exit_code == 1
    assert "b.png: 2 references of this name" in result.stderr
    assert "c.png: no reference of this name" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    (tmp_path / "none").mkdir()
    result = run(tmp_path / "in" / "a.png", "--ref", tmp_path / "none", "-o", tmp_path / "other", "--model", checkpoint)
    assert "none, named by --ref, has no images" in result.stderr
    shared = tmp_path / "refs" / "a.jpg"
    result = run(tmp_path / "in" / "a.png", "--ref", shared, "-o", tmp_path / "one.tif", "--model", checkpoint)
    assert result.exit_code == 0, result.output
    first, second = read_photo(tmp_path / "out" / "a.png"), read_photo(tmp_path / "one.tif")
    np.testing.assert_array_equal(first.rgb, second.rgb)
    result = run(tmp_path / "in", "--ref", tmp_path / "none.jpg", "-o", tmp_path / "out", "--model", checkpoint)
    assert "none.jpg: no such file; check its path" in str(result.exception)


def test_names(tmp_path, checkpoint):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(noise(3)).save(tmp_path / name)
    out = tmp_path / "out"
    result = run(tmp_path, "-o", out, "--model", checkpoint, "--format", "webp", "--compare")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "a.jpg.compare.png", "a.jpg.webp", "a.png.compare.png", "a.png.webp", "b.compare.png", "b.webp",
    ]  # fmt: skip
    assert Image.open(out / "b.compare.png").size[0] > 1000
    for arguments, message in [
        ((tmp_path / "b.png", "-o", tmp_path / "b.png", "--overwrite"), "would replace the image itself"),
        ((tmp_path / "b.png", "-o", tmp_path / "b.gif"), "results are written as .png, .jpg"),
        ((tmp_path, "-o", tmp_path / "c.png"), "names one file and there are 9 images"),
        ((out.parent / "empty",), "empty: no such file; check its path"),
    ]:
        result = run(*arguments, *(() if "--model" in arguments else ("--model", checkpoint)))
        if message:
            assert message in str(result.exception) + result.stderr
            assert result.exit_code == 1
    (tmp_path / "empty").mkdir()
    assert "no images" in str(run(tmp_path / "empty").exception)
