"""Prepared sets: what they hold, that two runs agree, and that wrong raw files are named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from prepared import contents, rows

from extracter.data import prepare_pairs
from extracter.data.degradation import downscale, upscale
from extracter.data.pairs import Region
from extracter.data.prepare import prepare_test, prepare_train
from extracter.errors import UserError

CUFED5 = {f"00{n}_{rank}.png": (40 + n, 30 + rank) for n in range(3) for rank in range(6)}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_own_references_by_rank(raw_set, test_data, tmp_path):
    raw, out = raw_set("cufed5", CUFED5, "cufed5"), tmp_path / "out"
    prepare_test("cufed5", test_data("own"), raw, out, seed=1)
    found = rows(out)
    assert [(r["image"], r["rank"]) for r in found] == [
        (f"hr/00{n}.png", str(k)) for n in range(3) for k in range(1, 6)
    ]
    assert found[6]["reference"] == "ref/001_2.png"
    assert found[6]["reference_du"] == "ref_du/001_2.png"
    hr = Image.open(raw / "001_0.png").crop((0, 0, 40, 28))
    assert np.array_equal(pixels(out / "hr/001.png"), np.asarray(hr))
    assert np.array_equal(pixels(out / "lr/001.png"), np.asarray(downscale(hr)))
    assert np.array_equal(pixels(out / "lr_up/001.png"), np.asarray(upscale(downscale(hr))))
    ref = Image.open(raw / "001_2.png").crop((0, 0, 40, 32))
    assert np.array_equal(pixels(out / "ref/001_2.png"), np.asarray(ref))
    assert np.array_equal(pixels(out / "ref_du/001_2.png"), np.asarray(upscale(downscale(ref))))


def test_self_references_are_the_inputs_own_bicubic(raw_set, test_data, tmp_path):
    prepare_test(
        "set14", test_data("self"), raw_set("set14", {"img_003_SRF_4_HR.png": (33, 41)}), tmp_path / "out", seed=1
    )
    assert rows(tmp_path / "out") == [
        {"image": "hr/img_003.png", "rank": "1", "reference": "lr_up/img_003.png", "reference_du": "ref_du/img_003.png"}
    ]
    lr_up = Image.open(tmp_path / "out/lr_up/img_003.png")
    assert np.array_equal(pixels(tmp_path / "out/ref_du/img_003.png"), np.asarray(upscale(downscale(lr_up))))


def test_random_references_are_other_images_drawn_from_the_seed(raw_set, test_data, tmp_path):
    raw = raw_set("urban100", {f"{n:02}.png": (24, 24) for n in range(30)})
    lists = []
    for number, seed in enumerate((1, 1, 2)):
        prepare_test("urban100", test_data("random"), raw, tmp_path / str(number), seed=seed)
        lists.append(rows(tmp_path / str(number)))
    assert lists[0] == lists[1] != lists[2]
    assert all(row["image"] != row["reference"] for row in lists[0])
    assert all(row["reference_du"] == row["reference"].replace("hr/", "lr_up/") for row in lists[0])
    assert len({row["reference"] for row in lists[0]}) > 10


def test_two_runs_agree_byte_for_byte(raw_set, test_data, train_data, tmp_path):
    raw = raw_set("cufed5", CUFED5, "cufed5")
    photos = raw_set("train", {"a.png": (120, 60), "b.png": (70, 90)})
    for run in ("a", "b"):
        prepare_test("cufed5", test_data("own"), raw, tmp_path / run / "cufed5", seed=1)
        prepare_train(train_data(), photos, tmp_path / run / "train", seed=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    prepare_train(train_data(), photos, tmp_path / "c/train", seed=2)
    assert contents(tmp_path / "a/train")["hr.npy"] != contents(tmp_path / "c/train")["hr.npy"]


def test_wrong_raw_files_are_named_and_leave_no_manifest(raw_set, test_data, tmp_path):
    raw, out = raw_set("cufed5", CUFED5, "cufed5"), tmp_path / "out"
    size = (raw / "001_3.png").stat().st_size
    (raw / "001_3.png").write_bytes((raw / "001_3.png").read_bytes()[:64])
    with pytest.raises(
        UserError, match=rf"cufed5/001_3\.png: truncated PNG \(64 of {size:,} bytes\); delete it and .*"
    ):
        prepare_test("cufed5", test_data("own"), raw, out, seed=1)
    assert not (out / "manifest.json").exists()
    raw_set.rewrite(raw, "cufed5", "cufed5")
    with pytest.raises(UserError, match=r"001_3\.png: truncated or damaged image"):
        prepare_test("cufed5", test_data("own"), raw, out, seed=1)


def test_what_does_not_fit_the_parameters_is_refused(raw_set, test_data, train_data, tmp_path):
    one = raw_set("set14", {"a.png": (20, 20)})
    with pytest.raises(UserError, match="holds set14 from demo, not urban100 from demo"):
        prepare_test("urban100", test_data(), one, tmp_path / "out", seed=1)
    with pytest.raises(UserError, match="two images"):
        prepare_test("set14", test_data("random"), one, tmp_path / "out", seed=1)
    with pytest.raises(UserError, match="no reference of its own"):
        prepare_test("set14", test_data("own"), one, tmp_path / "out", seed=1)
    with pytest.raises(UserError, match="not train from demo"):
        prepare_train(train_data(), one, tmp_path / "out", seed=1)
    photos = raw_set("train", {"a.png": (90, 90)})
    with pytest.raises(UserError, match=r"data\.train\.validation: 24 of 24"):
        prepare_train(train_data(validation=24), photos, tmp_path / "out", seed=1)
    small = raw_set("train", {"a.png": (40, 40)})
    with pytest.raises(UserError, match="too small to hold out"):
        prepare_train(train_data(), small, tmp_path / "out", seed=1)
    tiny = raw_set("sun80", {"a.png": (3, 40), "b.png": (20, 20)})
    with pytest.raises(UserError, match=r"sun80/a\.png: .*3x40 pixels is too small"):
        prepare_test("sun80", test_data(), tiny, tmp_path / "out", seed=1)


def test_training_arrays(raw_set, train_data, tmp_path):
    photos = raw_set("train", {"a.png": (120, 60), "b.png": (70, 90), "small.png": (20, 25)})
    prepare_train(train_data(), photos, tmp_path / "out", seed=1)
    arrays = {name: np.load(tmp_path / f"out/{name}.npy") for name in ("hr", "ref", "validation_hr", "validation_ref")}
    counts = {name: 4 if name.startswith("validation") else 20 for name in arrays}
    assert all(a.dtype == np.uint8 and a.shape == (counts[name], 32, 32, 3) for name, a in arrays.items())
    pairs = rows(tmp_path / "out", "pairs.csv")
    assert [(row["split"], int(row["index"])) for row in pairs] == [
        *(("train", n) for n in range(20)), *(("validation", n) for n in range(4))
    ]  # fmt: skip
    assert {row["name"] for row in pairs} == {"a", "b", "small"}
    assert {row["kind"] for row in pairs} == {"warped"}
    assert not np.array_equal(arrays["hr"], arrays["ref"])
    assert Image.open(tmp_path / "out/contact_sheet.png").height > 600


def test_every_pair_is_cut_from_the_photograph_it_names(raw_set, train_data, tmp_path):
    photos = raw_set("train", {"a.png": (120, 60), "b.png": (70, 90)})
    prepare_train(train_data(), photos, tmp_path / "out", seed=1)
    hr = {"train": np.load(tmp_path / "out/hr.npy"), "validation": np.load(tmp_path / "out/validation_hr.npy")}
    for row in rows(tmp_path / "out", "pairs.csv"):
        photo = pixels(photos / f"{row['name']}.png")
        views = np.lib.stride_tricks.sliding_window_view(photo, (32, 32, 3))[:, :, 0]
        places = np.argwhere((views == hr[row["split"]][int(row["index"])]).all(axis=(2, 3, 4)))
        assert len(places) == 1
        along = 1 if row["name"] == "a" else 0
        edge = 120 - 32 if row["name"] == "a" else 90 - 32
        if row["split"] == "train":
            assert places[0][along] + 32 <= edge
        else:
            assert places[0][along] >= edge


@given(st.lists(st.tuples(st.integers(10, 300), st.integers(10, 300)), min_size=2, max_size=60), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_training_and_validation_share_no_pixel(sizes, validation):
    from extracter.presets import TrainData

    data = TrainData(
        source="demo", folder=None, size=32, pairs=100, validation=validation, shift=0.1, scale=0.1, rotation=1.0,
        photometry=0.1, ref_size=None, validation_ref_size=None, mixture=None,
    )  # fmt: skip
    entries = [{"path": f"{n}.png", "sha256": str(n - n % 7 % 2)} for n in range(len(sizes))]
    train, held_out = prepare_pairs.split_photographs(entries, sizes, data, 3)
    assert train
    assert held_out
    for crops in (*train, *held_out):
        width, height = (max(side, 32) for side in sizes[int(crops.entry["path"][:-4])])
        assert 0 <= crops.region.left <= crops.region.right - 32 <= width - 32
        assert 0 <= crops.region.top <= crops.region.bottom - 32 <= height - 32
    for one in train:
        for other in held_out:
            if one.entry == other.entry:
                a, b = one.region, other.region
                assert a.right <= b.left or a.bottom <= b.top
    if len(sizes) >= 20:
        assert not {c.entry["sha256"] for c in train} & {c.entry["sha256"] for c in held_out}


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=30), st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_pairs_are_shared_out_by_area(sizes, pairs):
    all_crops = [
        prepare_pairs.Crops({"path": f"{n}.png"}, Region(0, 0, w, h), "train") for n, (w, h) in enumerate(sizes)
    ]
    total = sum(w * h for w, h in sizes)
    shared = prepare_pairs.allot(all_crops, pairs)
    assert sum(crops.count for crops in shared) == pairs
    for crops in shared:
        assert abs(crops.count - pairs * crops.region.width * crops.region.height / total) < 1


def test_published_pairs(raw_set, train_data, tmp_path):
    files = {f"{side}/{n:03}.png": (32, 32) for side in ("input", "ref") for n in range(10)} | {"ref/004.png": (20, 28)}
    raw = raw_set("train", files, "pairs", "cufed")
    data = train_data(source="cufed", pairs=None, validation=3)
    prepare_train(data, raw, tmp_path / "out", seed=1)
    folders = {"train": "", "validation": "validation_"}
    arrays = {s: [np.load(tmp_path / f"out/{p}{n}.npy") for n in ("hr", "ref")] for s, p in folders.items()}
    pairs = rows(tmp_path / "out", "pairs.csv")
    assert sum(row["split"] == "validation" for row in pairs) == 3
    for row in pairs:
        hr, ref = (array[int(row["index"])] for array in arrays[row["split"]])
        assert np.array_equal(hr, pixels(raw / f"input/{row['name']}.png"))
        if row["name"] == "004":
            assert np.array_equal(ref[:28, :20], pixels(raw / "ref/004.png"))
            assert np.array_equal(ref[:, 20:], ref[:, 8:20][:, ::-1])
        else:
            assert np.array_equal(ref, pixels(raw / f"ref/{row['name']}.png"))
    (raw / "ref/003.png").unlink()
    raw_set.rewrite(raw, "train", "pairs", "cufed")
    with pytest.raises(UserError, match=r"1 images have no partner .* 003"):
        prepare_train(data, raw, tmp_path / "out", seed=1)


def test_a_published_input_of_another_size_is_named(raw_set, train_data, tmp_path):
    raw = raw_set("train", {f"{s}/{n}.png": (48, 48) for s in ("input", "ref") for n in range(9)}, "pairs", "cufed")
    with pytest.raises(UserError, match=r"input/0\.png: 48x48 pixels instead of 32x32 \(data\.train\.size\)"):
        prepare_train(train_data(source="cufed", pairs=None), raw, tmp_path / "out", seed=1)


def test_a_full_disk_leaves_the_earlier_arrays(raw_set, train_data, tmp_path, monkeypatch):
    photos = raw_set("train", {"a.png": (120, 60)})
    prepare_train(train_data(), photos, tmp_path / "out", seed=1)
    before = contents(tmp_path / "out")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_pairs, "crop_pair", full)
    with pytest.raises(UserError, match=r"\.npy: cannot be written \(No space left on device\)"):
        prepare_train(train_data(), photos, tmp_path / "out", seed=2)
    assert contents(tmp_path / "out") == before
