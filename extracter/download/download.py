"""Download the raw images of one set with their manifest, completely or not at all."""

import hashlib
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extracter.data import manifest
from extracter.data.images import write_bytes
from extracter.data.manifest import Entry
from extracter.data.parallel import ordered_map
from extracter.data.references import Layout, arrange
from extracter.download import demo, pins, registry, supplied
from extracter.download.drive import download_drive
from extracter.download.git import download_git
from extracter.download.http import PATIENCE, Patience, Stopped, Transfer, open_session
from extracter.download.registry import PinnedFile
from extracter.errors import UserError
from extracter.files import sha256
from extracter.presets import TestData, TrainData
from extracter.progress import transfer_bar

CONNECTIONS = 8


def _every(name: str, layout: Layout, entries: list[Entry], every: int) -> list[Entry]:
    """Every n-th image (4 takes the 4th, the 8th and so on) with its references."""
    if name == "train":
        return entries
    chosen = arrange(layout, entries)[every - 1 :: every]
    if not chosen:
        raise UserError(f"{name}: fewer than {every} images, so every {every}th is none; lower evaluation.every")
    by_path = {entry["path"]: entry for image in chosen for entry in (image.entry, *image.references)}
    return [by_path[path] for path in sorted(by_path)]


def _copy_verified(found: Path, path: Path, digest: str) -> bool:
    """Copy a file if its content is right; a link would make presets, or the mirror, depend on each other."""
    data = found.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        return False
    write_bytes(path, data)
    return True


def _elsewhere(out: Path, path: str) -> list[Path]:
    """The same file of the same set in the raw data of other presets."""
    if out.parent.parent.name != "raw":
        return []
    return [found for found in out.parent.parent.glob(f"*/{out.name}/{path}") if found != out / path]


def _copy_from_mirror(out: Path, mirror: Path, file: PinnedFile, remedy: str) -> None:
    found = Path(file.below(str(mirror)))
    if not found.is_file():
        raise UserError(f"{found}: missing from the mirror, {out / file.path} cannot be copied; {remedy}")
    if not _copy_verified(found, out / file.path, file.sha256):
        raise UserError(f"{found}: not the published file, its SHA-256 is not {file.sha256[:12]}...; {remedy}")


def _fetch_all(missing: list[PinnedFile], out: Path, name: str, mirror: str | None, patience: Patience) -> None:
    """Fetch files over http(s), several at a time; stop at the first failure, keeping complete files."""
    stop = threading.Event()
    with open_session(patience, CONNECTIONS) as session, transfer_bar(f"download {name}", len(missing)) as bar:
        transfer = Transfer(session, bar.advance, stop, patience)

        def one(file: PinnedFile) -> None:
            try:
                addresses = file.addresses() if mirror is None else [file.below(mirror)]
                transfer.fetch(out / file.path, addresses, file.sha256, _by_hand(name, file))
            except BaseException:
                stop.set()
                raise
            bar.finish()

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            futures = [pool.submit(one, file) for file in missing]
            try:
                for future in futures:
                    error = future.exception()
                    if error is not None and not isinstance(error, Stopped):
                        raise error
            finally:
                stop.set()
                for future in futures:
                    future.cancel()


def _by_hand(name: str, file: PinnedFile) -> str:
    return (
        f"put the file there by hand (SHA-256 {file.sha256}), set data.mirror to a folder or server that has "
        f"{file.repository}/{file.commit[:7]}.../{file.remote}, or supply the set with data.local.{name}"
    )


def _download_pinned(
    name: str, files: list[PinnedFile], out: Path, mirror: str | None, patience: Patience
) -> list[Entry]:
    """Get files with known SHA-256 from the nearest source; return their manifest entries."""
    present = ordered_map(
        lambda file: (out / file.path).is_file() and sha256(out / file.path) == file.sha256, files, f"check {name}"
    )
    missing = [file for file, there in zip(files, present, strict=True) if not there]
    missing = [
        file
        for file in missing
        if not any(_copy_verified(found, out / file.path, file.sha256) for found in _elsewhere(out, file.path))
    ]
    if missing and mirror is not None and not mirror.startswith(("http://", "https://")):
        folder = Path(mirror).expanduser()
        if not folder.is_dir():
            raise UserError(f"data.mirror: {mirror}: not an existing folder or an http(s) address; correct it")
        for _ in ordered_map(
            lambda file: _copy_from_mirror(out, folder, file, _by_hand(name, file)), missing, f"copy {name}"
        ):
            pass
    elif missing:
        _fetch_all(missing, out, name, mirror.rstrip("/") if mirror else None, patience)
    return [{"path": file.path, "sha256": file.sha256, "size": (out / file.path).stat().st_size} for file in files]


