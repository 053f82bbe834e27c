"""A picture of a job's threads: a track for each, the locks that they held and waited for, and how many were active.

Who uses it: the HTTP face. Pure. Colours are those of Okabe and Ito, which people with any colour vision tell apart;
waits are hatched as well, so that colour is not the only sign.

Source: M. Okabe, K. Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from service.events import JobEvent
from service.experiments.words import counted, line
from service.jobs import Job
from service.pictures.axes import Axis
from service.pictures.svg import Element, element, picture, text
from service.pictures.tracks import Span, Track, Tracks, make

__all__ = ["draw"]

_WIDTH = 900.0
_LEFT = 174.0, 222.0  # room for names, as much as they need
_LETTER = 6.3  # pixels, about
_RIGHT = 16.0
_TOP = 58.0
_CURVE = 56.0  # height of the curve of active threads
_MOST_TRACKS = 65  # the main thread and 64: more than that nobody tells apart; how many more there are is said
_MOST_MARKS = 200  # of one track
_NAME = 32  # characters
_MEANING = 132  # characters that fit into the caption
_LEAST_S = 1e-6  # from side to side: nothing shorter can be stamped
_HUES = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442")

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .small { font-size: 10px }
.title { font-size: 15px; font-weight: 600 } .quiet { fill: #57606a; font-size: 11px }
.back { fill: #ffffff } .grid { stroke: #d8dee4 } .life { fill: #8c959f } .mark { stroke: #1f2328 }
.curve { fill: none; stroke: #1f2328; stroke-width: 1.5 } .hatch { stroke: #1f2328; stroke-opacity: 0.55 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9da7b3 } .back { fill: #0d1117 } .grid { stroke: #30363d }
.life { fill: #6e7681 } .mark { stroke: #e6edf3 } .curve { stroke: #e6edf3 } .hatch { stroke: #e6edf3 } }
"""


def draw(job: Job, events: Iterable[JobEvent]) -> str:
    """Return the picture of a job's last attempt, as SVG."""
    tracks = make(job.result, events)
    shown = tracks.tracks[:_MOST_TRACKS]
    pitch = 22.0 if len(shown) <= 16 else 14.0
    scale = Axis(0.0, max(tracks.end_s, _LEAST_S), _left(shown), _WIDTH - _RIGHT, doubling=False)
    bottom = _TOP + pitch * len(shown)
    hues = {lock: _HUES[number % len(_HUES)] for number, lock in enumerate(tracks.locks)}
    content = [
        element("rect", class_="back", width="100%", height="100%"),
        _PATTERN,
        element("text", [text(_title(job))], class_="title", x=12, y=22),
        element("text", [text(_caption(job))], class_="quiet", x=12, y=40),
        *_grid(scale, bottom + _CURVE),
        *(each for n, track in enumerate(shown) for each in _track(track, _TOP + pitch * n, pitch, scale, hues)),
        *_curve(tracks, bottom + 8, scale),
        *_legend(hues, bottom + _CURVE + 34),
        element("text", [text(_signs(tracks, shown))], class_="quiet", x=_WIDTH - _RIGHT, y=22, text_anchor="end"),
    ]
    height = bottom + _CURVE + 48
    return picture(_WIDTH, height, content, title=_title(job), description=_words(job, tracks), style=_STYLE)


_PATTERN = element(
    "defs",
    [
        element(
            "pattern",
            [element("path", class_="hatch", d="M0 5L5 0", stroke_width=1)],
            id="waits",
            width=5,
            height=5,
            patternUnits="userSpaceOnUse",
        )
    ],
)


def _left(shown: Sequence[Track]) -> float:
    least, most = _LEFT
    return min(max(least, 24 + _LETTER * max(len(track.name) for track in shown)), most)


def _grid(scale: Axis, bottom: float) -> Iterator[Element]:
    for tick in scale.ticks():
        x = scale.place(tick)
        yield element("path", class_="grid", d=f"M{x:.1f} {_TOP - 6:.1f}V{bottom:.1f}")
        yield element("text", [text(_time(tick))], class_="quiet", x=x, y=bottom + 14, text_anchor="middle")


