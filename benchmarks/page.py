"""The page's own weight as it is sent, and its first paint from a cold start of browser and service, on loopback.

Chromium is Debian's; each visit has a context of its own, so that nothing is cached. First contentful paint is
what the browser's own Paint Timing says.
"""

from __future__ import annotations

import gzip
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.support import banner, service

_STARTS = 5  # of the service
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_SENT = "() => performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize ?? 0), 0)"
_WEB = Path(__file__).parents[1] / "service" / "web"


def _visit(browser: Browser, port: int) -> tuple[float, int]:
    """Return the milliseconds to the first paint and the bytes that were sent until the page stood still."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/", wait_until="networkidle")
    found = page.evaluate(_PAINT), page.evaluate(_SENT)
    context.close()
    return found


def main() -> None:
    """Measure and print."""
    banner("page")
    visits = []
    with sync_playwright() as playwright:
        for _ in range(_STARTS):
            with service() as port:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
                visits.append(_visit(browser, port))
                browser.close()
    paints = [paint for paint, _ in visits]
    print(f"  first paint, {_STARTS} cold starts: median {statistics.median(paints):.0f} ms, most {max(paints):.0f} ms")
    print(
        f"  sent for one visit, answers of /v1 included: {max(sent for _, sent in visits) / 1e3:.0f} kB (as they come)"
    )
    files = [*_WEB.glob("*.html"), *_WEB.glob("page/*"), *_WEB.glob("vendor/htm/*.js")]
    plain = sum(file.stat().st_size for file in files)
    packed = sum(len(gzip.compress(file.read_bytes())) for file in files)
    print(f"  its own assets: {plain / 1e3:.0f} kB, compressed by gzip {packed / 1e3:.0f} kB (aim: under 300 kB)")


if __name__ == "__main__":
    main()
