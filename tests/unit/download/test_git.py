"""CUFED5 by git, from a local repository of the published layout, with Google Drive as the second source."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Loopback
from prepared import rows
from supplied_sets import CUFED5, archive, png

from extracter import params
from extracter.data import manifest
from extracter.data.datasets import TestSet, TrainingPairs
from extracter.data.prepare import prepare_test, prepare_train
from extracter.download import download as download_module
from extracter.download import git as git_module
from extracter.download import registry
from extracter.download.download import download
from extracter.download.http import Patience
from extracter.errors import UserError
from extracter.presets import TestData
from extracter.training.train import train

HASTY = Patience(attempts=2, connect=2, read=2, pause=0.01, longest_pause=0.05)
OWN = TestData(source="published", folder=None, references="own")
SAMPLE = Path(__file__).parents[3].parent / "shared/mirror/yeoyi519/SRNTT/6d200fdddd9a438dee40113e7a495f9c9b667007/data"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def publish(folder: Path, names: list[str]) -> str:
    """A repository that holds the images in its history alone, beside other files; return that commit."""
    (folder / "dataset/CUFED5").mkdir(parents=True)
    git(folder, "init", "--quiet")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    for number, name in enumerate(names):
        (folder / "dataset/CUFED5" / name).write_bytes(png(number, 16, 12))
    (folder / "model.bin").write_bytes(b"large" * 1000)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "with the set")
    commit = git(folder, "rev-parse", "HEAD")
    git(folder, "rm", "-r", "--quiet", "dataset")
    git(folder, "commit", "--quiet", "-m", "without")
    return commit


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("host")
    return root, publish(root / "ZZUTK/SRNTT", CUFED5)


@pytest.fixture
def hosts(tmp_path, monkeypatch, repository):
    """Both sources: git in a folder, Drive on loopback, without an archive."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "drive").mkdir()
    drive = Loopback(tmp_path / "drive")
    monkeypatch.setattr(registry, "GIT_HOST", f"file://{repository[0]}")
    monkeypatch.setattr(registry, "DRIVE_HOST", drive.address)
    source = registry.TEST_SOURCES["cufed5"]
    place = replace(source.git, commit=repository[1])
    smaller = replace(source, git=place, drive=(replace(source.drive[0], mebibytes=2),))
    monkeypatch.setitem(registry.TEST_SOURCES, "cufed5", smaller)
    yield drive
    drive.close()


def get(out: Path, every: int = 1) -> None:
    download("cufed5", OWN, out, mirror=None, local=None, every=every, patience=HASTY)


