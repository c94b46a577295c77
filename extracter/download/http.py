"""Fetching one file whose SHA-256 is known: several addresses in turn, resuming, waiting and verifying."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from extracter.errors import UserError
from extracter.files import sha256

BUSY = (408, 425, 429, 500, 502, 503, 504)
# Wrong content seldom mends itself; a body cut short by a server that names no length looks the same.
WRONG_CONTENTS = 3


@dataclass(frozen=True)
class Patience:
    """How long to try: attempts an address without progress, seconds to connect, between bytes, between attempts."""

    attempts: int = 5
    connect: float = 15.0
    read: float = 30.0
    pause: float = 1.0
    longest_pause: float = 60.0
    largest: int = 256 * 2**20


PATIENCE = Patience()


class _TryAgain(Exception):
    """The address may serve the file later; `wait` is how long it asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _GiveUp(Exception):
    """The address does not serve the file."""


class Stopped(Exception):
    """Another file failed, or the user interrupted; what was fetched is kept."""


@dataclass(frozen=True)
class Transfer:
    """What all transfers of a set share.

    `advance` is told how many bytes arrived, `stop` ends them all.
    """

    session: requests.Session
    advance: Callable[[int], None]
    stop: threading.Event
    patience: Patience = PATIENCE

    def fetch(self, path: Path, addresses: list[str], digest: str, remedy: str) -> None:
        """Fetch a file to `path`; until it is complete and verified its bytes stand in `.NAME.part` beside it.

        Args:
            path: where it goes.
            addresses: http(s) addresses, tried in turn.
            digest: SHA-256 in hexadecimal.
            remedy: what a user can do if no address serves it, the last clause of the message.

        Raises:
            UserError: no address serves the file, or it cannot be written.
            Stopped: `stop` was set.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        tried = []
        for address in addresses:
            try:
                self._from_address(part, address, digest)
                part.replace(path)
            except _GiveUp as reason:
                tried.append(f"{address} ({reason})")
            except OSError as error:
                raise UserError(
                    f"{path}: cannot be written ({error.strerror or error}); free some space or check the permissions, "
                    "then run the same command again"
                ) from None
            else:
                return
        raise UserError(f"{path}: cannot be fetched; tried {', '.join(tried)}; {remedy}")

    def _from_address(self, part: Path, address: str, digest: str) -> None:
        """Bring `part` to completion from one address; attempts that get further than any before do not count."""
        failures, mismatches, furthest = 0, 0, -1
        while not self.stop.is_set():
            try:
                if not (part.is_file() and sha256(part) == digest):
                    self._attempt(part, address)
                    complaint = _complaint(part, digest)
                    if complaint:
                        part.unlink()
                        mismatches += 1
                        if mismatches >= WRONG_CONTENTS:
                            raise _GiveUp(complaint)
                        raise _TryAgain(complaint)
                return
            except _TryAgain as reason:
                size = part.stat().st_size if part.is_file() else 0
                failures = 0 if size > furthest >= 0 else failures + 1
                furthest = max(furthest, size)
                if failures >= self.patience.attempts:
                    raise _GiveUp(f"{reason}, {failures} times") from None
                pause = max(self.patience.pause * 2 ** max(failures - 1, 0), reason.wait)
                self.stop.wait(min(pause, self.patience.longest_pause))
        raise Stopped

    def _attempt(self, part: Path, address: str) -> None:
        """One request, which goes on where `part` ends if the server can."""
        have = part.stat().st_size if part.is_file() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        timeout = (self.patience.connect, self.patience.read)
        try:
            with self.session.get(address, headers=headers, timeout=timeout, stream=True) as response:
                self._receive(part, have, response)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects) as error:
            raise _GiveUp(_short(error)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _TryAgain(_short(error)) from None

    def _receive(self, part: Path, have: int, response: requests.Response) -> None:
        status = response.status_code
        if status in BUSY:
            raise _TryAgain(f"HTTP {status} {response.reason}", _retry_after(response))
        if status == 416:
            part.unlink(missing_ok=True)
            raise _TryAgain("HTTP 416, the server cannot go on where the last attempt ended")
        if status not in (200, 206):
            raise _GiveUp(f"HTTP {status} {response.reason}")
        resumed = status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _TryAgain("the server sent another part than was asked for")
        size = have if resumed else 0
        with part.open("ab" if resumed else "wb", buffering=0) as file:
            # What has arrived is written at once, so that no byte of an interrupted transfer comes twice.
            while chunk := response.raw.read1(1 << 16, decode_content=False):
                if self.stop.is_set():
                    raise Stopped
                size += len(chunk)
                if size > self.patience.largest:
                    raise _GiveUp(f"more than {self.patience.largest:,} bytes")
                file.write(chunk)
                self.advance(len(chunk))


def _retry_after(response: requests.Response) -> float:
    """Seconds that a busy server asks to wait; 0 where it names none or a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _short(error: Exception) -> str:
    """The cause of a network error in a few words; requests nests them with addresses of objects."""
    text = str(error)
    for sign, meaning in (
        ("NameResolution", "the host's name cannot be resolved: no network?"),
        ("Failed to resolve", "the host's name cannot be resolved: no network?"),
        ("timed out", "timed out"),
        ("Connection refused", "connection refused"),
        ("Network is unreachable", "the network is unreachable"),
        ("IncompleteRead", "the connection ended early"),
        ("Connection aborted", "connection aborted"),
        ("Connection broken", "connection broken"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: a proxy?"),
    ):
        if sign in text:
            return meaning
    return f"{type(error).__name__}: {text}"[:160]


def looks_like_html(start: bytes) -> bool:
    """Whether a file's first bytes are those of a web page."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<head"))


def _complaint(part: Path, digest: str) -> str:
    """What is wrong with a file that arrived, or nothing."""
    found = sha256(part)
    if found == digest:
        return ""
    with part.open("rb") as file:
        if looks_like_html(file.read(256)):
            return "a web page came instead of the file: a proxy or a sign-in page?"
    return f"wrong content: {part.stat().st_size:,} bytes with SHA-256 {found[:12]}..., not {digest[:12]}..."
