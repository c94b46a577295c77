"""Record in the XMP packet of a result what it was made from, so that other results are not mistaken for it."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple

from extracter.files import open_regular, sha256
from extracter.photos.photo import Photo

_NAMESPACE = "https://arxiv.org/abs/2310.01379"
_ENDS = 2**18  # the XMP packet lies within this many bytes of the beginning or end of a file
_RECORD = re.compile(
    rb'<rdf:Description rdf:about="" xmlns:extracter="[^"]*" extracter:source="([^"]*)" '
    rb'extracter:image="([0-9a-f]*)" extracter:settings="([0-9a-f]*)"/>'
)
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


class Record(NamedTuple):
    """File name and digest of the image, and a digest of everything else that the result depends on."""

    source: str
    image: str
    settings: str


def settings_digest(model: str, references: Sequence[Path], *options: object) -> str:
    """A digest of the model, the references and the options of a result.

    Args:
        model: from `model_digest`.
        references: their files.
        options: numbers and strings.
    """
    parts = [model, *map(fingerprint, references), *options]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def model_digest(folder: Path) -> str:
    """A digest of the weights and configuration of a checkpoint."""
    return sha256(folder / "model.safetensors") + sha256(folder / "config.json")


def fingerprint(path: Path) -> str:
    """A digest of the size, beginning and end of a file; empty if it cannot be read."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            return hashlib.sha256(str(size).encode() + _ends(file, size)).hexdigest()[:16]
    except OSError:
        return ""


def with_record(photo: Photo, record: Record) -> Photo:
    """Add a record to the XMP packet of a photograph, which is left unchanged if the packet is malformed."""
    source, image, settings = record
    text = (
        f'<rdf:Description rdf:about="" xmlns:extracter="{_NAMESPACE}" extracter:source="{escape(_printable(source))}" '
        f'extracter:image="{image}" extracter:settings="{settings}"/>'
    )
    packet = _RECORD.sub(b"", photo.metadata.xmp or _EMPTY)
    if b"</rdf:RDF>" not in packet:
        return photo
    packet = packet.replace(b"</rdf:RDF>", text.encode() + b"</rdf:RDF>", 1)
    return replace(photo, metadata=replace(photo.metadata, xmp=packet))


def read_record(path: Path) -> Record | None:
    """Read the record in a result; None if there is none."""
    try:
        with open_regular(path) as file:
            found = _RECORD.search(_ends(file, file.seek(0, os.SEEK_END)))
    except OSError:
        return None
    if found is None:
        return None
    source, image, settings = (group.decode("utf-8", "replace") for group in found.groups())
    return Record(unescape(source), image, settings)


def _printable(name: str) -> str:
    """A file name without the characters that XML cannot hold."""
    return "".join(c if c.isprintable() and not 0xD800 <= ord(c) < 0xE000 else "?" for c in name)


def _ends(file, size: int) -> bytes:
    file.seek(0)
    start = file.read(_ENDS)
    if size > _ENDS:
        file.seek(max(_ENDS, size - _ENDS))
        start += file.read()
    return start
