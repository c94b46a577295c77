"""Sets that the user supplies: whole, verified, and clear about what is wrong."""

import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from supplied_sets import CUFED5, png

from extracter.data import manifest
from extracter.data.datasets import TestSet, TrainingPairs
from extracter.data.prepare import prepare_test, prepare_train
from extracter.download import registry, supplied
from extracter.download.download import download
from extracter.errors import UserError
from extracter.presets import TestData

CUFED = [f"{side}/{n:06}.png" for side in ("input", "ref") for n in range(11871)]


def published(references: str = "own") -> TestData:
    return TestData(source="published", folder=None, references=references)


def write(folder: Path, names: list[str], width: int = 16, height: int = 12) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number, width, height))
    return folder


def get(name: str, source, out: Path, local: Path, every: int = 1) -> None:
    download(name, source, out, mirror=None, local=str(local), every=every)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_cufed5_by_hand(kind, tmp_path):
    mine = write(tmp_path / "mine/CUFED5", CUFED5).parent
    if kind == "zip":
        mine = tmp_path / "CUFED5.zip"
        with zipfile.ZipFile(mine, "w") as archive:
            for number, name in enumerate(CUFED5):
                archive.writestr(f"CUFED5/{name}", png(number, 16, 12))
    elif kind == "tar":
        mine = tmp_path / "CUFED5.tar.gz"
        with tarfile.open(mine, "w:gz") as archive:
            archive.add(tmp_path / "mine/CUFED5", "CUFED5")
    out = tmp_path / "raw"
    write(out / ".unpacked-abc", ["left-by-a-run-that-was-killed.png"])
    get("cufed5", published(), out, mine)
    content = manifest.read(out)
    assert (content["layout"], content["stand_in"], content["origin"]) == ("cufed5", False, "the user")
    assert [entry["path"] for entry in content["files"]] == CUFED5
    assert (out / "017_3.png").read_bytes() == (tmp_path / "mine/CUFED5/017_3.png").read_bytes()
    assert {path.name for path in out.iterdir()} == {*CUFED5, "manifest.json"}
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    prepare_test("cufed5", published(), out, tmp_path / "prepared", seed=1)
    images = list(TestSet(tmp_path / "prepared"))
    assert len(images) == 126
    assert (images[17].name, images[17].reference) == ("017", "017_1")


def test_every_fourth_input_with_its_references(tmp_path):
    get("cufed5", published(), tmp_path / "raw", write(tmp_path / "mine", CUFED5), every=4)
    names = [entry["path"] for entry in manifest.read(tmp_path / "raw")["files"]]
    assert len(names) == 31 * 6
    assert names[:7] == [*(f"003_{rank}.png" for rank in range(6)), "007_0.png"]


def test_cufed5_that_is_not_whole_is_refused(tmp_path):
    mine = write(tmp_path / "mine", CUFED5)
    (mine / "101_3.png").unlink()
    with pytest.raises(UserError, match=r"data\.local\.cufed5: .*mine: of input 101 101_3 is wanted; supply the whole"):
        get("cufed5", published(), tmp_path / "raw", mine)
    for rank in (0, 1, 2, 4, 5):
        (mine / f"101_{rank}.png").unlink()
    with pytest.raises(UserError, match=r"125 inputs, 126 are wanted, named NNN_0\.png with"):
        get("cufed5", published(), tmp_path / "raw", mine)
    write(tmp_path / "mine/copy", ["000_0.png"])
    with pytest.raises(UserError, match=r"000_0\.png comes twice, as 000_0\.png and as copy/000_0\.png"):
        get("cufed5", published(), tmp_path / "raw", mine)
    assert not list(tmp_path.glob("raw/*"))


def test_a_broken_image_is_named_where_the_user_has_it(tmp_path):
    mine = write(tmp_path / "mine", CUFED5)
    (mine / "012_3.png").write_bytes((mine / "012_3.png").read_bytes()[:60])
    with pytest.raises(
        UserError, match=r"mine/012_3\.png: truncated or damaged image \(60 bytes.*; replace it \(data\.local"
    ):
        get("cufed5", published(), tmp_path / "raw", mine)
    assert not (tmp_path / "raw/manifest.json").exists()


