"""Checksums of the first download of a set without published ones, in .pins.json."""

from pathlib import Path
from typing import Any

from extracter.data import manifest
from extracter.files import read_json

NAME = ".pins.json"
Pins = dict[str, Any]


def read_pins(out: Path) -> Pins:
    """The SHA-256 of archives by name (`archives`) and the manifest entries of the set's files (`files`)."""
    return read_json(out / NAME) if (out / NAME).is_file() else {"archives": {}, "files": []}


def is_complete(out: Path, pins: Pins) -> bool:
    """Whether every file of the set is still there and unchanged."""
    entries = pins["files"]
    return bool(entries) and all(
        (out / entry["path"]).is_file() and manifest.describe(out, entry["path"]) == entry for entry in entries
    )
