"""Log lines: text a person can read on a terminal, JSON elsewhere, each with the request it belongs to.

Who uses it: `cli` configures it once; `api.middleware` says which request is being answered; everything else logs with
the standard library and puts facts into `extra`.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter
from rich.console import Console
from rich.logging import RichHandler

__all__ = ["configure", "plain", "request_id"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered in this context."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}

# What a terminal would obey (C0, C1) or show in another order (marks of direction), and what begins a new line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def configure(level: str, style: str) -> None:
    """Send all log lines to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `text`, `json`, or `auto`: text on a terminal.
    """
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    handler = _text_handler() if text else _json_handler()
    handler.addFilter(_add_request_id)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("uvicorn.access").disabled = True  # our middleware's line has the request id


def _text_handler() -> logging.Handler:
    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S", markup=False)
    handler.setFormatter(_TextFormatter("%(message)s"))
    return handler


def _json_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields=names,
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            reserved_attrs=[*_STANDARD],
        )
    )
    return handler


def _add_request_id(record: logging.LogRecord) -> bool:
    known = request_id.get()
    if known is not None:
        record.request_id = known
    return True


class _TextFormatter(logging.Formatter):
    """The message, and after it the facts in `extra` as `name=value`, on one line; a traceback follows.

    Names come from clients: what is no plain character is written as an escape.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the standard library's name
        facts = (f"{name}={value!s}" for name, value in _facts(record).items())
        return plain(" ".join([super().formatMessage(record), *facts]))

    def formatException(self, ei: Any) -> str:  # noqa: N802  the standard library's name
        return "\n".join(map(plain, super().formatException(ei).split("\n")))


def plain(text: str) -> str:
    """Return a text whose control characters are escaped: it cannot begin a line or steer a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
