"""A real browser on pages that the test serves; what a page reports comes back over HTTP."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.waiting import BOUND

__all__ = ["Page", "opened", "served"]

# Without these it looks for its maker's hosts at every start.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


class Page:
    """A page at an address of this machine, and what its script reports by POST to ``/report``."""

    def __init__(self, html: str, server: ThreadingHTTPServer) -> None:
        self.html = html
        self.reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._port = server.server_address[1]

    def origin(self, host: str = "127.0.0.1") -> str:
        """Return what a browser says where the page comes from, asked for by this name of the machine."""
        return f"http://{host}:{self._port}"

    def report(self) -> Any:
        """Wait for the next report."""
        try:
            return self.reports.get(timeout=BOUND * 2)
        except queue.Empty:
            raise AssertionError("the page reported nothing") from None


@contextmanager
def served(html: str) -> Iterator[Page]:
    """Serve *html* on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page.html.encode() if self.path.partition("?")[0] == "/" else b"")

        def do_POST(self) -> None:
            page.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        page = Page(html, server)
        thread = threading.Thread(target=server.serve_forever, name="pages")
        thread.start()
        try:
            yield page
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(url: str, profile: Path) -> Iterator[None]:
    """Open *url* in a browser of its own, which keeps what it has to keep in *profile*."""
    command = ["chromium", *QUIET, f"--user-data-dir={profile}", url]
    # A session of its own: its many processes are ended together, by the id of the group.
    browser = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
