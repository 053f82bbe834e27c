"""The pictures in the README, from real runs: `python -m tests.web.pictures`, in the repository's root.

A service on a free port runs two jobs that differ in the lock only, and an experiment. What it draws is taken as it is;
the page with both runs is taken in Chromium. Every run gives other figures: look at the pictures before they are
committed, and make them on a machine that does nothing else.
"""

from __future__ import annotations

import base64
import re
import shutil
import struct
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, sync_playwright

from tests.system.server import ROOT, Server

__all__ = ["FOLDER", "PICTURES", "make"]

FOLDER = ROOT / ".pictures"
PICTURES = ("timeline.svg", "chart.svg", "page-light.png", "page-dark.png")

_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-lcd-text"]
_PIXELS = """async (encoded) => {
  const image = new Image();
  image.src = `data:image/png;base64,${encoded}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const drawing = canvas.getContext("2d");
  drawing.drawImage(image, 0, 0);
  const { data } = drawing.getImageData(0, 0, image.width, image.height);
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return [image.width, image.height, btoa(text)];
}"""
_WIDTH, _LEAST_HEIGHT = 1200, 400  # pixels
_JOB = {"scenario": "check_then_act", "threads": 4, "rounds": 3, "construction_s": 0.01, "trace": "locks"}
_EXPERIMENT = {
    "scenario": "cpu_bound",
    "size": 25,
    "reference": False,
    "repeats": 7,
    "vary": {"threads": [1, 2, 4], "model": ["threads", "processes"]},
    "baseline": {"threads": 1, "model": "threads"},
}


def make(folder: Path) -> None:
    """Make every picture anew, in a folder."""
    with tempfile.TemporaryDirectory() as home, Server(Path(home)) as server:
        server.start()
        without, with_lock = (server.run({**_JOB, "lock": lock}) for lock in (False, True))
        _save(server, with_lock["links"]["timeline"], folder / "timeline.svg")
        _take_page(server, f"/?scenario={_JOB['scenario']}&job={with_lock['id']}&with={without['id']}", folder)
        experiment = server.ask("POST", "/v1/experiments", json=_EXPERIMENT).json()
        while experiment["status"] in ("queued", "running"):
            path = f"/v1/experiments/{experiment['id']}"
            experiment = server.ask("GET", path, headers={"Prefer": "wait=60"}).json()
        _save(server, experiment["links"]["chart"], folder / "chart.svg")


def _save(server: Server, path: str, file: Path) -> None:
    answer = server.ask("GET", path)
    assert answer.status_code == 200, answer.text
    file.write_text(f"{answer.text}\n", "utf-8")


def _take_page(server: Server, address: str, folder: Path) -> None:
    """Take the page down to the end of the runs, in both colour schemes."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        for scheme in _SCHEMES:
            size: Any = {"width": _WIDTH, "height": _LEAST_HEIGHT}
            page = browser.new_page(base_url=server.url, color_scheme=scheme, viewport=size)
            page.goto(address)
            for outcome in (0, 1):
                page.locator("header.outcome[data-grade]").nth(outcome).wait_for()
            page.get_by_text(re.compile("^Changed")).wait_for()
            page.wait_for_load_state("networkidle")
            runs = page.locator(".runs")
            height = runs.evaluate("runs => Math.ceil(runs.getBoundingClientRect().top + runs.scrollHeight) + 24")
            page.set_viewport_size({"width": _WIDTH, "height": height})
            taken = page.screenshot(animations="disabled")
            (folder / f"page-{scheme}.png").write_bytes(_smaller(browser, taken))
        browser.close()


def _smaller(browser: Browser, png: bytes) -> bytes:
    """Return a screenshot with its 256 most frequent colours only: half as many bytes, and nothing that is seen."""
    page = browser.new_page()
    width, height, encoded = page.evaluate(_PIXELS, base64.b64encode(png).decode())
    page.close()
    pixels = memoryview(base64.b64decode(encoded)).cast("I")
    counts = Counter(pixels)
    palette = [colour.to_bytes(4, sys.byteorder)[:3] for colour, _ in counts.most_common(256)]
    places = {colour: _nearest(colour.to_bytes(4, sys.byteorder), palette) for colour in counts}
    rows = (bytes([0, *map(places.__getitem__, pixels[at : at + width])]) for at in range(0, len(pixels), width))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),  # eight bits for a place in the palette
        (b"PLTE", b"".join(palette)),
        (b"IDAT", zlib.compress(b"".join(rows), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _nearest(colour: bytes, palette: list[bytes]) -> int:
    distances = [sum((a - b) ** 2 for a, b in zip(colour, each, strict=False)) for each in palette]
    return distances.index(min(distances))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make(FOLDER)
    for name in PICTURES:
        print(f"{FOLDER.name}/{name}: {(FOLDER / name).stat().st_size / 1e3:.0f} kB")  # noqa: T201  a command line
