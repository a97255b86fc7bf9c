"""The page of a running sweep: a server on this machine alone, which only reads.

It listens on the loopback address, and answers nobody who does not know the random token in the address:
other users of the machine, and web pages in the same browser, do not. It never writes to the store. The page
asks every two seconds whether there is something new.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Hashable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from gridrun.errors import StoreError
from gridrun.report.data import Report, to_json
from gridrun.report.page import to_served_html

HOST = "127.0.0.1"
LOAD = 0.2
"""Most of one CPU's time that reading the store anew may take."""
KEPT = 2
"""Reports whose blobs are kept: a page may ask for one of the last report when there is a new one."""
SILENT_SECONDS = 30.0
"""A connection that says nothing for so long is closed."""


class _Made(NamedTuple):
    stamp: str
    """Names this report; the page repeats it."""
    report: Report


class LiveReport:
    """The newest report of a store. It is made anew when the store has changed, and somebody asks.

    Args:
        make: reads the store. If it raises StoreError or OSError later on, the report stays as it was.
        version: returns a value that changes with what the store holds.
    """

    def __init__(self, make: Callable[[], Report], version: Callable[[], Hashable]) -> None:
        self._make, self._version = make, version
        self._lock = threading.Lock()
        self._seen: Hashable = None
        self._not_before = 0.0
        self._made: list[_Made] = []
        self._start = secrets.token_hex(4)  # else a page would take a new server's first report for its own
        self._count = 0
        self._renew()

    @property
    def newest(self) -> _Made:
        """The newest report and its stamp."""
        with self._lock:
            if time.monotonic() >= self._not_before:
                with contextlib.suppress(StoreError, OSError):  # as in the middle of a write: look again soon
                    self._renew()
            return self._made[-1]

    def blob(self, name: str, stamp: str) -> bytes | None:
        """Return a blob of the report with this stamp, None if there is none or it is too old."""
        with self._lock:
            found = next((made.report for made in self._made if made.stamp == stamp), None)
        return found.blobs.get(name) if found else None

    def _renew(self) -> None:
        version = self._version()  # first: what changes while the report is made is then seen next time
        if self._made and version == self._seen:
            return
        started = time.monotonic()
        report = self._make()
        ended = time.monotonic()
        self._seen, self._not_before = version, ended + (ended - started) / LOAD
        self._count += 1
        self._made = [*self._made, _Made(f"{self._start}-{self._count}", report)][-KEPT:]


class Server(ThreadingHTTPServer):
    """Serves one report at `address` until `shutdown`.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, live: LiveReport, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.live = live
        self.token = secrets.token_urlsafe(24)

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SILENT_SECONDS
    server_version = "gridrun"
    sys_version = ""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        _, token, *path = parts.path.split("/", 2)
        # Another name that resolves to this address would let a foreign page read the answer.
        own_names = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        knows = secrets.compare_digest(token.encode(), self.server.token.encode())
        if not knows or self.headers.get("Host") not in own_names or not path:
            self._answer(404)
            return
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        live, stamp = self.server.live, asked.get("stamp", "")
        if path[0] == "":
            made = live.newest
            page = to_served_html(_stamped(made))
            self._answer(200, "text/html; charset=utf-8", page.encode())
        elif path[0] == "data.json":
            made = live.newest
            if made.stamp == stamp:
                self._answer(204)
            else:
                self._answer(200, "application/json", to_json(_stamped(made).data).encode())
        elif path[0].startswith("blob/") and (blob := live.blob(path[0].removeprefix("blob/"), stamp)):
            self._answer(200, "application/octet-stream", blob)
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, code: int, kind: str = "text/plain", body: bytes = b"") -> None:
        self.send_response(code)
        headers = {
            "Content-Length": str(len(body)),
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "Content-Security-Policy": "frame-ancestors 'none'",  # the page itself has the rest
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # the reader has closed the page
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address has the token, and logs are often shared."""


def _stamped(made: _Made) -> Report:
    return Report({**made.report.data, "stamp": made.stamp}, made.report.blobs)
