"""Pairs of several kinds: matched points, crops that show the same place, and the mixture."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepared import contents, rows

from extracter.data import view_pairs
from extracter.data.datasets import TrainingPairs
from extracter.data.prepare import prepare_train
from extracter.errors import UserError
from extracter.presets import Mixture

matching = pytest.importorskip("extracter.data.matching", reason="OpenCV is not installed")

MIXTURE = {"warped": 1.0, "same_scene": 1.0, "unrelated": 1.0, "perspective": 0.05, "long_side": 512}


def blobs(seed: int, width: int, height: int) -> Image.Image:
    """Blobs of many sizes, which SIFT finds."""
    rng = np.random.default_rng(seed)
    layers = []
    for cell in (8, 20, 50):
        small = Image.fromarray(rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8))
        layers.append(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32))
    return Image.fromarray(np.mean(layers, 0).astype(np.uint8))


@pytest.fixture
def scenes(tmp_path, raw_set) -> Path:
    """Two single photographs, two scenes of three views each, one of them for validation."""
    raw = tmp_path / "scenes"
    for n, folder in enumerate(("scenes/a", "validation/scenes/b")):
        (raw / folder).mkdir(parents=True)
        scene = blobs(n, 500, 400)
        for view in range(3):
            left = 50 * view
            scene.crop((left, 10 * view, left + 380, 10 * view + 320)).save(raw / folder / f"{view}.png")
    for folder in ("single", "validation/single"):
        (raw / folder).mkdir()
    blobs(7, 120, 100).save(raw / "validation/single/y.png")
    blobs(8, 300, 200).save(raw / "single/x.png")
    blobs(9, 90, 60).save(raw / "single/small.png")
    raw_set.rewrite(raw, "train", source="photographs_and_views")
    return raw


@pytest.fixture
def mixed(train_data):
    def make(**changes):
        values = {"source": "photographs_and_views", "ref_size": 64, "validation_ref_size": 96, "pairs": 36}
        return train_data(**values | {"validation": 6, "scale": 1.0, "mixture": Mixture(**MIXTURE)} | changes)

    return make


def test_matched_points_show_the_same_place(scenes, tmp_path):
    views = {f"scenes/a/{n}": Image.open(scenes / f"scenes/a/{n}.png") for n in range(3)}
    found = matching.match_scenes({"scenes/a": list(views)}, views.__getitem__)
    assert [(one.first[-1], one.second[-1]) for one in found] == [("0", "1"), ("0", "2"), ("1", "2")]
    for one in found:
        assert one.inliers >= len(one.points) > 10
        step = int(one.second[-1]) - int(one.first[-1])
        moved = (one.points[:, :2] - one.points[:, 2:]) * (380, 320)
        assert np.abs(np.median(moved, 0) - (50 * step, 10 * step)).max() < 1
        assert np.array_equal(one.reversed().points[:, :2], one.points[:, 2:])
    matching.write(tmp_path / "matches.csv", found)
    again = matching.read(tmp_path / "matches.csv")
    for one, other in zip(found, again, strict=True):
        assert (one.first, one.second, one.inliers) == (other.first, other.second, other.inliers)
        assert np.abs(one.points - other.points).max() <= 0.5001 / matching.UNITS
    (tmp_path / "matches.csv").write_text("first,second,inliers,points\na,b,40,1 2\n")
    with pytest.raises(UserError, match=r"matches\.csv: not a list of matches"):
        matching.read(tmp_path / "matches.csv")


def test_photographs_without_features_do_not_match():
    flat = Image.new("RGB", (100, 80), "grey")
    assert matching.match(matching.describe(flat), matching.describe(flat), [flat.size] * 2)[0] == 0


def test_the_reference_of_a_scene_holds_what_the_input_shows(mixed):
    scene = blobs(3, 700, 500)
    first, second = scene.crop((0, 0, 500, 400)), scene.crop((60, 40, 560, 440))
    points = np.array([[(x + 60) / 500, (y + 40) / 400, x / 500, y / 400] for x in (100, 250, 400) for y in (80, 300)])
    rng = np.random.default_rng(0)
    for _ in range(5):
        hr, ref = view_pairs.crop_same_scene(first, second, points, 32, 96, mixed(scale=0.0), rng)
        assert (hr.size, ref.size) == ((32, 32), (96, 96))
        grey, wanted = (np.asarray(image.convert("L"), dtype=np.int16) for image in (ref, hr))
        views = np.lib.stride_tricks.sliding_window_view(grey, (32, 32))
        difference = np.abs(views - wanted).mean((2, 3)).min()
        assert difference < 6  # both are resized by a part of a pixel


@pytest.mark.parametrize("side", [60, 400, 1300])
def test_warped_pairs_of_any_photograph_have_their_sizes_and_no_black_corner(mixed, side):
    photograph = Image.new("RGB", (side, side * 3 // 4), (200, 200, 200))
    rng = np.random.default_rng(0)
    for _ in range(4):
        hr, ref = view_pairs.crop_warped(photograph, 32, 64, mixed(), rng)
        assert (hr.size, ref.size) == ((32, 32), (64, 64))
        assert np.asarray(ref).min() > 80
        one, other = view_pairs.crop_unrelated(photograph, photograph, 32, 64, rng)
        assert (one.size, other.size) == ((32, 32), (64, 64))


def test_photographs_are_reduced_by_a_third_where_they_stay_large_enough():
    assert [view_pairs.reduced_side(side, 1024) for side in (300, 512, 600, 1000, 4000)] == [300, 512, 512, 750, 1024]
    assert view_pairs.reduce_photograph(Image.new("RGB", (2000, 1000)), 1024).size == (1024, 512)


def test_a_mixture_of_pairs(scenes, mixed, tmp_path):
    prepare_train(mixed(), scenes, tmp_path / "out", seed=1)
    pairs = rows(tmp_path / "out", "pairs.csv")
    for split, count in (("train", 10), ("validation", 2)):
        mine = [row for row in pairs if row["split"] == split]
        assert {kind: sum(row["kind"] == kind for row in mine) for kind in view_pairs.KINDS} == dict.fromkeys(
            view_pairs.KINDS, count
        )
        assert all(row["name"].startswith("validation/") == (split == "validation") for row in mine)
        assert all(row["reference"].startswith("validation/") == (split == "validation") for row in mine)
    for row in pairs:
        assert (row["name"] == row["reference"]) == (row["kind"] == "warped")
        assert bool(row["inliers"]) == (row["kind"] == "same_scene")
        same = Path(row["name"]).parent == Path(row["reference"]).parent and "scenes" in row["name"]
        assert row["kind"] != "unrelated" or not same
    loaded = TrainingPairs(tmp_path / "out")
    assert (len(loaded), loaded.size, loaded.ref_size) == (30, 32, 64)
    assert next(loaded.validation())["ref"].shape == (1, 3, 96, 96)
    prepare_train(mixed(), scenes, tmp_path / "again", seed=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def test_given_matches_are_used_and_need_no_search(scenes, mixed, tmp_path, monkeypatch):
    prepare_train(mixed(), scenes, tmp_path / "out", seed=1)
    (scenes / "matches.csv").write_bytes((tmp_path / "out/matches.csv").read_bytes())
    monkeypatch.setattr(matching, "match_scenes", None)
    prepare_train(mixed(), scenes, tmp_path / "again", seed=1)
    assert rows(tmp_path / "out", "pairs.csv") == rows(tmp_path / "again", "pairs.csv")


def test_what_a_mixture_lacks_is_named(scenes, mixed, tmp_path, raw_set):
    shutil.rmtree(scenes / "validation")
    raw_set.rewrite(scenes, "train", source="photographs_and_views")
    with pytest.raises(UserError, match=r"no photograph in validation/; put some there"):
        prepare_train(mixed(), scenes, tmp_path / "out", seed=1)
    (scenes / "validation/single").mkdir(parents=True)
    blobs(4, 90, 90).save(scenes / "validation/single/a.png")
    raw_set.rewrite(scenes, "train", source="photographs_and_views")
    with pytest.raises(UserError, match=r"no two photographs of one scene match in the validation photographs"):
        prepare_train(mixed(), scenes, tmp_path / "out", seed=1)
