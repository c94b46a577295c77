"""Unpack untrusted archives: images only, inside one folder, no more bytes than declared."""

import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from extracter.data.images import is_image
from extracter.errors import UserError

# Photographs hardly compress: an archive that declares a hundred times its own size is a bomb.
LARGEST_RATIO = 100
SMALLEST_LIMIT = 64 * 2**20
MOST_MEMBERS = 200_000
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,  # an encrypted zip
    ValueError,
)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its content."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except DAMAGE:
        return False


def _wanted(archive: Path, members: Iterable[tuple[Any, str, int]]) -> list[Any]:
    """The members that are images, of members with their names and declared sizes; a tar archive's come one by one.

    All members are checked first, so nothing of a harmful archive is unpacked.
    """
    packed, total, wanted = archive.stat().st_size, 0, {}
    limit = max(LARGEST_RATIO * packed, SMALLEST_LIMIT)
    for count, (member, name, size) in enumerate(members, 1):
        total += size
        if total > limit or count > MOST_MEMBERS:
            raise UserError(
                f"{archive}: declares {total:,} bytes or more in {count:,} members, too much for an archive of "
                f"{packed:,} bytes; do not use it"
            )
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
            raise UserError(f"{archive}: member {name!r} would leave its folder; do not use this archive")
        if not is_image(Path(name)) or "__MACOSX" in path.parts:
            continue
        if name in wanted:
            raise UserError(f"{archive}: holds {name} twice; do not use this archive")
        wanted[name] = member
    return list(wanted.values())


def _unpack_zip(archive: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(archive) as content:
        files = (member for member in content.infolist() if not member.is_dir())
        wanted = _wanted(archive, ((member, member.filename, member.file_size) for member in files))
        if any(stat.S_ISLNK(member.external_attr >> 16) for member in wanted):
            raise UserError(f"{archive}: a member is a link; do not use this archive")
        content.extractall(folder, wanted)  # stops at the size that a member declares
    return [member.filename for member in wanted]


def _unpack_tar(archive: Path, folder: Path) -> list[str]:
    with tarfile.open(archive) as content:
        files = (member for member in content if not member.isdir())
        wanted = _wanted(archive, ((member, member.name, member.size) for member in files))
        if not all(member.isreg() for member in wanted):
            raise UserError(f"{archive}: a member is a link or not a regular file; do not use this archive")
        content.extractall(folder, wanted, filter="data")
    return [member.name for member in wanted]


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack the images of a zip or tar archive.

    Args:
        archive: with any compression that Python can read.
        folder: an empty folder.

    Returns:
        paths of the images relative to `folder`, sorted.

    Raises:
        UserError: the archive is damaged, or contains links, paths outside the folder, or more bytes than photographs
            in an archive of its size can have.
    """
    if not is_archive(archive):
        raise UserError(f"{archive}: not a zip or tar archive; unpack it by hand and name the folder instead")
    try:
        names = (_unpack_zip if zipfile.is_zipfile(archive) else _unpack_tar)(archive, folder)
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: {error}; do not use this archive") from None
    except DAMAGE as error:
        raise UserError(f"{archive}: damaged or encrypted archive ({error}); fetch it again") from None
    except OSError as error:
        if error.errno is None:  # how bz2 reports damage
            raise UserError(f"{archive}: damaged archive ({error}); fetch it again") from None
        raise UserError(
            f"{folder}: cannot unpack {archive} ({error.strerror}); free some space, or unpack it by hand"
        ) from None
    return sorted(names)
