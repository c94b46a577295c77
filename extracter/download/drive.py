"""Fetch sets from Google Drive with gdown, and pin the checksums of the first download."""

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import gdown
import requests
from gdown.exceptions import DownloadCancelled, DownloadError

from extracter.data.manifest import Entry
from extracter.data.references import Layout
from extracter.download import archives, pins
from extracter.download.http import Patience, looks_like_html
from extracter.download.registry import DriveFile, Source
from extracter.download.supplied import copy_files, match_layout
from extracter.errors import UserError
from extracter.files import sha256, write_json
from extracter.progress import transfer_bar


def _remedy(file: DriveFile, name: str) -> str:
    unpack = f", unpack it into a folder {file.into}/ beside its partner," if file.into else ""
    return (
        f"fetch it with a browser from {file.page}{unpack} and name it with data.local.{name}; "
        "if Drive reports an exceeded quota, try again a day later"
    )


def _fetch(file: DriveFile, path: Path, name: str, patience: Patience) -> None:
    """Fetch one archive, resuming an interrupted download.

    Raises:
        UserError: Drive does not serve it, or what it serves is not an archive of the expected size.
    """
    stop = threading.Event()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with transfer_bar(f"download {file.name}", 1) as bar:
            gdown.download(
                url=file.address, output=str(path), quiet=True, use_cookies=False, resume=True, cancel=stop,
                timeout=(patience.connect, patience.read), retries=patience.attempts - 1,
                progress=lambda done, _total: bar.advance(done - bar.received),
            )  # fmt: skip
    except (DownloadError, DownloadCancelled, requests.RequestException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: Google Drive does not serve {file.name} ({reason}); {_remedy(file, name)}") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free some space, then run the same command again"
        ) from None
    finally:
        stop.set()
    with path.open("rb") as content:
        start = content.read(256)
    size = path.stat().st_size
    complaint = ""
    if looks_like_html(start):
        complaint = "a web page"
    elif not archives.is_archive(path):
        complaint = f"{size:,} bytes that are not a zip or tar archive"
    elif abs(size / 2**20 - file.mebibytes) > 1 + file.mebibytes / 100:
        complaint = f"an archive of {size:,} bytes, not of about {file.mebibytes} MiB,"
    if complaint:
        path.unlink()
        raise UserError(f"{path}: Google Drive sent {complaint} instead of {file.name}; {_remedy(file, name)}")


def download_drive(name: str, source: Source, out: Path, patience: Patience) -> tuple[Layout, list[Entry]]:
    """Fetch a set from Google Drive into its folder, completely or not at all.

    The SHA-256 of every archive and file is stored in .pins.json; later downloads must match it.

    Args:
        name: `train` or a test set.
        source: the registered set.
        out: the set's folder.
        patience: how long to try.

    Returns:
        the layout, and the manifest entries of all files.

    Raises:
        UserError: an archive cannot be fetched or does not match its pin, or the set in it is incomplete.
    """
    known = pins.read_pins(out)
    with ExitStack() as stack:
        where: dict[str, Path] = {}
        fetched = []
        for file in source.drive:
            archive = out / f".{file.id}.archive"
            if not archive.is_file():
                _fetch(file, archive, name, patience)
            digest = sha256(archive)
            before = known["archives"].setdefault(file.id, digest)
            if digest != before:
                raise UserError(
                    f"{out}: {file.name} changed on Google Drive (SHA-256 {digest[:12]}..., it was {before[:12]}... "
                    f"when first fetched); delete {out / pins.NAME} if you trust it"
                )
            fetched.append(archive)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".unpacked-", dir=out)))
            for path in archives.unpack(archive, folder):
                target = f"{file.into}/{PurePosixPath(path).name}" if file.into else path
                where[target] = folder / path
        layout, chosen = match_layout(source, sorted(where), f"{name} from Google Drive")
        files = {target: where[path] for target, path in chosen.items()}
        known["files"] = copy_files(out, name, files, f"or supply the set with data.local.{name}")
        write_json(out / pins.NAME, known)
        for archive in fetched:
            archive.unlink()
    return layout, known["files"]
