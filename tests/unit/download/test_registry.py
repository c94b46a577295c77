"""The registry against the published lists and counts."""

import re
from pathlib import Path, PurePosixPath

import pytest

from extracter.download import registry

MIRROR = Path(__file__).parents[3].parent / "shared/mirror"
# Sets of a listing, and of lists of checksums.
LISTED = {"photographs_and_views": 905}
PINNED = {"set14": 14, "sun80": 80, "urban100": 100, "bsd200_yang91": 291}


def pinned(name: str) -> list[registry.PinnedFile]:
    return {**registry.TEST_SOURCES, **registry.TRAIN_SOURCES}[name].files()


@pytest.mark.parametrize(("name", "count"), list((PINNED | LISTED).items()))
def test_every_file_has_a_checksum_and_a_path_of_its_own(name, count):
    files = pinned(name)
    assert len(files) == len({file.path for file in files}) == count
    assert {**registry.TEST_SOURCES, **registry.TRAIN_SOURCES}[name].images == count
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)
    assert all(PurePosixPath(file.path).suffix == PurePosixPath(file.remote).suffix for file in files)


def test_485_files_are_pinned_and_no_test_image_is_in_another_set():
    digests = {name: {file.sha256 for file in pinned(name)} for name in PINNED}
    assert sum(len(pinned(name)) for name in PINNED) == 485
    assert len(set().union(*digests.values())) == 484  # yang91 has one photograph as t36 and as t65
    assert len(digests["bsd200_yang91"]) == 290


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror at {MIRROR}")
def test_checksums_are_those_of_the_mirror_and_of_its_files():
    from extracter.files import sha256

    found = {}
    for listing in MIRROR.glob("*/*/*/sha256.txt"):
        place = listing.parent.relative_to(MIRROR).as_posix()
        for line in listing.read_text().splitlines():
            digest, path = line.split(maxsplit=1)
            found[f"{place}/{path}"] = digest
    registered = {file.below("").lstrip("/"): file.sha256 for name in PINNED for file in pinned(name)}
    assert registered == {path: digest for path, digest in found.items() if path in registered}
    there = {path: digest for path, digest in registered.items() if (MIRROR / path).is_file()}
    assert len(there) == 14 + 20 + 25 + 291
    listed = {file.below("").lstrip("/"): file.sha256 for name in LISTED for file in pinned(name)}
    there |= {path: digest for path, digest in listed.items() if (MIRROR / path).is_file()}
    assert len(there) > 350 + 100
    assert all(sha256(MIRROR / path) == digest for path, digest in there.items())


def test_addresses_name_the_commit_or_the_content():
    file = pinned("urban100")[3]
    assert file.path == "img_004_SRF_4_HR.png"
    first, second, third = file.addresses()
    tail = "8f6dd8c1d20cb7e8792a7177b4f6fd677633f598/data/Urban100/image_SRF_4/img_004_SRF_4_HR.png"
    assert first == f"https://raw.githubusercontent.com/jbhuang0604/SelfExSR/{tail}"
    assert second == f"https://github.com/jbhuang0604/SelfExSR/raw/{tail}"
    assert file.sha256 in third


def test_every_set_says_what_it_is():
    for source in (*registry.TEST_SOURCES.values(), *registry.TRAIN_SOURCES.values()):
        assert source.megabytes > 0
        assert [bool(source.folders), bool(source.drive), source.listing is not None].count(True) == 1


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror at {MIRROR}")
@pytest.mark.parametrize(("name", "count"), [("set14", 3), ("urban100", 25), ("sun80", 20)])
def test_the_open_preset_from_the_real_mirror(name, count, tmp_path):
    from extracter import params
    from extracter.data import manifest
    from extracter.download.download import download

    data = params.read(Path(__file__).parents[3] / "params.yaml").presets["open"].data
    download(name, data.tests[name], tmp_path, mirror=str(MIRROR), local=None, every=4)
    entries = manifest.read(tmp_path)["files"]
    known = {file.path: file.sha256 for file in pinned(name)}
    assert len(entries) == count
    assert all(entry["sha256"] == known[entry["path"]] for entry in entries)
    assert [int(entry["path"][4:7]) % 4 for entry in entries] == [0] * count
