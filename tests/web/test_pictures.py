"""The pictures in the README: there, small, told in words, and made by the command that it names."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support import need
from tests.system.server import ROOT
from tests.web import pictures

README = (ROOT / "README.md").read_text("utf-8")
MOST_BYTES = 150_000
SVG = "{http://www.w3.org/2000/svg}"


def named() -> list[str]:
    """The files that the README shows."""
    return re.findall(r"(?:src|srcset)=\"([^\"]+)\"", README) + re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)


def check(folder: Path) -> None:
    """Every picture is in a folder, small, and what its name says."""
    for name in pictures.PICTURES:
        data = (folder / name).read_bytes()
        assert 1_000 < len(data) < MOST_BYTES, name
        if name.endswith(".svg"):
            root = ET.fromstring(data)
            assert f"{SVG}svg" == root.tag
            assert root.findtext(f"{SVG}title")
            assert root.findtext(f"{SVG}desc")
        else:
            assert (b"\x89PNG\r\n\x1a\n", b"IHDR") == (data[:8], data[12:16]), name
            width, height = struct.unpack(">II", data[16:24])
            assert (1200, True) == (width, height > 800)


def test_what_the_readme_shows_is_what_the_command_makes() -> None:
    """Each picture in the README is one that the command makes, each of those is shown, and all are in the tree."""
    assert {f"{pictures.FOLDER.name}/{name}" for name in pictures.PICTURES} == set(named())
    assert {*pictures.PICTURES} == {path.name for path in pictures.FOLDER.iterdir()}
    assert "python -m tests.web.pictures" in README
    check(pictures.FOLDER)


def test_each_picture_is_told_in_words() -> None:
    """Whoever does not see a picture reads what is on it."""
    shown = re.findall(r"<img[^>]*>", README)
    assert shown
    for each in shown:
        found = re.search(r"alt=\"([^\"]+)\"", each)
        assert found, each
        assert len(found[1]) > 80, each


@pytest.mark.browser
def test_the_command_makes_them(tmp_path: Path) -> None:
    """All of them are made anew, from real runs."""
    need("chromium")
    pictures.make(tmp_path)
    assert {*pictures.PICTURES} == {path.name for path in tmp_path.iterdir()}
    check(tmp_path)
    said = "".join((tmp_path / "timeline.svg").read_text("utf-8"))
    assert "check_then_act: one_each" in said
    assert "holds Lock-1" in said