def test_the_folder_of_the_commit_is_fetched_and_nothing_else(hosts, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(download_module, "download_drive", None)
    fetch = git_module.fetch_folder

    def fetch_and_look(place, folder, patience):
        found = fetch(place, folder, patience)
        objects = git(folder, "cat-file", "--batch-check", "--batch-all-objects").splitlines()
        seen.append(sum(" blob " in line for line in objects))
        seen.append(sorted(path.name for path in folder.iterdir()))
        return found

    monkeypatch.setattr(git_module, "fetch_folder", fetch_and_look)
    out = tmp_path / "out"
    get(out)
    content = manifest.read(out)
    assert [entry["path"] for entry in content["files"]] == CUFED5
    assert content["origin"].startswith("ZZUTK/SRNTT@")
    assert (out / "003_2.png").read_bytes() == png(CUFED5.index("003_2.png"), 16, 12)
    assert {path.name for path in out.iterdir()} == {*CUFED5, "manifest.json", ".pins.json"}
    assert seen == [len(CUFED5), [".git", "dataset"]]
    monkeypatch.setattr(git_module, "fetch_folder", None)
    get(out, every=4)
    assert len(manifest.read(out)["files"]) == 31 * 6


def test_an_interrupted_fetch_is_taken_up(hosts, tmp_path):
    place = registry.TEST_SOURCES["cufed5"].git
    git_module.fetch_folder(place, tmp_path / f"out/.git-{place.commit[:12]}", HASTY)
    get(tmp_path / "out")
    assert len(manifest.read(tmp_path / "out")["files"]) == len(CUFED5)


def test_drive_is_the_second_source_and_one_sentence_names_both(hosts, tmp_path, monkeypatch, capsys):
    source = registry.TEST_SOURCES["cufed5"]
    missing = replace(source, git=replace(source.git, commit="0" * 40))
    monkeypatch.setitem(registry.TEST_SOURCES, "cufed5", missing)
    with pytest.raises(UserError) as caught:
        get(tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message
    assert "/ZZUTK/SRNTT, commit 0000000: " in message
    assert "Google Drive does not serve CUFED5" in message
    assert "data.local.cufed5" in message
    served = hosts.root / f"uc?id={source.drive[0].id}"
    served.write_bytes(archive([f"CUFED5/{name}" for name in CUFED5]))
    get(tmp_path / "out")
    assert "trying Google Drive" in capsys.readouterr().err
    assert len(manifest.read(tmp_path / "out")["files"]) == len(CUFED5)


def test_a_file_that_the_commit_lacks_is_named(hosts, tmp_path, monkeypatch):
    commit = publish(tmp_path / "host/ZZUTK/SRNTT", CUFED5[:300] + CUFED5[306:])
    monkeypatch.setattr(registry, "GIT_HOST", f"file://{tmp_path / 'host'}")
    source = registry.TEST_SOURCES["cufed5"]
    monkeypatch.setitem(registry.TEST_SOURCES, "cufed5", replace(source, git=replace(source.git, commit=commit)))
    with pytest.raises(UserError, match=r"125 inputs, 126 are wanted, .* \(050_0 is missing\)"):
        get(tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_without_git_the_reason_is_given(hosts, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(UserError, match="git is not installed"):
        get(tmp_path / "out")


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no sample at {SAMPLE}")
def test_the_published_sample_has_the_layout(tmp_path, raw_set):
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (SAMPLE / "test/CUFED5").glob("*.png"):
        (raw / path.name).write_bytes(path.read_bytes())
    raw_set.rewrite(raw, "cufed5", "cufed5", "published")
    prepare_test("cufed5", OWN, raw, tmp_path / "out", seed=1)
    assert [row["reference"] for row in rows(tmp_path / "out")] == [f"ref/001_{rank}.png" for rank in range(1, 6)]
    (image,) = TestSet(tmp_path / "out")
    assert min(image.hr.shape[2:]) >= 160


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no sample at {SAMPLE}")
def test_training_of_the_paper_preset_starts_on_the_published_pairs(tmp_path, raw_set, tiny_preset):
    raw = tmp_path / "raw"
    for side in ("input", "ref"):
        (raw / side).mkdir(parents=True)
        for path in (SAMPLE / "train/CUFED" / side).glob("*.png"):
            (raw / side / path.name).write_bytes(path.read_bytes())
    raw_set.rewrite(raw, "train", "pairs", "cufed")
    paper = params.read(Path(__file__).parents[3] / "params.yaml").presets["paper"]
    prepare_train(paper.data.train.model_copy(update={"validation": 1}), raw, tmp_path / "pairs", seed=1)
    pairs = TrainingPairs(tmp_path / "pairs")
    assert (len(pairs), pairs.size, pairs.ref_size, len(pairs.rows["validation"])) == (9, 160, 160, 1)
    few = {"batch": 1, "rec_steps": 2, "validate_every": 2, "checkpoint_every": 2, "dfe_lr": 1.0e-5}
    train(
        "extracter", tmp_path / "pairs", tmp_path / "model", tmp_path / "state", paper.seed, tiny_preset.model,
        paper.search, paper.loss, paper.train.model_copy(update=few), phase="rec", start=None, device="cpu",
    )  # fmt: skip
    (row,) = rows(tmp_path / "model", "train_log.csv")
    assert float(row["validation_psnr"]) > 10
