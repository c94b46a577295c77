"""Fetch files with known SHA-256 from one of several addresses."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from extracter.data.images import write_bytes
from extracter.errors import UserError

BUSY = (408, 425, 429, 500, 502, 503, 504)
_NO_NAME = "the host's name cannot be resolved: no network?"


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: per address.
        connect: seconds to connect.
        read: seconds without data.
        pause: seconds between attempts; they double each time while the server is busy.
        longest_pause: limit of that, in seconds.
        largest: limit of a file's size, in bytes.
    """

    attempts: int = 5
    connect: float = 15.0
    read: float = 30.0
    pause: float = 1.0
    longest_pause: float = 60.0
    largest: int = 256 * 2**20


PATIENCE = Patience()


class Stopped(Exception):
    """Another file failed, or the user interrupted."""


class _FailedError(Exception):
    """The address does not serve the file."""


def open_session(patience: Patience, connections: int) -> requests.Session:
    """A session that repeats requests if the server is busy or unreachable.

    Args:
        patience: how often, and after which pauses.
        connections: number of simultaneous connections.
    """
    retry = Retry(
        patience.attempts - 1,
        status_forcelist=BUSY,
        backoff_factor=patience.pause,
        backoff_max=patience.longest_pause,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections, max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"
    return session


@dataclass(frozen=True)
class Transfer:
    """What all transfers of a set share. `advance` is called with the bytes received; `stop` ends all of them."""

    session: requests.Session
    advance: Callable[[int], None]
    stop: threading.Event
    patience: Patience = PATIENCE

    def fetch(self, path: Path, addresses: list[str], digest: str, remedy: str) -> None:
        """Fetch a file of some megabytes; it appears at `path` once it is complete and verified.

        Args:
            path: where to write it.
            addresses: http(s) addresses, tried in turn.
            digest: SHA-256 in hexadecimal.
            remedy: what the user can do if no address serves it; it ends the message.

        Raises:
            UserError: no address serves the file, or it cannot be written.
            Stopped: `stop` was set.
        """
        tried = []
        for address in addresses:
            try:
                write_bytes(path, self._verified(address, digest))
            except _FailedError as reason:
                tried.append(f"{address} ({reason})")
            else:
                return
        raise UserError(f"{path}: cannot be fetched; tried {', '.join(tried)}; {remedy}")

    def _verified(self, address: str, digest: str) -> bytes:
        """The verified content; a transfer that breaks off or delivers something else is repeated."""
        reason = ""
        for _ in range(self.patience.attempts):
            try:
                with self.session.get(
                    address, timeout=(self.patience.connect, self.patience.read), stream=True
                ) as response:
                    if response.status_code != requests.codes.ok:
                        raise _FailedError(f"HTTP {response.status_code} {response.reason}")
                    data = self._body(response)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reason = _short(error)
                if reason == _NO_NAME:  # the session has tried it several times already
                    raise _FailedError(reason) from None
            except requests.RequestException as error:
                raise _FailedError(_short(error)) from None
            else:
                reason = _complaint(data, digest)
                if not reason:
                    return data
            if self.stop.wait(self.patience.pause):
                raise Stopped
        raise _FailedError(f"{reason}, {self.patience.attempts} times")

    def _body(self, response: requests.Response) -> bytes:
        data = bytearray()
        for chunk in response.iter_content(1 << 16):
            if self.stop.is_set():
                raise Stopped
            data += chunk
            if len(data) > self.patience.largest:
                raise _FailedError(f"more than {self.patience.largest:,} bytes")
            self.advance(len(chunk))
        return bytes(data)


def _short(error: Exception) -> str:
    """The cause of a network error in a few words; messages of requests nest several errors."""
    text = str(error)
    for sign, meaning in (
        ("NameResolution", _NO_NAME),
        ("Failed to resolve", _NO_NAME),
        ("timed out", "timed out"),
        ("Connection refused", "connection refused"),
        ("Network is unreachable", "the network is unreachable"),
        ("IncompleteRead", "the connection ended early"),
        ("InvalidChunkLength", "the connection ended early"),
        ("ended prematurely", "the connection ended early"),
        ("Connection aborted", "connection aborted"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: a proxy?"),
    ):
        if sign in text:
            return meaning
    return f"{type(error).__name__}: {text}"[:160]


def looks_like_html(start: bytes) -> bool:
    """Whether a file's first bytes are those of a web page."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<head"))


def _complaint(data: bytes, digest: str) -> str:
    """What is wrong with received data; empty if nothing is."""
    found = hashlib.sha256(data).hexdigest()
    if found == digest:
        return ""
    if looks_like_html(data[:256]):
        return "a web page came instead of the file: a proxy or a sign-in page?"
    return f"wrong content: {len(data):,} bytes with SHA-256 {found[:12]}..., not {digest[:12]}..."
