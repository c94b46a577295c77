"""Archives made by strangers: whatever is wrong with one, nothing lands outside its folder."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extracter.download import archives
from extracter.errors import UserError

FILES = {"CUFED5/000_0.png": b"a" * 5000, "CUFED5/000_1.png": b"b" * 70_000, "CUFED5/readme.txt": b"no image"}


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def with_member(path: Path, **fields) -> Path:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("CUFED5/000_0.png")
        for name, value in fields.items():
            setattr(member, name, value)
        archive.addfile(member)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "deep/inside").mkdir(parents=True)
    return tmp_path / "deep/inside"


def refuse(archive: Path, folder: Path, match: str) -> None:
    before = sorted(folder.parents[1].rglob("*"))
    with pytest.raises(UserError, match=match) as caught:
        archives.unpack(archive, folder)
    assert str(archive) in str(caught.value)
    outside = [p for p in folder.parents[1].rglob("*") if folder not in p.parents]
    assert sorted(outside) == before


@pytest.mark.parametrize(
    "make",
    [
        make_zip,
        lambda path, files: make_zip(path, files, zipfile.ZIP_STORED),
        lambda path, files: make_zip(path, files, zipfile.ZIP_LZMA),
        *(lambda path, files, mode=mode: make_tar(path, files, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")),
    ],
)
def test_images_are_unpacked_and_nothing_else(make, tmp_path, folder):
    archive = make(tmp_path / "archive", FILES | {"__MACOSX/000_0.png": b"x", "CUFED5/.hidden.png": b"x"})
    assert archives.unpack(archive, folder) == ["CUFED5/000_0.png", "CUFED5/000_1.png"]
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {name: data for name, data in FILES.items() if name.endswith(".png")}


@pytest.mark.parametrize(
    "name", ["../000.png", "/000.png", "a/../../000.png", "a\\..\\..\\000.png", "C:/000.png", "a/../000.png", "."]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_no_member_leaves_the_folder(make, name, tmp_path, folder):
    refuse(make(tmp_path / "archive", {name: b"x" * 100}), folder, "would leave its folder; do not use")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "../../x"},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_of_a_tar_are_refused(fields, tmp_path, folder):
    refuse(with_member(tmp_path / "a.tar", **fields), folder, "a member is a link or not a regular file")


def test_links_of_a_zip_are_refused(tmp_path, folder):
    member = zipfile.ZipInfo("CUFED5/000_0.png")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    refuse(tmp_path / "a.zip", folder, "a member is a link")


def test_bombs_are_refused_before_they_burst(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archives, "SMALLEST_LIMIT", 10_000)
    big = {"a.png": bytes(3_000_000)}
    refuse(make_zip(tmp_path / "a.zip", big), folder, "declares 3,000,000 bytes or more")
    refuse(make_tar(tmp_path / "a.tar.gz", big), folder, "declares 3,000,000 bytes or more")
    many = {f"{n}.png": bytes(900_000) for n in range(8)}
    refuse(make_zip(tmp_path / "b.zip", many, zipfile.ZIP_BZIP2), folder, "declares .* bytes or more in")
    assert not list(folder.rglob("*.png"))
    monkeypatch.setattr(archives, "MOST_MEMBERS", 5)
    refuse(make_zip(tmp_path / "c.zip", {f"{n}.txt": b"" for n in range(6)}), folder, "in 6 members")


def test_a_zip_that_holds_more_than_it_declares_is_refused(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"x" * 5000}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    for place in (data.find(b"PK\x03\x04") + 22, data.find(b"PK\x01\x02") + 24):
        data[place : place + 4] = struct.pack("<I", 4000)
    archive.write_bytes(bytes(data))
    refuse(archive, folder, "damaged or encrypted archive")


def test_encrypted_and_foreign_files_are_refused(tmp_path, folder):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"x" * 50})
    data = bytearray(archive.read_bytes())
    for place in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[place] |= 1
    archive.write_bytes(bytes(data))
    refuse(archive, folder, "damaged or encrypted archive")
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c and more")
    refuse(tmp_path / "a.7z", folder, "not a zip or tar archive; unpack it by hand")
    with tarfile.open(tmp_path / "b.tar", "w") as twice:
        twice.addfile(tarfile.TarInfo("a.png"))
        twice.addfile(tarfile.TarInfo("a.png"))
    refuse(tmp_path / "b.tar", folder, "twice")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_archive_gives_the_images_or_one_sentence(data, tmp_path_factory):
    base = tmp_path_factory.mktemp("archive")
    folder = base / "folder"
    folder.mkdir()
    make = data.draw(st.sampled_from([make_zip, make_tar]))
    archive = make(base / "archive", FILES)
    whole = bytearray(archive.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(bytes(whole))
    complaint = ""
    try:
        archives.unpack(archive, folder)
    except UserError as error:
        complaint = str(error)
    if complaint:
        assert "\n" not in complaint
    assert sorted(path.name for path in base.iterdir()) == ["archive", "folder"]
