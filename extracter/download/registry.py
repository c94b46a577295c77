"""The published sets: what each is, where it is, and what it must contain.

Sets in public Git repositories are fetched file by file from pinned commits; the SHA-256 of every file is known
beforehand (checksums/ has one list per repository, listings/ one table per set). CUFED5 is fetched by git, whose commit
hash verifies it. CUFED is on Google Drive, as is a second copy of CUFED5. No checksums were published for these: names
and counts are verified, and the checksums of the first download are pinned.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from extracter.data.references import Layout
from extracter.errors import UserError

RAW_HOST = "https://raw.githubusercontent.com"
GIT_HOST = "https://github.com"
DRIVE_HOST = "https://drive.google.com"
SELFEXSR = ("jbhuang0604/SelfExSR", "8f6dd8c1d20cb7e8792a7177b4f6fd677633f598")
DCSCN = ("jiny2001/dcscn-super-resolution", "d382bc30d41c94ac72f8cb148d61cc4864b3b380")


@dataclass(frozen=True)
class PinnedFile:
    """A file of a Git commit: `path` inside the set's folder, `remote` inside the repository."""

    path: str
    remote: str
    repository: str
    commit: str
    sha256: str

    def below(self, prefix: str) -> str:
        """Its address on the raw host or a mirror of it; `prefix` has no slash at the end."""
        return f"{prefix}/{self.repository}/{self.commit}/{self.remote}"

    def addresses(self) -> list[str]:
        """Addresses to try in turn: the raw host, the repository, the archive of Software Heritage."""
        return [
            self.below(RAW_HOST),
            f"https://github.com/{self.repository}/raw/{self.commit}/{self.remote}",
            f"https://archive.softwareheritage.org/api/1/content/sha256:{self.sha256}/raw/",
        ]


@dataclass(frozen=True)
class PinnedFolder:
    """A folder of a Git commit; its files go into the subfolder `into` of the set."""

    repository: str
    commit: str
    folder: str
    into: str = ""

    @property
    def address(self) -> str:
        """The address that git fetches from."""
        return f"{GIT_HOST}/{self.repository}"


@dataclass(frozen=True)
class DriveFile:
    """An archive on Google Drive; its images go into the subfolder `into` of the set."""

    id: str
    name: str
    mebibytes: int
    into: str = ""

    @property
    def address(self) -> str:
        """The address for programs."""
        return f"{DRIVE_HOST}/uc?id={self.id}"

    @property
    def page(self) -> str:
        """The page for browsers."""
        return f"{DRIVE_HOST}/file/d/{self.id}/view"


@dataclass(frozen=True)
class Source:
    """A published set.

    `images` is the number of inputs, without references. `megabytes` is the rounded size of the download. `folders`,
    `listing` or `drive` is its location, and `git` an additional one; `listing` names a table in listings/, for sets
    from many repositories. docs/workflow.md says under which terms the sets are published.
    """

    layout: Layout
    images: int
    megabytes: int
    folders: tuple[PinnedFolder, ...] = ()
    listing: str | None = None
    git: PinnedFolder | None = None
    drive: tuple[DriveFile, ...] = ()

    @property
    def place(self) -> str:
        """A description of its location."""
        if self.git is not None:
            return f"{self.git.repository}@{self.git.commit[:7]}"
        if self.drive:
            return "Google Drive"
        places = sorted({f"{file.repository}@{file.commit[:7]}" for file in self.files()})
        return ", ".join(places) if len(places) < 4 else f"{len(places)} repositories on GitHub"

    def files(self) -> list[PinnedFile]:
        """The files of a set in a Git repository, by path; none for a set on Google Drive."""
        if self.listing is not None:
            return listed(self.listing)
        found = []
        for folder in self.folders:
            for remote, sha256 in checksums(folder.repository).items():
                if PurePosixPath(remote).parent.as_posix() == folder.folder:
                    path = (PurePosixPath(folder.into) / PurePosixPath(remote).name).as_posix()
                    found.append(PinnedFile(path, remote, folder.repository, folder.commit, sha256))
        return sorted(found, key=lambda file: file.path)


@cache
def checksums(repository: str) -> dict[str, str]:
    """The SHA-256 of the files of a repository that the project uses, by path."""
    path = Path(__file__).parent / "checksums" / f"{repository.rpartition('/')[2]}.txt"
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {remote: sha256 for sha256, remote in lines}


@cache
def listed(name: str) -> list[PinnedFile]:
    """The files of a table in listings/, by path."""
    table = pd.read_csv(Path(__file__).parent / "listings" / f"{name}.csv", dtype=str)
    files = [PinnedFile(r.path, r.remote, r.repository, r.commit, r.sha256) for r in table.itertuples()]
    return sorted(files, key=lambda file: file.path)


TEST_SOURCES = {
    "cufed5": Source(
        layout="cufed5",
        images=126,
        megabytes=244,
        git=PinnedFolder("ZZUTK/SRNTT", "032b3c7b4614e52ecbed6feef5173956975e5779", "dataset/CUFED5"),
        drive=(DriveFile("1Fa1mopExA9YGG1RxrCZZn7QFTYXLx6ph", "CUFED5", 233),),
    ),
    "sun80": Source(
        layout="photographs",
        images=80,
        megabytes=81,
        folders=(PinnedFolder(*SELFEXSR, "data/Sun-Hays80/image_SRF_8"),),
    ),
    "urban100": Source(
        layout="photographs",
        images=100,
        megabytes=134,
        folders=(PinnedFolder(*SELFEXSR, "data/Urban100/image_SRF_4"),),
    ),
    "set14": Source(
        layout="photographs",
        images=14,
        megabytes=5,
        folders=(PinnedFolder(*SELFEXSR, "data/Set14/image_SRF_4"),),
    ),
    "views": Source(
        layout="views",
        images=47,
        megabytes=84,
        listing="views",
    ),
}

TRAIN_SOURCES = {
    "bsd200_yang91": Source(
        layout="photographs",
        images=291,
        megabytes=68,
        folders=(
            PinnedFolder(*DCSCN, "data/bsd200", into="bsd200"),
            PinnedFolder(*DCSCN, "data/yang91", into="yang91"),
        ),
    ),
    # Without the validation images of BSDS500, which are the test set BSD100, and without castle-P30's photographs 0011
    # to 0018, which show the fountain of `views`. Scenes in validation/ are never trained on.
    "photographs_and_views": Source(
        layout="photographs",
        images=905,
        megabytes=570,
        listing="photographs_and_views",
    ),
    "cufed": Source(
        layout="pairs",
        images=11871,
        megabytes=1211,
        drive=(
            DriveFile("1gN5IPZgPNkjdeXdTySe1Urog5OG8mrLc", "CUFED input", 567, into="input"),
            DriveFile("13BX-UY4jUZu9S--X2Cd6yZ-3nH77nqo_", "CUFED ref", 588, into="ref"),
        ),
    ),
}


def get(name: str, source: str) -> Source:
    """The registered set that a parameter block names.

    Args:
        name: `train` or a test set.
        source: `source` of its parameter block.

    Raises:
        UserError: no such set is registered.
    """
    registry, key = (TRAIN_SOURCES, source) if name == "train" else (TEST_SOURCES, name)
    if key not in registry or (name != "train" and source != "published"):
        raise UserError(
            f"{name}: no published set of this name and source; registered are {', '.join(TEST_SOURCES)} to test on "
            f"and {', '.join(TRAIN_SOURCES)} to train on; for your own images write `source: folder`"
        )
    return registry[key]
