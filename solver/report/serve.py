"""The report over HTTP, for a notebook without a screen: read-only, this machine only, always current.

The journal is read on when somebody asks and it has grown. Requests must name this host and port:
a web page elsewhere that points its own name at this machine gets nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from solver.errors import InputError, SolverError
from solver.report.details import Details
from solver.report.page import data, embeddable, html
from solver.report.source import RunSource

HOST = "127.0.0.1"
_IDLE_SHARE = 4  # a report that took a second to make is made anew after four at the earliest
_SLOWEST_CLIENT_S = 30


class LiveData:
    """The newest data of the runs; made anew when a journal has grown, and not too often."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._sources = [RunSource(folder) for folder in folders]
        self._details = Details()
        self._lock = threading.Lock()
        self._data: dict[str, Any] | None = None
        self._version = 0
        self._not_before = -inf

    def data(self) -> dict[str, Any]:
        """What the page shows now; `stamp` tells one state from another."""
        with self._lock:
            began = time.monotonic()
            if began >= self._not_before and (self._grown() or self._data is None):
                self._version += 1
                self._data = data(self._sources, self._details, live=True)
                self._data["stamp"] = str(self._version)
                ended = time.monotonic()
                self.ask_again_at(ended + _IDLE_SHARE * (ended - began))
            assert self._data is not None  # the first time is never too early
            return self._data

    def ask_again_at(self, moment: float) -> None:
        """Look at the journals again from this moment of the monotonic clock on."""
        self._not_before = moment

    def _grown(self) -> bool:
        return sum(source.update() for source in self._sources) > 0


class _Handler(BaseHTTPRequestHandler):
    timeout = _SLOWEST_CLIENT_S
    server: ReportServer

    def do_GET(self) -> None:
        """The page at /, its data at /data.json, nothing else."""
        if self.headers.get("Host", "").lower() not in self.server.names:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", f"use {self.server.url}\n")
            return
        url = urlsplit(self.path)
        if url.path not in ("/", "/data.json"):
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "there is nothing here\n")
            return
        try:
            shown = self.server.live.data()
        except SolverError as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n")
            return
        if url.path == "/":
            self._send(HTTPStatus.OK, "text/html", html(shown))
        elif parse_qs(url.query).get("known") == [shown["stamp"]]:
            self._send(HTTPStatus.NO_CONTENT, "application/json", "")
        else:
            self._send(HTTPStatus.OK, "application/json", embeddable(shown))

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the reader may be gone
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to the run."""


_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


class ReportServer(ThreadingHTTPServer):
    """Bound when made, serving in a thread of its own inside `with`; `url` is where."""

    daemon_threads = True

    def __init__(self, folders: Sequence[Path], port: int = 0) -> None:
        self.live = LiveData(folders)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise InputError(f"cannot serve on port {port}: {error.strerror}") from None
        number = self.server_address[1]
        self.url = f"http://{HOST}:{number}/"
        self.names = {f"{HOST}:{number}", f"localhost:{number}"}
        self._thread = threading.Thread(target=self.serve_forever, name="report", daemon=True)

    def __enter__(self) -> ReportServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """A broken connection is the reader's business."""

    def wait(self) -> None:
        """Until the process is interrupted."""
        threading.Event().wait()
