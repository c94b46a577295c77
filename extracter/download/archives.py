"""Unpacking archives that strangers made: images only, inside one folder, no more than was declared."""

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from extracter.data.images import is_image
from extracter.errors import UserError

# Photographs hardly compress: an archive that claims a hundred times its own size is a bomb.
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
    ValueError,
)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its content."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except DAMAGE:
        return False


def _check_name(archive: Path, name: str) -> PurePosixPath:
    """A member's path, which must stay inside the folder it is unpacked into."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        raise UserError(f"{archive}: member {name!r} would leave its folder; do not use this archive")
    return path


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, declared size and content of each file of a zip archive."""
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(f"{archive}: member {member.filename!r} is a link; do not use this archive")
            if member.flag_bits & 1:
                raise UserError(f"{archive}: member {member.filename!r} is encrypted; unpack it by hand")
            if not member.is_dir():
                with content.open(member) as file:
                    yield member.filename, member.file_size, file


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, declared size and content of each file of a tar archive."""
    with tarfile.open(archive) as content:
        for member in content:
            if member.isdir():
                continue
            file = content.extractfile(member) if member.isreg() else None
            if file is None:
                kind = "a link" if member.issym() or member.islnk() else "no ordinary file"
                raise UserError(f"{archive}: member {member.name!r} is {kind}; do not use this archive")
            yield member.name, member.size, file


def _copy(archive: Path, name: str, size: int, source: IO[bytes], target: Path) -> None:
    """Write a member, which must have the size that the archive declares."""
    written = 0
    with target.open("xb") as file:
        while chunk := source.read(min(1 << 20, size - written + 1)):
            written += len(chunk)
            if written > size:
                break
            file.write(chunk)
    if written != size:
        raise UserError(f"{archive}: member {name!r} is not of its declared size ({size:,} bytes); fetch it again")


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack the images of a zip or tar archive.

    Args:
        archive: compressed by anything that Python reads.
        folder: an empty folder.

    Returns:
        paths of the images relative to `folder`, sorted.

    Raises:
        UserError: the archive is damaged, or holds what no archive of photographs needs: links, paths that leave the
            folder, more bytes than it declares or than an archive of its size can hold.
    """
    if not is_archive(archive):
        raise UserError(f"{archive}: not a zip or tar archive; unpack it by hand and name the folder instead")
    limit = max(LARGEST_RATIO * archive.stat().st_size, SMALLEST_LIMIT)
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    found, total = [], 0
    try:
        for count, (name, size, source) in enumerate(members, 1):
            path = _check_name(archive, name)
            total += size
            if total > limit or count > MOST_MEMBERS:
                raise UserError(
                    f"{archive}: declares {total:,} bytes or more in {count:,} members, too much for an archive of "
                    f"{archive.stat().st_size:,} bytes; do not use it"
                )
            if not is_image(path) or "__MACOSX" in path.parts:
                continue
            free = shutil.disk_usage(folder).free
            if size > free:
                raise UserError(f"{folder}: {free:,} bytes free, {name!r} needs {size:,}; free some space")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(archive, name, size, source, target)
            found.append(path.as_posix())
    except FileExistsError as error:
        raise UserError(f"{archive}: holds {error.filename} twice; do not use this archive") from None
    except DAMAGE as error:
        raise UserError(f"{archive}: damaged archive ({error}); fetch it again") from None
    except OSError as error:
        if error.errno is None:  # as bz2 reports damage
            raise UserError(f"{archive}: damaged archive ({error}); fetch it again") from None
        raise UserError(
            f"{folder}: cannot unpack {archive} ({error.strerror}); free some space, or unpack it by hand"
        ) from None
    return sorted(found)
