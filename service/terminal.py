"""A job on a terminal: a track for each thread while it runs, and a table at the end.

Who uses it: the command `threadlab run`. Where the output is no terminal, nothing but the table is written.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from pydantic_core import to_json
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from service.events import JobEvent
from service.logs import plain
from service.pictures.tracks import Track, make

__all__ = ["Screen", "screen", "show"]

_FRAMES_PER_S = 8  # smooth enough to the eye; each frame costs a few milliseconds of a core
_MOST_EVENTS = 4_000  # from here on locks are left out of the picture, so that a frame stays as cheap
_NAME = 24  # characters
_LINES = 5  # of what was printed last
_MOST_THREADS = 32  # in the table at the end
_REST = _LINES + 6  # lines of a terminal that are not tracks
_LOOKS = {"─": "green", "░": "yellow", "█": "blue", "•": "bold"}  # running, waits, holds, has printed


class Screen(AbstractContextManager["Screen"]):
    """Shows nothing: output that is no terminal, or that a program reads."""

    def tell(self, events: Sequence[JobEvent]) -> None:
        """Take in what a job tells, on any thread."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""


def screen(name: str, *, as_json: bool) -> Screen:
    """Return what shows a running job of a scenario, as far as anybody looks."""
    console = Console()
    return _Tracks(name, console) if console.is_terminal and not as_json else Screen()


class _Tracks(Screen):
    """Tracks that grow.

    Thread safety: events are appended by the thread that runs the job and read by the one that draws.
    """

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._events: list[JobEvent] = []
        self._status = "starting"
        self._begun: float | None = None  # by this process's clock, when `started` was told
        self._live = Live(get_renderable=self._drawn, console=console, refresh_per_second=_FRAMES_PER_S, transient=True)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, events: Sequence[JobEvent]) -> None:
        """Take in what a job tells, on any thread."""
        for event in events:
            if event["type"] == "state":
                self._status = event["status"]
            elif event["type"] == "started":
                self._status, self._begun = "running", time.monotonic()
                self._events = [event]
            else:
                self._events.append(event)

    def _drawn(self) -> RenderableType:
        told = self._events[:]
        now_s = 0.0 if self._begun is None else time.monotonic() - self._begun
        parts: list[RenderableType] = [Text(f"{self._name}: {self._status}, {now_s:.1f} s", style="bold")]
        progress = next((event for event in reversed(told) if event["type"] == "progress"), None)
        if progress is not None:
            parts.append(_bar(progress["done"], progress["of"], self._console.width))
        parts += self._tracks(told, now_s)
        printed = [event for event in told if event["type"] == "output"][-_LINES:]
        parts += [Text(plain(event["line"]), no_wrap=True, overflow="ellipsis") for event in printed]
        return Group(*parts)

    def _tracks(self, told: list[JobEvent], now_s: float) -> list[RenderableType]:
        if len(told) > _MOST_EVENTS:
            told = [event for event in told if event["type"] in ("started", "start", "end")]
        tracks = make(None, told)
        end_s = max(now_s, tracks.end_s, 1e-3)
        room = max(2, self._console.height - _REST)
        width = self._console.width - _NAME - 2
        earlier = len(tracks.tracks) - room
        main, *others = tracks.tracks
        shown = [main, *(others[1 - room :] if earlier > 0 else others)]  # of these the newest
        drawn: list[RenderableType] = [_track(track, end_s, width) for track in shown]
        if earlier > 0:
            drawn.insert(1, Text(f"{earlier} earlier threads", style="dim"))
        drawn.append(Text("─ runs  ░ waits for a lock  █ holds one  • prints", style="dim"))
        return drawn


def _bar(done: int, of: int, width: int) -> RenderableType:
    """How far it is; in a grid, because a bar alone does not end its line."""
    said = Text(f"{done} of {of}", no_wrap=True)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=max(of, 1), completed=done, width=max(1, width - len(said) - 2)), said)
    return grid


def _track(track: Track, end_s: float, width: int) -> Text:
    cells = [" "] * width

    def paint(from_s: float, to_s: float, glyph: str) -> None:
        first = min(int(from_s / end_s * width), width - 1)
        last = min(int(to_s / end_s * width), width - 1)
        cells[first : last + 1] = glyph * (last + 1 - first)

    paint(track.from_s, end_s if track.open_end else track.to_s, "─")
    for span in track.waits:
        paint(span.from_s, end_s if span.open_end else span.to_s, "░")
    for span in track.holds:
        paint(span.from_s, end_s if span.open_end else span.to_s, "█")
    for mark in track.marks:
        paint(mark.at_s, mark.at_s, "•")
    name = plain(track.name)
    text = Text(f"{name if len(name) < _NAME else name[: _NAME - 2] + '…':<{_NAME}} ", no_wrap=True)
    for glyph in cells:
        text.append(glyph, _LOOKS.get(glyph))
    return text


def show(job: Mapping[str, Any], *, as_json: bool) -> None:
    """Write a finished job, as the HTTP face shows it, to standard output: as JSON, or its lines and a table."""
    if as_json:
        sys.stdout.buffer.write(to_json(job, indent=2) + b"\n")
        return
    console = Console(highlight=False)
    result, error = job["result"], job["error"]
    if result is not None:
        for line in result["output"]:
            thread = plain(line["thread"] or "-")
            console.print(f"{line['at_s']:9.4f}  {thread:<24}  {plain(line['line'])}", markup=False, soft_wrap=True)
        console.print(_table(job))
        if result["threads"]:
            console.print(_threads(result["threads"]))
    else:
        console.print(f"{job['scenario']}: {job['status']}", markup=False)
    if error is not None:
        text = plain(error["traceback"] or f"{error['type']}: {error['message']}")
        console.print(text, markup=False, soft_wrap=True)


def _table(job: Mapping[str, Any]) -> Table:
    result, python = job["result"], job["python"]
    title = f"{job['scenario']}: {result['outcome'] or job['status']}"
    table = Table(title=title, show_header=False, title_justify="left")
    facts = [("status", str(job["status"])), ("grade", result["grade"]), ("meaning", result["meaning"])]
    facts += result["values"].items()
    for group in ("timings", "active_threads"):  # a scenario may have a `wall_s` of its own
        facts += [(f"{group}.{name}", value) for name, value in result[group].items()]
    if python is not None:
        facts.append(("python", f"{python['version']}, GIL {'on' if python['gil'] else 'off'}"))
    for name, value in facts:
        if value is not None:
            table.add_row(Text(name), Text(_text(value)))
    for warning in result["warnings"]:
        table.add_row("warning", Text(warning))
    return table


def _threads(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each thread, by the names of the answer's fields, with its waits for locks where those were traced."""
    names = ["started_s", "ended_s", "cpu_s", "gil_wait_s"]
    if any(row["lock_waits"] is not None for row in rows):
        names += ["lock_wait_s", "lock_waits"]
    table = Table("thread", *(Column(name, justify="right", no_wrap=True) for name in names), box=None)
    for row in rows[:_MOST_THREADS]:
        table.add_row(Text(plain(row["name"])), *(_figure(row[name]) for name in names))
    if len(rows) > _MOST_THREADS:
        table.add_row(f"and {len(rows) - _MOST_THREADS} more; --json lists them")
    return table


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def _text(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return f"{len(value)} of them; --json lists them"
    return f"{value:.6g}" if isinstance(value, float) else plain(str(value))
