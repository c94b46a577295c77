"""A real HTTP server on loopback that misbehaves as told, and keeps a log of what it was asked and what it sent."""

import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PAGE = b"<!DOCTYPE html><html><body>Too many users have viewed or downloaded this file recently.</body></html>"


@dataclass
class Request:
    """One request: path, first byte asked for, status answered, bytes of the file sent."""

    path: str
    start: int
    status: int = 0
    sent: int = 0


class Loopback:
    """Serves the files of a folder.

    `faults` lists, for the end of a path, what goes wrong at its next requests; `always` what goes wrong at every one.
    `pace` is the pause after each 4 KiB, seconds.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: dict[str, deque[str]] = defaultdict(deque)
        self.always: dict[str, str] = {}
        self.pace = 0.0
        self.log: list[Request] = []
        self.released = threading.Event()
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.close_connection = True
                loopback._answer(self)

            def log_message(self, *_args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args):
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def sent(self, end: str) -> int:
        """Bytes sent of the file whose path ends so."""
        return sum(request.sent for request in self.log if request.path.endswith(end))

    def _fault(self, path: str) -> str:
        for end, queue in self.faults.items():
            if path.endswith(end) and queue:
                return queue.popleft()
        return next((fault for end, fault in self.always.items() if path.endswith(end)), "")

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(handler.path).lstrip("/")
        asked = handler.headers.get("Range", "")
        request = Request(path, int(asked.removeprefix("bytes=").rstrip("-") or 0))
        self.log.append(request)
        fault = self._fault(path.removesuffix("?again"))
        file = self.root / path.removesuffix("?again")
        if fault == "drop":
            return
        if fault in ("302", "loop") and not (fault == "302" and path.endswith("?again")):
            return self._head(handler, request, 302, {"Location": f"/{path.removesuffix('?again')}?again"})
        if fault == "page":
            self._head(handler, request, 200, {"Content-Type": "text/html", "Content-Length": str(len(PAGE))})
            handler.wfile.write(PAGE)
            return None
        if fault.isdigit() and fault != "302":
            return self._head(handler, request, int(fault), {"Retry-After": "0"} if fault == "429" else {})
        if not file.is_file():
            return self._head(handler, request, 404, {})
        self._send(handler, request, file.read_bytes(), fault)
        return None

    def _send(self, handler: BaseHTTPRequestHandler, request: Request, data: bytes, fault: str) -> None:
        start = 0 if fault == "ignore range" else request.start
        if start and start >= len(data):
            self._head(handler, request, 416, {})
            return
        body = bytes(255 - byte for byte in data[start:]) if fault == "wrong" else data[start:]
        headers = {"Content-Length": str(len(body))}
        if fault == "no length":
            headers = {}
        if start:
            first = start + 1 if fault == "other range" else start
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        if fault.startswith("chunked"):
            headers = {**headers, "Transfer-Encoding": "chunked"}
            del headers["Content-Length"]
        self._head(handler, request, 206 if start else 200, headers)
        if fault in ("truncated", "no length", "stall", "chunked cut"):
            body = body[: len(body) // 2]
        for place in range(0, len(body), 4096):
            piece = body[place : place + 4096]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if fault.startswith("chunked") else piece)
            handler.wfile.flush()
            request.sent += len(piece)
            if self.pace:
                time.sleep(self.pace)
        if fault == "chunked":
            handler.wfile.write(b"0\r\n\r\n")
        if fault == "stall":
            self.released.wait(10)

    @staticmethod
    def _head(handler: BaseHTTPRequestHandler, request: Request, status: int, headers: dict[str, str]) -> None:
        request.status = status
        handler.send_response(status)
        if status not in (200, 206):
            headers = {"Content-Length": "0", **headers}
        for name, value in {"Connection": "close", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
