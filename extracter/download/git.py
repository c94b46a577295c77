"""Fetch sets that are one folder of a Git repository; the commit hash verifies every file."""

import os
import shutil
import subprocess
from pathlib import Path

from rich.console import Console

from extracter.data.manifest import Entry
from extracter.data.references import Layout
from extracter.download import pins
from extracter.download.http import Patience
from extracter.download.registry import PinnedFolder, Source
from extracter.download.supplied import copy_files, images_below, match_layout
from extracter.errors import UserError
from extracter.files import write_json

# Settings of the user or the machine must not change a file or run a program.
SETTINGS = {
    "core.autocrlf": "false",
    "core.hooksPath": os.devnull,
    "advice.detachedHead": "false",
    "remote.origin.promisor": "true",
    "remote.origin.partialclonefilter": "blob:none",
}


def _run(repository: Path, *arguments: str, patience: Patience) -> None:
    """Run git in a repository; it gives up after `patience.read` seconds below 1,000 bytes per second."""
    slow = {"http.lowSpeedLimit": "1000", "http.lowSpeedTime": str(max(round(patience.read), 1))}
    options = [part for key, value in {**SETTINGS, **slow}.items() for part in ("-c", f"{key}={value}")]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    command = ["git", "-C", str(repository), *options, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(" ".join(done.stderr.split())[-200:] or f"git ended with code {done.returncode}")


def fetch_folder(place: PinnedFolder, repository: Path, patience: Patience) -> Path:
    """Fetch one folder of one commit, without history and other files.

    Args:
        place: address, commit and folder.
        repository: folder for the repository; an interrupted download there is resumed.
        patience: how long to wait for a silent server.

    Returns:
        the folder with the files, inside `repository`.

    Raises:
        UserError: git is missing, or the server does not send the folder.
    """
    if shutil.which("git") is None:
        raise UserError("git is not installed")
    repository.mkdir(parents=True, exist_ok=True)
    if not (repository / ".git").is_dir():
        _run(repository, "init", "--quiet", "--template=", patience=patience)
    _run(repository, "config", "remote.origin.url", place.address, patience=patience)
    _run(repository, "config", "extensions.partialClone", "origin", patience=patience)
    fetch = ("fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "origin", place.commit)
    _run(repository, *fetch, patience=patience)
    _run(repository, "sparse-checkout", "set", "--no-cone", f"/{place.folder}/", patience=patience)
    _run(repository, "checkout", "--quiet", "--force", place.commit, patience=patience)
    return repository / place.folder


def download_git(name: str, source: Source, out: Path, patience: Patience) -> tuple[Layout, list[Entry]]:
    """Fetch a set from a Git repository into its folder, completely or not at all.

    Args:
        name: of the set.
        source: the registered set, with `git`.
        out: the set's folder.
        patience: how long to wait for a silent server.

    Returns:
        the layout, and the manifest entries of all files.

    Raises:
        UserError: the folder cannot be fetched, or lacks a file of the set.
    """
    assert source.git is not None  # the caller checks it
    where = f"{source.git.address}, commit {source.git.commit[:7]}"
    repository = out / f".git-{source.git.commit[:12]}"
    try:
        with Console(stderr=True).status(f"download {name} from {where}"):
            folder = fetch_folder(source.git, repository, patience)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if not folder.is_dir():
        raise UserError(f"{where}: has no folder {source.git.folder}")
    layout, chosen = match_layout(source, images_below(folder), where)
    files = {target: folder / path for target, path in chosen.items()}
    entries = copy_files(out, name, files, f"or supply the set with data.local.{name}")
    write_json(out / pins.NAME, {"archives": {}, "files": entries})
    shutil.rmtree(repository, ignore_errors=True)
    return layout, entries
