"""Log lines hold what clients named, and stay lines."""

from __future__ import annotations

import logging
import sys

import pytest

from service import logs


@pytest.fixture
def formatter() -> logging.Formatter:
    """What makes the lines of the text format."""
    formatter = logs._text_handler().formatter
    assert formatter is not None
    return formatter


def _record(message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelno": logging.INFO, **extra})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202etxt", r"\u202etxt"),
        ("\x9b1m", r"\x9b1m"),
        ("Größe", "Größe"),
    ],
)
def test_names_stay_on_their_line(formatter: logging.Formatter, given: str, expected: str) -> None:
    """What a terminal would obey is written as an escape, in the message and in the facts; letters stay."""
    assert f"job {expected} label={expected}" == formatter.format(_record(f"job {given}", label=given))


def test_a_traceback_keeps_its_lines(formatter: logging.Formatter) -> None:
    """A traceback follows line by line, and its text cannot steer a terminal either."""
    try:
        int("\x1b[2J")
    except ValueError:
        lines = formatter.format(_record("failed", exc_info=sys.exc_info())).split("\n")
    assert "failed" == lines[0]
    assert "\x1b" not in "".join(lines)
    assert "Traceback (most recent call last):" == lines[1]
