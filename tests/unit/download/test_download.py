"""Downloading from a real server that misbehaves, from a mirror, from another preset: whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import Loopback
from PIL import Image

from extracter.data import manifest
from extracter.download import registry
from extracter.download.download import download
from extracter.download.http import Patience
from extracter.errors import UserError
from extracter.files import sha256

FOLDER = "data/Set14/image_SRF_4"
HASTY = Patience(attempts=3, connect=2, read=0.25, pause=0.01, longest_pause=0.05, largest=2**20)
# What a server does once and a later request makes good.
PASSING = ["429", "500", "503", "truncated", "wrong", "no length", "drop", "302", "page", "chunked", "chunked cut"]
LASTING = {
    "404": "HTTP 404 Not Found",
    "403": "HTTP 403 Forbidden",
    "429": "HTTP 429 Too Many Requests",
    "500": "HTTP 500 Internal Server Error",
    "wrong": "wrong content: ",
    "page": "a web page came instead of the file",
    "truncated": "the connection ended early, 3 times",
    "chunked cut": "the connection ended early, 3 times",
    "stall": "timed out, 3 times",
    "drop": "connection aborted, 3 times",
    "loop": "TooManyRedirects",
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A raw host with eight images in place of Set14, and their checksums."""
    root = tmp_path_factory.mktemp("mirror")
    folder = root / "/".join(registry.SELFEXSR) / FOLDER
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(1, 9):
        pixels = rng.integers(0, 256, (60, 80 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"img_{number:03}_SRF_4_HR.png")
    return root, {f"{FOLDER}/{path.name}": sha256(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def registered(monkeypatch, mirror):
    """The registry with those images in place of Set14."""
    monkeypatch.setattr(registry, "checksums", lambda _repository: mirror[1])
    return mirror[0]


@pytest.fixture
def server(mirror):
    loopback = Loopback(mirror[0])
    yield loopback
    loopback.close()


def published(references: str = "self"):
    from extracter.presets import TestData

    return TestData(source="published", folder=None, references=references)


def get(out: Path, mirror: str | None, every: int = 1, patience: Patience = HASTY) -> None:
    download("set14", published(), out, mirror=mirror, local=None, every=every, patience=patience)


def assert_whole(out: Path, checksums: dict[str, str], count: int = 8) -> None:
    entries = manifest.read(out)["files"]
    assert len(entries) == count
    for entry in entries:
        assert sha256(out / entry["path"]) == entry["sha256"] == checksums[f"{FOLDER}/{entry['path']}"]
    assert not list(out.glob(".*"))


def test_every_file_comes_once_and_a_second_run_asks_for_nothing(server, registered, mirror, tmp_path):
    get(tmp_path, server.address)
    assert_whole(tmp_path, mirror[1])
    assert len(server.log) == 8
    first = (tmp_path / "manifest.json").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    (tmp_path / "manifest.json").unlink()
    get(tmp_path, server.address + "/")
    assert len(server.log) == 8
    assert (tmp_path / "manifest.json").read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")} == times


def test_a_mirror_in_the_home_folder(registered, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(registered.parent))
    get(tmp_path, f"~/{registered.name}")
    assert_whole(tmp_path, mirror[1])


def test_every_fourth_image_is_the_fourth_and_the_eighth(server, registered, mirror, tmp_path):
    get(tmp_path, server.address, every=4)
    assert_whole(tmp_path, mirror[1], 2)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["img_004_SRF_4_HR.png", "img_008_SRF_4_HR.png"]


@pytest.mark.parametrize("fault", [*PASSING, "stall"])
def test_a_passing_fault_is_made_good(server, registered, mirror, tmp_path, fault):
    server.faults["img_002_SRF_4_HR.png"].append(fault)
    get(tmp_path, server.address)
    assert_whole(tmp_path, mirror[1])


@given(st.lists(st.lists(st.sampled_from(PASSING), max_size=3), min_size=8, max_size=8))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_server_does_nothing_corrupt_is_accepted(registered, mirror, tmp_path_factory, faults):
    server, out = Loopback(mirror[0]), tmp_path_factory.mktemp("out")
    for number, queue in enumerate(faults, 1):
        server.faults[f"img_{number:03}_SRF_4_HR.png"].extend(queue)
    try:
        for _ in range(30):
            try:
                get(out, server.address)
            except UserError:
                found = {path.name: sha256(path) for path in out.glob("*.png")}
                assert all(mirror[1][f"{FOLDER}/{name}"] == digest for name, digest in found.items())
                assert not (out / "manifest.json").exists()
            else:
                break
        assert_whole(out, mirror[1])
    finally:
        server.close()


@pytest.mark.parametrize("fault", list(LASTING))
def test_a_lasting_fault_is_one_sentence_and_what_came_is_kept(server, registered, mirror, tmp_path, fault):
    name = "img_008_SRF_4_HR.png"
    server.always[name] = fault
    with pytest.raises(UserError) as caught:
        get(tmp_path, server.address)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: cannot be fetched; tried {server.address}/jbhuang0604/SelfExSR/")
    assert LASTING[fault] in message
    assert mirror[1][f"{FOLDER}/{name}"] in message
    assert "data.mirror" in message
    assert "data.local.set14" in message
    assert "\n" not in message
    assert not (tmp_path / "manifest.json").exists()
    assert not (tmp_path / name).exists()
    there = {path.name for path in tmp_path.glob("*.png")}
    asked = len(server.log)
    server.always.clear()
    get(tmp_path, server.address)
    assert_whole(tmp_path, mirror[1])
    again = {Path(request.path).name for request in server.log[asked:]}
    assert name in again
    assert not again & there


def test_a_file_with_other_content_is_replaced(server, registered, mirror, tmp_path):
    (tmp_path / "img_004_SRF_4_HR.png").write_bytes(b"not what was published")
    get(tmp_path, server.address)
    assert_whole(tmp_path, mirror[1])


def test_the_next_address_is_taken(server, registered, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(
        registry.PinnedFile,
        "addresses",
        lambda file: ["http://127.0.0.1:9/nobody", file.below(f"{server.address}/nothing"), file.below(server.address)],
    )
    get(tmp_path, None)
    assert_whole(tmp_path, mirror[1])


def test_without_network_all_addresses_are_named(registered, tmp_path, monkeypatch):
    monkeypatch.setattr(
        registry.PinnedFile, "addresses", lambda _file: ["http://127.0.0.1:9/one", "http://nowhere.invalid/two"]
    )
    with pytest.raises(UserError) as caught:
        get(tmp_path, None)
    assert "http://127.0.0.1:9/one (connection refused, 3 times)" in str(caught.value)
    assert "http://nowhere.invalid/two (the host's name cannot be resolved: no network?)" in str(caught.value)


def test_a_server_without_end_is_cut_off(server, registered, tmp_path):
    with pytest.raises(UserError, match="more than 5,000 bytes"):
        get(tmp_path, server.address, patience=Patience(1, 2, 1, 0.01, 0.05, largest=5000))


def test_a_mirror_folder(registered, mirror, tmp_path):
    get(tmp_path / "out", str(mirror[0]))
    assert_whole(tmp_path / "out", mirror[1])
    with pytest.raises(UserError, match=r"data\.mirror: .*nix: not an existing folder or an http\(s\) address"):
        get(tmp_path / "other", str(tmp_path / "nix"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"HR\.png: missing from the mirror, .*; put the file there by hand \(SHA-256"):
        get(tmp_path / "other", str(tmp_path / "empty"))
    broken = tmp_path / "empty" / "/".join(registry.SELFEXSR) / FOLDER
    broken.mkdir(parents=True)
    for remote in mirror[1]:
        (broken / Path(remote).name).write_bytes(b"altered")
    with pytest.raises(UserError, match=r"HR\.png: not the published file, its SHA-256"):
        get(tmp_path / "other", str(tmp_path / "empty"))
    assert not list((tmp_path / "other").glob("*.png"))


def test_what_another_preset_has_is_copied(server, registered, mirror, tmp_path):
    get(tmp_path / "raw/open/set14", server.address)
    asked = len(server.log)
    (tmp_path / "raw/open/set14/img_005_SRF_4_HR.png").write_bytes(b"altered")
    get(tmp_path / "raw/paper/set14", server.address)
    assert_whole(tmp_path / "raw/paper/set14", mirror[1])
    assert [Path(request.path).name for request in server.log[asked:]] == ["img_005_SRF_4_HR.png"]


def test_names_without_a_published_set_are_refused(tmp_path, test_data):
    with pytest.raises(
        UserError, match=r"manga109: no published set.*registered are cufed5, sun80, urban100, set14, views"
    ):
        download("manga109", published(), tmp_path, mirror=None, local=None, every=1)
    with pytest.raises(UserError, match=r"set14: not available in this preset \(data\.tests\.set14\.source: none\)"):
        download("set14", test_data("self", "none"), tmp_path, mirror=None, local=None, every=1)
    with pytest.raises(UserError, match=r"data\.local\.set14: supplies a published set, but the source is demo"):
        download("set14", test_data(), tmp_path, mirror=None, local="x", every=1)


DRIVER = """
import json, signal, sys
from extracter.__main__ import main
from extracter.download import registry
checksums = json.loads(sys.argv.pop(1))
limit = int(sys.argv.pop(1))
registry.checksums = lambda repository: checksums
if limit:
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


def start(out: Path, mirror: str, checksums: dict[str, str], limit: int = 0) -> subprocess.Popen:
    """The real command in a process of its own, with the small registry."""
    blocks = {
        "data.tests.set14.source": "published",
        "data.tests.set14.folder": None,
        "data.mirror": mirror,
        "evaluation.every": 1,
    }
    command = [sys.executable, "-c", DRIVER, json.dumps(checksums), str(limit)]
    command += ["download", "set14", "--out", str(out), "--params", json.dumps(blocks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_until(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_half_way_no_whole_file_is_fetched_twice(server, mirror, tmp_path, how):
    server.pace = 0.01
    for number in range(5, 9):
        server.always[f"img_{number:03}_SRF_4_HR.png"] = "stall"
    process = start(tmp_path, server.address, mirror[1])
    wait_until(lambda: len(list(tmp_path.glob("img_00[1-4]*.png"))) == 4)
    process.send_signal(how)
    output, errors = process.communicate(timeout=40)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip() == "extracter: interrupted; run the same command again to resume"
    assert not (tmp_path / "manifest.json").exists()
    server.pace = 0.0
    server.always.clear()
    before = len(server.log)
    process = start(tmp_path, server.address, mirror[1])
    output, errors = process.communicate(timeout=40)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith("set14: 8 files, 0.1 MB, from jbhuang0604/SelfExSR@8f6dd8c, in ")
    assert_whole(tmp_path, mirror[1])
    assert {Path(request.path).name[4:7] for request in server.log[before:]} == {"005", "006", "007", "008"}


def test_a_full_disk_is_one_sentence(server, mirror, tmp_path):
    process = start(tmp_path, server.address, mirror[1], limit=6000)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "HR.png: cannot be written (File too large); free some space, then run" in errors
    process = start(tmp_path, server.address, mirror[1])
    process.communicate(timeout=30)
    assert_whole(tmp_path, mirror[1])


def test_after_an_error_nothing_more_is_asked_for(tmp_path, monkeypatch, server):
    folder = server.root / "/".join(registry.SELFEXSR) / FOLDER
    digest = sha256(folder / "img_001_SRF_4_HR.png")
    names = [f"img_{number:03}.png" for number in range(100)]
    monkeypatch.setattr(registry, "checksums", lambda _repository: {f"{FOLDER}/{name}": digest for name in names})
    server.always["img_000.png"] = "404"
    server.always["png"] = "stall"
    with pytest.raises(UserError, match="img_000"):
        get(tmp_path, server.address)
    assert len(server.log) < 60
