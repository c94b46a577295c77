"""manifest.json: the files of a set with SHA-256 and size, so that a wrong file is detected before it is used."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from extracter.data.images import decode, encode_png, write_bytes
from extracter.errors import UserError
from extracter.files import read_json, sha256, write_json

NAME = "manifest.json"
Entry = dict[str, Any]


def describe(folder: Path, path: str) -> Entry:
    """The manifest entry of one file: path relative to `folder`, SHA-256, size in bytes."""
    file = Path(folder) / path
    return {"path": path, "sha256": sha256(file), "size": file.stat().st_size}


def describe_bytes(path: str, data: bytes) -> Entry:
    """The manifest entry of a file with the given content."""
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def write_png(folder: Path, path: str, image: Image.Image) -> Entry:
    """Write an image of a set as PNG; return its manifest entry."""
    data = encode_png(image)
    write_bytes(Path(folder) / path, data)
    return describe_bytes(path, data)


def write(folder: Path, name: str, source: str, *, stand_in: bool, files: Iterable[Entry], **more: Any) -> None:
    """Write the manifest of a set, sorted by path; it does not depend on the time or the machine."""
    ordered = sorted(files, key=lambda entry: entry["path"])
    write_json(Path(folder) / NAME, {"set": name, "source": source, "stand_in": stand_in, **more, "files": ordered})


def read(folder: Path) -> dict[str, Any]:
    """Read a set's manifest.

    Raises:
        UserError: it is missing, not JSON, or lacks a required key.
    """
    path = Path(folder) / NAME
    content = read_json(path)
    wanted = ("set", "source", "stand_in", "files")
    if not isinstance(content, dict) or any(key not in content for key in wanted):
        raise UserError(f"{path}: not a manifest of a set; delete it and run the workflow again")
    return content


def read_set(raw: Path, name: str, source: str) -> dict[str, Any]:
    """Read the manifest of a raw set, and check that it is the set that the parameters name.

    Raises:
        UserError: there is no manifest, or it is that of another set or source.
    """
    content = read(raw)
    if (content["set"], content["source"]) != (name, source):
        raise UserError(
            f"{raw / NAME}: holds {content['set']} from {content['source']}, not {name} from {source}; "
            "delete it and run the workflow again"
        )
    return content


def read_image(folder: Path, entry: Entry) -> Image.Image:
    """Read one image of a set and verify it against its manifest entry.

    Returns:
        The image as 8-bit RGB.

    Raises:
        UserError: the file is missing, truncated, altered since the manifest was written, or not an image.
    """
    path = Path(folder) / entry["path"]
    remedy = f"delete it and {Path(folder) / NAME}, then run the workflow again"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; delete {Path(folder) / NAME} and run the workflow again") from None
    if len(data) < entry["size"]:
        kind = path.suffix.lstrip(".").upper()
        raise UserError(f"{path}: truncated {kind} ({len(data):,} of {entry['size']:,} bytes); {remedy}")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise UserError(f"{path}: altered, its SHA-256 is not the manifest's; {remedy}")
    return decode(data, path, remedy)