def _download_folder(name: str, folder: str, out: Path, every: int) -> list[Entry]:
    """Copy the user's own photographs."""
    key = f"data.train.folder: {folder}" if name == "train" else f"data.tests.{name}.folder: {folder}"
    if not Path(folder).expanduser().is_dir():
        raise UserError(f"{key}: no such folder; correct the path")
    with supplied.opened(key, Path(folder), out) as (root, images):
        chosen = _every(name, "photographs", [{"path": path} for path in images], every)
        return supplied.copy_files(out, name, {entry["path"]: root / entry["path"] for entry in chosen}, key)


def _download_local(
    name: str, source: registry.Source, local: str, out: Path, every: int
) -> tuple[Layout, list[Entry]]:
    """Copy a published set that the user supplies, and verify it like a downloaded one."""
    key = f"data.local.{name}: {local}"
    with supplied.opened(f"data.local.{name}", Path(local), out) as (root, images):
        layout, chosen = supplied.match_layout(source, images, key)
        pinned = {file.path: file.sha256 for file in source.files()} if layout == source.layout else {}
        entries = _every(name, layout, [{"path": path} for path in sorted(chosen)], every)
        for path in (entry["path"] for entry in entries if entry["path"] in pinned):
            if sha256(root / chosen[path]) != pinned[path]:
                raise UserError(f"{local}/{chosen[path]}: not the published file, its SHA-256 differs; replace it")
        files = {entry["path"]: root / chosen[entry["path"]] for entry in entries}
        return layout, supplied.copy_files(out, name, files, key)


def _download_whole(name: str, source: registry.Source, out: Path, patience: Patience) -> tuple[Layout, list[Entry]]:
    """Fetch a set by git or, if that fails or is not possible, from Google Drive, unless it is already complete."""
    known = pins.read_pins(out)
    if pins.is_complete(out, known):
        return source.layout, known["files"]
    if source.git is None:
        return download_drive(name, source, out, patience)
    try:
        return download_git(name, source, out, patience)
    except UserError as first:
        print(f"{name}: {first}; trying Google Drive", file=sys.stderr)
        try:
            return download_drive(name, source, out, patience)
        except UserError as second:
            raise UserError(f"{name}: {first}; {second}") from None


def download(
    name: str,
    source: TrainData | TestData,
    out: Path,
    *,
    mirror: str | None,
    local: str | None,
    every: int,
    patience: Patience = PATIENCE,
) -> None:
    """Download the raw images of one set into a folder, with manifest.json; complete files are kept.

    Args:
        name: `train` or a test set.
        source: where the set comes from.
        out: folder for the images.
        mirror: folder or http(s) address to use instead of the raw host, or None.
        local: folder or archive that the user supplies instead of a download, or None.
        every: take every n-th image of a test set.
        patience: number of attempts and timeouts.

    Raises:
        UserError: the set cannot be obtained; complete files are kept for the next run.
    """
    out = Path(out)
    kind = source.source
    if kind == "none":
        raise UserError(f"{name}: not available in this preset (data.tests.{name}.source: none)")
    if local is not None and kind in ("demo", "folder"):
        raise UserError(f"data.local.{name}: supplies a published set, but the source is {kind}; change one of them")
    for left in out.glob(".unpacked-*"):  # by a run that was killed
        shutil.rmtree(left)
    layout: Layout = "photographs"
    place = ""
    if kind == "demo":
        layout = demo.layout(name)
        paths = _every(name, layout, [{"path": path} for path in demo.paths(name)], every)
        files = demo.write(name, out, [entry["path"] for entry in paths])
        place = "scikit-image"
    elif kind == "folder":
        files = _download_folder(name, source.folder or "", out, every)
        place = "the user's folder"
    else:
        registered = registry.get(name, kind)
        place = registered.place
        if local is not None:
            layout, files = _download_local(name, registered, local, out, every)
            place = "the user"
        elif registered.drive:
            layout, files = _download_whole(name, registered, out, patience)
            files = _every(name, layout, files, every)
        else:
            layout = registered.layout
            pinned = {file.path: file for file in registered.files()}
            entries = _every(name, layout, [{"path": path} for path in pinned], every)
            files = _download_pinned(name, [pinned[entry["path"]] for entry in entries], out, mirror, patience)
    stand_in = kind == "demo" or (kind == "folder" and name in registry.TEST_SOURCES)
    manifest.write(out, name, kind, stand_in=stand_in, layout=layout, origin=place, files=files)
    size = sum(entry["size"] for entry in files)
    print(f"{name}: {len(files):,} files, {size / 1e6:,.1f} MB, from {place}, in {out}")
