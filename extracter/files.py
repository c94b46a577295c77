"""Read and write files. A file is written completely or not at all."""

import csv
import errno
import hashlib
import json
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from extracter.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

_REMEDY = "`snakemake --cores all` makes the files of the workflow"


# A disk, a quota or a limit on the size of files.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def why_unwritable(error: OSError) -> str:
    """What is wrong with a path that cannot be written, and the remedy, as part of a sentence."""
    remedy = "check that the folder exists and its permissions"
    if error.errno in _FULL:
        remedy = "free some space"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = "move the file that stands where a folder is wanted"
    return f"cannot be written ({error.strerror or error}); {remedy}"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` if the block succeeds.

    The temporary name keeps the suffix of `path`, by which writers of images and arrays choose the format, and nothing
    else of it: a name may be as long as the file system allows. Whatever interrupts the block, `path` is either the old
    file or the complete new one.

    Raises:
        UserError: the disk is full, read-only, or not writable.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix[-32:], dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise UserError(f"{path}: {why_unwritable(error)}, then run the same command again") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time work on `path`; another one waits and says for whom.

    When Snakemake or DVC is killed, the commands that it started may live on. The system takes a lock back when its
    process ends, however it ends. Where there are no locks, nobody waits.

    Args:
        path: need not exist; `path`.lock is kept beside it meanwhile.

    Raises:
        UserError: the folder is not writable.
    """
    lock = Path(f"{path}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _take(lock)
    except OSError as error:
        raise UserError(f"{lock}: cannot be written ({error.strerror}); check the permissions of the folder") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _take(lock: Path) -> TextIO:
    """The open file of a lock that this process holds."""
    import fcntl  # not on Windows, where no command of the workflow runs

    while True:
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            print(f"{lock}: waiting for {holder}, which an earlier run left", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return file
        # Its holder may have removed the file meanwhile; then a third process could lock a new one.
        if lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno())):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading in binary; what is neither a file nor a folder is refused, for it may never end.

    Raises:
        OSError: the file cannot be opened, or is a named pipe, a socket or a device.
    """
    if stat.S_IFMT(Path(path).stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return Path(path).open("rb")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """Write `rows` as CSV with a header, completely or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(
    path: Path, *, numbers: Sequence[str] = (), text: Sequence[str] = (), remedy: str = _REMEDY
) -> "DataFrame":
    """Read a CSV file with a header. Empty cells become NaN.

    Args:
        path: the file.
        numbers: columns that must be there and hold numbers only.
        text: columns that must be there and are kept as text, letter by letter.
        remedy: what a user can do if the file is missing or of another kind.

    Raises:
        UserError: the file is missing, is not CSV, or lacks one of these columns.
    """
    import pandas as pd  # takes half a second, and few commands need it

    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""])
        missing = sorted({*numbers, *text} - set(table.columns))
        if missing:
            raise UserError(f"{path}: has no column {', '.join(f'`{name}`' for name in missing)}; {remedy}")
        for name in numbers:
            table[name] = pd.to_numeric(table[name])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except ValueError as error:  # of the parser, too
        raise UserError(f"{path}: not a table as expected ({' '.join(str(error).split())}); {remedy}") from None
    return table


def read_rows(path: Path, remedy: str = _REMEDY) -> list[dict[str, str]]:
    """Read the rows of a CSV file with a header as text.

    Args:
        path: the file.
        remedy: what a user can do if the file is missing.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{path}: {reason}; {remedy}") from None


def read_json(path: Path) -> Any:
    """Read JSON that this package wrote.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {_REMEDY}") from None
    except NotADirectoryError:
        raise UserError(f"{path.parent}: not a folder") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); make it again") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