def _track(track: Track, top: float, pitch: float, scale: Axis, hues: dict[str, str]) -> Iterator[Element]:
    height = pitch - 6
    name = track.name if len(track.name) <= _NAME else f"{track.name[: _NAME - 1]}…"
    label = [text(name + (" ◦" if track.daemon else "")), element("title", [text(track.name)])]
    yield element("text", label, class_=None if pitch > 16 else "small", x=12, y=top + height / 2 + pitch / 5)
    life = [Span(track.from_s, track.to_s, "")]
    yield element("path", class_="life", d=_boxes(life, top + height * 0.3, height * 0.4, scale))
    for lock in dict.fromkeys(span.lock for span in track.holds):
        held = [span for span in track.holds if span.lock == lock]
        yield element("path", fill=hues[lock], d=_boxes(held, top, height, scale))
    for lock in dict.fromkeys(span.lock for span in track.waits):
        waits = [span for span in track.waits if span.lock == lock]
        boxes = _boxes(waits, top + height * 0.2, height * 0.6, scale)  # narrower: what it holds meanwhile is seen
        yield element("path", class_="back", d=boxes)
        yield element("path", fill=hues[lock], fill_opacity=0.35, d=boxes)
        yield element("path", fill="url(#waits)", d=boxes)
    marks = "".join(f"M{scale.place(mark.at_s):.1f} {top:.1f}v{height:.1f}" for mark in track.marks[:_MOST_MARKS])
    if marks:
        yield element("path", class_="mark", d=marks, stroke_width=0.75)


def _boxes(spans: Sequence[Span], top: float, height: float, scale: Axis) -> str:
    """One path for all: what is closer than a third of a pixel is drawn as one."""
    least_s = scale.high / (scale.to_px - scale.from_px) / 3
    merged: list[list[float]] = []
    for span in sorted(spans, key=lambda each: each.from_s):
        if merged and span.from_s - merged[-1][1] < least_s:
            merged[-1][1] = max(merged[-1][1], span.to_s)
        else:
            merged.append([span.from_s, span.to_s])
    return "".join(
        f"M{scale.place(begin):.1f} {top:.1f}h{max(0.6, scale.place(end) - scale.place(begin)):.1f}v{height:.1f}"
        f"H{scale.place(begin):.1f}z"
        for begin, end in merged
    )


def _curve(tracks: Tracks, top: float, scale: Axis) -> Iterator[Element]:
    if not tracks.active:
        return
    peak = max(count for _, count in tracks.active)
    height = _CURVE - 16

    def y(count: int) -> float:
        return top + height * (1 - count / peak) if peak else top + height

    path = f"M{scale.place(0):.1f} {y(tracks.active[0][1]):.1f}"
    path += "".join(f"H{scale.place(at_s):.1f}V{y(count):.1f}" for at_s, count in tracks.active)
    yield element("path", class_="curve", d=f"{path}H{scale.place(tracks.end_s):.1f}")
    yield element("text", [text(f"active threads, at most {peak}")], class_="quiet", x=12, y=top + height / 2 + 4)


def _legend(hues: dict[str, str], y: float) -> Iterator[Element]:
    x = 12.0
    for lock, hue in list(hues.items())[: len(_HUES)]:
        name = lock if len(lock) <= 14 else f"{lock[:13]}…"
        yield element("rect", x=x, y=y - 9, width=10, height=10, fill=hue)
        yield element("text", [text(f"holds {name} (hatched: waits)")], class_="quiet", x=x + 14, y=y)
        x += 34 + 6.2 * (len(name) + 23)


def _signs(tracks: Tracks, shown: Sequence[Track]) -> str:
    """What is not a colour, and what is not there."""
    said = []
    if any(track.marks for track in shown):
        said.append("│ a printed line")
    if any(track.daemon for track in shown):
        said.append("◦ daemon")
    if len(tracks.tracks) > len(shown):
        said.append(f"{counted(len(tracks.tracks) - len(shown), 'more thread')} not shown")
    if tracks.locks_until_s is not None:
        said.append(f"locks: kept until {_time(tracks.locks_until_s)} only")
    return " · ".join(said)


def _title(job: Job) -> str:
    return f"{job.scenario}: {job.outcome or job.status.value}"


def _caption(job: Job) -> str:
    result, python = job.result, job.python
    meaning = result["meaning"] if result else None
    short = None if meaning is None else line(meaning, _MEANING)
    told = f"CPython {python['version']}, GIL {'on' if python['gil'] else 'off'}" if python else None
    return ". ".join(part.rstrip(".") for part in (told, short) if part)


def _words(job: Job, tracks: Tracks) -> str:
    """What there is to see, for those who do not see it."""
    threads = len(tracks.tracks) - 1
    peak = max((count for _, count in tracks.active), default=None)
    waits = [(span.to_s - span.from_s, track.name, span.lock) for track in tracks.tracks for span in track.waits]
    said = [f"{threads} threads beside the main thread in {_time(tracks.end_s)}."]
    if peak is not None:
        said.append(f"At most {peak} were active at once.")
    if tracks.locks_until_s is not None:
        said.append(f"What locks did after {_time(tracks.locks_until_s)} was not kept.")
    if waits:
        longest, name, lock = max(waits)
        said.append(f"The longest wait for a lock was {_time(longest)}, of {name} for {lock}.")
    if job.result and job.result["meaning"]:
        said.append(job.result["meaning"])
    return " ".join(said)


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            return f"{seconds / size:.3g} {unit}" if seconds else "0"
    raise AssertionError
