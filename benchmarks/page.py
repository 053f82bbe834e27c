"""The page's own weight as it is sent, and its first paint from a cold start of browser and service, on loopback.

Chromium is Debian's, started anew for each visit, so that nothing is cached and nothing is warm. First contentful paint
is what the browser's own Paint Timing says. In turn, another such browser opens a page of one word from a server that
has been running: what is left of that is the browser's own, and says how busy the machine is.
"""

from __future__ import annotations

import gzip
import shutil
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Playwright, sync_playwright

from benchmarks.support import banner, service

_STARTS = 10  # of the service
_AIM_MS = 300
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_SENT = "() => performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize ?? 0), 0)"
_WEB = Path(__file__).parents[1] / "service" / "web"


class _Word(BaseHTTPRequestHandler):
    """The least that can be painted."""

    def do_GET(self) -> None:
        """Answer with a page of one word."""
        page = b'<!doctype html><html lang="en"><title>bare</title><link rel="icon" href="data:,"><p>bare</p>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _bare() -> Iterator[int]:
    """Serve a page of one word; give the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Word) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def _visit(playwright: Playwright, port: int) -> tuple[float, int]:
    """Return the milliseconds to the first paint and the bytes that were sent until the page stood still."""
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}/", wait_until="networkidle")
    found = page.evaluate(_PAINT), page.evaluate(_SENT)
    browser.close()
    return found


def _told(paints: list[float]) -> str:
    return f"median {statistics.median(paints):.0f} ms, most {max(paints):.0f} ms"


def main() -> None:
    """Measure and print."""
    banner("page")
    visits, bare = [], []
    with sync_playwright() as playwright, _bare() as bare_port:
        for _ in range(_STARTS):
            bare.append(_visit(playwright, bare_port)[0])
            with service() as port:
                visits.append(_visit(playwright, port))
    print(f"  first paint, {_STARTS} cold starts: {_told([paint for paint, _ in visits])} (aim: under {_AIM_MS} ms)")
    print(f"  of a page of one word, in turn: {_told(bare)}")
    print(f"  sent for one visit, answers of /v1 included: {max(sent for _, sent in visits) / 1e3:.0f} kB (compressed)")
    files = [*_WEB.glob("*.html"), *_WEB.glob("page/*"), *_WEB.glob("vendor/htm/*.js")]
    plain = sum(file.stat().st_size for file in files)
    packed = sum(len(gzip.compress(file.read_bytes())) for file in files)
    print(f"  its own assets: {plain / 1e3:.0f} kB, compressed by gzip {packed / 1e3:.0f} kB (aim: under 300 kB)")


if __name__ == "__main__":
    main()
