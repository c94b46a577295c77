"""Benchmarks of photographs: what is measured, not how fast it is."""

import csv

import numpy as np
import pytest
from PIL import Image

from extracter.benchmarks.figure import figure_photo
from extracter.benchmarks.photograph import bench_photo
from extracter.benchmarks.quality import bench_views
from extracter.data import manifest
from extracter.errors import UserError


def photograph(path, shift: int, size=(120, 96)):
    """A smooth texture; another shift shows the same scene."""
    x, y = np.meshgrid(np.arange(size[0]) + shift, np.arange(size[1]))
    waves = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 4), np.sin(x * y / 300)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.stack(waves, 2) * 100 + 128).astype(np.uint8)).save(path, format="PNG")
    return path


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_searches_and_results_of_a_photograph(tmp_path):
    pair = [photograph(tmp_path / f"{shift}.png", shift) for shift in (0, 8)]
    out = tmp_path / "photo.csv"
    bench_photo(*pair, out, parts=["search", "quality"], sizes=[64, 112], megapixels=[])
    rows = rows_of(out)
    assert [(row["part"], row["method"]) for row in rows[:4]] == [("search", "exact"), ("search", "fast")] * 2
    exact, fast = rows[2:4]
    assert float(exact["multiply_adds"]) == pytest.approx((28 * 22) ** 2 * 64, rel=1e-4)
    assert float(fast["multiply_adds"]) > 0
    assert float(fast["recall"]) > 0.5
    quality = {row["method"]: float(row["psnr_y"]) for row in rows if row["part"] == "quality" and row["size"] == "112"}
    assert list(quality) == ["bicubic", "exact", "fast", "kernel6", "kernel12", "none"]
    assert abs(quality["exact"] - quality["fast"]) < 0.5
    figure_photo(out, tmp_path / "photo.png")
    assert Image.open(tmp_path / "photo.png").width > 500
    with pytest.raises(UserError, match="--part time: allowed are search, quality, command"):
        bench_photo(*pair, out, parts=["time"], sizes=[], megapixels=[])


def test_pairs_of_views(tmp_path, capsys):
    raw, out = tmp_path / "views", tmp_path / "views.csv"
    paths = ("arches_ridge/JDW_9519.jpg", "arches_ridge/JDW_9518.jpg", "st_pauls/3.jpg")
    for number, path in enumerate(paths):
        photograph(raw / path, 8 * number)
    manifest.write(raw, "views", "published", stand_in=False, files=[manifest.describe(raw, path) for path in paths])
    bench_views(raw, out, size=96, crop=64, methods=["exact", "fast"])
    rows = rows_of(out)
    assert [(row["reference"], row["level"]) for row in rows] == [(paths[1], "2"), (paths[2], "5")]
    assert all(float(row["exact"]) > 10 and row["crop"] == "64" and row["kernel6"] == "" for row in rows)
    assert "unrelated references, 1 pairs: fast - exact" in capsys.readouterr().out
    with pytest.raises(UserError, match="--size 400: no pair of `views` has photographs as large"):
        bench_views(raw, out, size=400, methods=["fast"])
    with pytest.raises(UserError, match="--method slow: allowed are exact, fast"):
        bench_views(raw, out, size=96, methods=["slow"])