def test_all_broken_images_of_a_folder_are_named_at_once(tmp_path, train_data):
    mine = write(tmp_path / "mine", [f"{number:02}.png" for number in range(14)])
    for number in range(12):
        (mine / f"{number:02}.png").write_bytes(b"broken")
    tifffile.imwrite(mine / "00.png", np.full((4, 4), 7, np.float32))
    with pytest.raises(UserError) as error:
        download(
            "train", train_data(source="folder", folder=str(mine)), tmp_path / "raw", mirror=None, local=None, every=1
        )
    lines = str(error.value).splitlines()
    assert lines[0].startswith(
        f"{mine}/00.png: 32-bit floating-point pixels from 7 to 7, which have no defined white level"
    )
    key = f"replace it (data.train.folder: {mine})"
    assert lines[1:] == [
        *(f"{mine}/{number:02}.png: not an image (6 bytes); {key}" for number in range(1, 10)),
        "and 2 more",
    ]
    assert not (tmp_path / "raw/manifest.json").exists()


@pytest.fixture
def memory():
    """A folder in memory where the system has one: some disks take minutes to remove 23,742 files."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def test_cufed_by_hand_in_its_true_layout_and_count(memory, train_data, tiny_preset):
    archived = memory / "CUFED.tar"
    with tarfile.open(archived, "w") as archive:
        full, narrow = ([png(number, width, 32) for number in range(100)] for width in (32, 24))
        for number, name in enumerate(CUFED):
            smaller = name.startswith("ref") and number % 50 == 0  # as some references are
            data = (narrow if smaller else full)[number % 100]
            member = tarfile.TarInfo(f"CUFED/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    source = train_data(source="cufed", pairs=None, validation=128)
    get("train", source, memory / "raw", archived)
    assert manifest.read(memory / "raw")["layout"] == "pairs"
    prepare_train(source, memory / "raw", memory / "prepared", seed=1)
    pairs = TrainingPairs(memory / "prepared")
    assert (len(pairs), len(pairs.rows["validation"])) == (11871 - 128, 128)
    assert pairs.batch(0, tiny_preset.train.model_copy(update={"batch": 9}), 1)["hr"].shape == (9, 3, 32, 32)


def test_cufed_that_is_not_whole_is_refused(tmp_path, train_data, monkeypatch):
    from dataclasses import replace

    small = replace(registry.TRAIN_SOURCES["cufed"], images=3)
    monkeypatch.setitem(registry.TRAIN_SOURCES, "cufed", small)
    source = train_data(source="cufed", pairs=None)
    names = [f"{side}/{n}.png" for side in ("input", "ref") for n in range(3)]
    mine = write(tmp_path / "mine", names)
    (mine / "ref/2.png").rename(mine / "ref/3.png")
    with pytest.raises(UserError, match="2 has no partner in input/ or ref/"):
        get("train", source, tmp_path / "raw", mine)
    (mine / "ref/3.png").unlink()
    with pytest.raises(UserError, match=r"2 references, 3 are wanted, input/NAME\.png and ref/NAME\.png"):
        get("train", source, tmp_path / "raw", mine)


def test_sun80_with_its_scene_matches(tmp_path):
    names = [f"Sun_Hays_SR_groundtruth/s{n}.jpg.png" for n in range(80)]
    names += [f"Sun_Hays_SR_scenematches/s{n}.jpg.png/{k:02}.png" for n in range(80) for k in range(3)]
    mine = write(tmp_path / "mine", names)
    get("sun80", published(), tmp_path / "raw", mine)
    assert manifest.read(tmp_path / "raw")["layout"] == "sun_hays"
    prepare_test("sun80", published(), tmp_path / "raw", tmp_path / "prepared", seed=1)
    assert len(TestSet(tmp_path / "prepared")) == 80
    for k in range(3):
        (mine / f"Sun_Hays_SR_scenematches/s7.jpg.png/{k:02}.png").unlink()
    with pytest.raises(UserError, match=r"s7\.jpg\.png has no partner"):
        get("sun80", published(), tmp_path / "raw", mine)


def test_a_pinned_set_by_hand_is_held_against_its_checksums(tmp_path, monkeypatch):
    names = [f"img_{n:03}_SRF_4_HR.png" for n in range(1, 15)]
    mine = write(tmp_path / "mine/any/where", names).parents[1]
    found = {path.name: manifest.describe(path.parent, path.name)["sha256"] for path in mine.rglob("*.png")}
    folder = registry.TEST_SOURCES["set14"].folders[0].folder
    monkeypatch.setattr(registry, "checksums", lambda _repository: {f"{folder}/{name}": found[name] for name in names})
    get("set14", published("self"), tmp_path / "raw", mine)
    assert len(manifest.read(tmp_path / "raw")["files"]) == 14
    (mine / "any/where/img_009_SRF_4_HR.png").write_bytes(png(99, 16, 12))
    with pytest.raises(UserError, match=r"img_009_SRF_4_HR\.png: not the published file, its SHA-256 differs"):
        get("set14", published("self"), tmp_path / "raw", mine)
    (mine / "any/where/img_009_SRF_4_HR.png").unlink()
    with pytest.raises(UserError, match=r"1 of 14 images are missing, img_009_SRF_4_HR\.png among them"):
        get("set14", published("self"), tmp_path / "raw", mine)


def test_what_is_no_folder_and_no_archive_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.local\.cufed5: .*nix: no such folder or archive"):
        get("cufed5", published(), tmp_path / "raw", tmp_path / "nix")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds no image; images end in \.png"):
        get("cufed5", published(), tmp_path / "raw", tmp_path / "empty")
    (tmp_path / "a.7z").write_bytes(b"7z")
    with pytest.raises(UserError, match=r"a\.7z: not a zip or tar archive"):
        get("cufed5", published(), tmp_path / "raw", tmp_path / "a.7z")


def test_any_folder_of_photographs(tmp_path, photograph, train_data, test_data):
    mine = tmp_path / "mine"
    (mine / "trip").mkdir(parents=True)
    photograph(1, 90, 70).save(mine / "a.jpg")
    photograph(2, 71, 93).convert("L").save(mine / "trip/b.png")
    photograph(3, 80, 80).convert("RGBA").save(mine / "c.PNG")
    (mine / "notes.txt").write_text("no image")
    (mine / ".cache").mkdir()
    photograph(4, 50, 50).save(mine / ".cache/x.png")
    train, test = train_data(source="folder", folder=str(mine)), test_data("random", "folder", str(mine))
    download("train", train, tmp_path / "train", mirror=None, local=None, every=1)
    download("holiday", test, tmp_path / "holiday", mirror=None, local=None, every=1)
    content = manifest.read(tmp_path / "holiday")
    assert [entry["path"] for entry in content["files"]] == ["a.jpg", "c.PNG", "trip/b.png"]
    assert content["stand_in"] is False
    prepare_train(train, tmp_path / "train", tmp_path / "pairs", seed=1)
    prepare_test("holiday", test, tmp_path / "holiday", tmp_path / "prepared", seed=1)
    assert [image.name for image in TestSet(tmp_path / "prepared")] == ["a", "c", "trip_b"]
    assert len(TrainingPairs(tmp_path / "pairs")) == 20


def test_a_changed_photograph_changes_one_file(tmp_path, photograph, test_data):
    mine = tmp_path / "mine"
    mine.mkdir()
    for number in range(3):
        photograph(number, 40, 40).save(mine / f"{number}.png")
    test = test_data("self", "folder", str(mine))
    download("set14", test, tmp_path / "raw", mirror=None, local=None, every=1)
    assert manifest.read(tmp_path / "raw")["stand_in"] is True  # it stands where Set14 would
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "raw").glob("*.png")}
    photograph(9, 40, 40).save(mine / "1.png")
    download("set14", test, tmp_path / "raw", mirror=None, local=None, every=1)
    changed = {p.name for p in (tmp_path / "raw").glob("*.png") if p.stat().st_mtime_ns != times[p.name]}
    assert changed == {"1.png"}


def test_a_folder_that_is_not_there_is_named(tmp_path, test_data):
    test = test_data("self", "folder", str(tmp_path / "nix"))
    with pytest.raises(UserError, match=r"data\.tests\.set14\.folder: .*nix: no such folder"):
        download("set14", test, tmp_path / "raw", mirror=None, local=None, every=1)


def test_the_files_that_the_workflow_watches(tmp_path):
    write(tmp_path / "mine", ["b/2.png", "a.jpg", "notes.txt"])
    assert supplied.files_of(str(tmp_path / "mine")) == [str(tmp_path / "mine" / name) for name in ("a.jpg", "b/2.png")]
    assert supplied.files_of(str(tmp_path / "mine/a.jpg")) == [str(tmp_path / "mine/a.jpg")]
    assert supplied.files_of(str(tmp_path / "nix")) == supplied.files_of(None) == []


def test_linked_folders_and_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path / "elsewhere", ["b.png", ".hidden/c.png"])
    write(tmp_path / "photos", ["a.png"])
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    assert supplied.images_below(tmp_path / "photos") == ["a.png", "link/b.png"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert supplied.files_of("~/photos") == [str(tmp_path / "photos" / name) for name in ("a.png", "link/b.png")]
    with supplied.opened("key", Path("~/photos"), tmp_path / "scratch") as (folder, images):
        assert (folder, images) == (tmp_path / "photos", ["a.png", "link/b.png"])
