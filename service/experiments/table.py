"""An analysis as a flat table, and as CSV that a spreadsheet opens without harm.

Who uses it: whoever offers an experiment for download. Pure.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from service.experiments.analysis import Analysis
from service.experiments.rows import Row

__all__ = ["csv_text", "table"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")  # the last four: full width, as in Japan
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

_COLUMNS = (
    "n",
    "median",
    "mad",
    "min",
    "max",
    "interval_low",
    "interval_high",
    "speedup",
    "speedup_low",
    "speedup_high",
    "significant",
    "relative_work",
    "efficiency",
    "outcomes",
)


def table(analysis: Analysis) -> list[dict[str, str | int | float | None]]:
    """Return one row for each cell: its varied fields, then its statistics.

    A field that is called like a column of the statistics is `values.n` instead of `n`. Lists and objects are JSON,
    outcomes are `lost:5 not_seen:2`.
    """
    return [_flat(row) for row in analysis["rows"]]


def csv_text(analysis: Analysis) -> str:
    """Return the table as CSV with a header line.

    Texts that a spreadsheet would take for a formula get a `'` in front, unless they are numbers.

    Source:
        RFC 4180. OWASP, CSV Injection.
    """
    rows = table(analysis)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in (rows[0] if rows else _COLUMNS)])
    writer.writerows([_harmless(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _flat(row: Row) -> dict[str, str | int | float | None]:
    low, high = _ends(row["interval"])
    speedup_low, speedup_high = _ends(row["speedup_interval"])
    outcomes = " ".join(f"{name}:{seen['count']}" for name, seen in row["outcomes"].items())
    figures = (
        *(row["n"], row["median"], row["mad"], row["min"], row["max"], low, high),
        *(row["speedup"], speedup_low, speedup_high, row["significant"], row["relative_work"], row["efficiency"]),
        outcomes,
    )
    fields = {f"values.{name}" if name in _COLUMNS else name: _plain(value) for name, value in row["values"].items()}
    return {**fields, **dict(zip(_COLUMNS, figures, strict=True))}


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval[0], interval[1])


def _plain(value: Any) -> str | int | float | None:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)


def _harmless(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
