"""Sets on Google Drive, with a loopback server in its place: quota pages, broken transfers, pinning."""

import json
from dataclasses import replace

import pytest
from loopback import Loopback
from supplied_sets import CUFED5, archive, png

from extracter.data import manifest
from extracter.download import drive, registry
from extracter.download.download import download
from extracter.download.http import Patience
from extracter.errors import UserError
from extracter.presets import TestData

HASTY = Patience(attempts=3, connect=2, read=0.3, pause=0.01, longest_pause=0.05)
OWN = TestData(source="published", folder=None, references="own")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Drive: the file `uc?id=ID` is the archive of CUFED5, of about no MiB."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "drive"
    root.mkdir()
    loopback = Loopback(root)
    source = registry.TEST_SOURCES["cufed5"]
    file = replace(source.drive[0], mebibytes=2)
    (root / f"uc?id={file.id}").write_bytes(archive([f"CUFED5/{name}" for name in CUFED5]))
    monkeypatch.setitem(registry.TEST_SOURCES, "cufed5", replace(source, drive=(file,), git=None))
    monkeypatch.setattr(registry, "DRIVE_HOST", loopback.address)
    yield loopback
    loopback.close()


def get(out, every: int = 1) -> None:
    download("cufed5", OWN, out, mirror=None, local=None, every=every, patience=HASTY)


def test_cufed5_is_fetched_unpacked_and_pinned(server, tmp_path):
    out = tmp_path / "out"
    get(out)
    content = manifest.read(out)
    assert [entry["path"] for entry in content["files"]] == CUFED5
    assert {path.name for path in out.iterdir()} == {*CUFED5, "manifest.json", ".pins.json"}
    pins = json.loads((out / ".pins.json").read_text())
    assert pins["files"] == content["files"]
    asked = len(server.log)
    (out / "manifest.json").unlink()
    get(out, every=4)
    assert len(server.log) == asked
    assert len(manifest.read(out)["files"]) == 31 * 6


def test_a_damaged_image_brings_the_archive_again_which_must_be_the_same(server, tmp_path):
    out = tmp_path / "out"
    get(out)
    (out / "003_2.png").write_bytes(b"damaged")
    get(out)
    assert (out / "003_2.png").read_bytes() == png(CUFED5.index("003_2.png"), 16, 12)
    (out / "003_2.png").unlink()
    served = next(server.root.iterdir())
    served.write_bytes(archive(CUFED5, first=5))
    with pytest.raises(
        UserError, match=r"CUFED5 changed on Google Drive \(SHA-256 .*; delete .*\.pins\.json if you trust"
    ):
        get(out)
    (out / ".pins.json").unlink()
    get(out)
    assert (out / "003_2.png").read_bytes() == png(CUFED5.index("003_2.png") + 5, 16, 12)


def test_a_broken_transfer_goes_on(server, tmp_path):
    server.faults["ph"].append("truncated")
    get(tmp_path / "out")
    assert [request.status for request in server.log] == [200, 206]
    # gdown reads pieces of half a mebibyte, and loses the one it was reading.
    assert sum(request.sent for request in server.log) < next(server.root.iterdir()).stat().st_size + 2**19


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("page", "Google Drive sent a web page instead of CUFED5"),
        ("404", r"Google Drive does not serve CUFED5 \(404"),
        ("drop", "Google Drive does not serve CUFED5"),
        ("wrong", r"Google Drive sent [\d,]+ bytes that are not a zip or tar archive instead of CUFED5"),
    ],
)
def test_what_drive_refuses_is_one_sentence_that_says_how_to_go_on(server, tmp_path, fault, match):
    server.always["ph"] = fault
    with pytest.raises(UserError, match=match) as caught:
        get(tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message
    assert "/file/d/1Fa1mopExA9YGG1RxrCZZn7QFTYXLx6ph/view" in message
    assert "name it with data.local.cufed5; if Drive reports an exceeded quota, try again a day later" in message
    server.always.clear()
    get(tmp_path / "out")


def test_an_archive_of_another_size_or_content_is_refused(server, tmp_path, monkeypatch):
    served = next(server.root.iterdir())
    served.write_bytes(archive(CUFED5[:-6]))
    with pytest.raises(UserError, match="cufed5 from Google Drive: 125 inputs, 126 are wanted"):
        get(tmp_path / "out")
    source = registry.TEST_SOURCES["cufed5"]
    larger = replace(source, git=None, drive=(replace(source.drive[0], mebibytes=233),))
    monkeypatch.setitem(registry.TEST_SOURCES, "cufed5", larger)
    with pytest.raises(UserError, match=r"an archive of [\d,]+ bytes, not of about 233 MiB, instead of CUFED5"):
        get(tmp_path / "other")


def test_a_killed_run_does_not_fetch_a_complete_archive_again(server, tmp_path, monkeypatch):
    def killed(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "copy_files", killed)
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path / "out")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".1Fa1mopExA9YGG1RxrCZZn7QFTYXLx6ph.archive"]
    assert len(server.log) == 1
