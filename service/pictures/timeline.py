"""A picture of a job's threads: a track for each, the locks that they held and waited for, and how many were active.

Who uses it: the HTTP face. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from service.events import JobEvent
from service.experiments.words import counted
from service.jobs import Job, JobState
from service.pictures import legend
from service.pictures.axes import Axis
from service.pictures.letters import fitted, width
from service.pictures.svg import Drawn, Element, element, picture, text
from service.pictures.tracks import Span, Track, Tracks, make

__all__ = ["draw"]

_WIDTH = 900.0
_MARGIN = 12.0
_LEFT = 174.0, 222.0  # room for names, as much as they need
_RIGHT = 16.0
_TOP = 58.0
_CURVE = 56.0  # height of the curve of active threads
_MOST_TRACKS = 65  # the main thread and 64: more than that nobody tells apart; how many more there are is said
_MOST_MARKS = 200  # of one track
_LEAST_S = 1e-6  # from side to side: nothing shorter can be stamped
_LETTERS, _SMALL, _QUIET = 12.0, 10.0, 11.0  # sizes, as in the style

_STYLE = f"""
text {{ font: {_LETTERS:g}px system-ui, sans-serif; fill: #1f2328 }} .small {{ font-size: {_SMALL:g}px }}
.title {{ font-size: 15px; font-weight: 600 }} .quiet {{ fill: #57606a; font-size: {_QUIET:g}px }}
.back {{ fill: #ffffff }} .grid {{ stroke: #d8dee4 }} .life {{ fill: #8c959f }} .mark {{ stroke: #1f2328 }}
.curve {{ fill: none; stroke: #1f2328; stroke-width: 1.5 }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} .quiet {{ fill: #9da7b3 }} .back {{ fill: #0d1117 }} .grid {{ stroke: #30363d }}
.life {{ fill: #6e7681 }} .mark {{ stroke: #e6edf3 }} .curve {{ stroke: #e6edf3 }} }}{legend.STYLE}"""


def draw(job: Job, events: Iterable[JobEvent]) -> str:
    """Return the picture of a job's last attempt, as SVG."""
    tracks = make(job.result, events)
    drawn = _threads(tracks) if _begun(job, tracks) else Drawn([], _TOP)
    caption = fitted(_caption(job, tracks), _QUIET, _WIDTH - _RIGHT - _MARGIN)
    content = [
        element("rect", class_="back", width="100%", height="100%"),
        element("text", [text(_title(job))], class_="title", x=_MARGIN, y=22),
        element("text", [text(caption)], class_="quiet", x=_MARGIN, y=40),
        *drawn.content,
    ]
    return picture(_WIDTH, drawn.bottom, content, title=_title(job), description=_words(job, tracks), style=_STYLE)


def _begun(job: Job, tracks: Tracks) -> bool:
    return job.result is not None or bool(tracks.active)


def _threads(tracks: Tracks) -> Drawn:
    shown = tracks.tracks[:_MOST_TRACKS]
    pitch = 22.0 if len(shown) <= 16 else 14.0
    left, right = _left(shown), _WIDTH - _RIGHT
    scale = Axis(0.0, max(tracks.end_s, _LEAST_S), left, right, doubling=False)
    bottom = _TOP + pitch * len(shown)
    looks = legend.looks(tracks.locks)
    meaning = legend.draw(looks, any(track.waits for track in shown), _MARGIN, right, bottom + _CURVE + 34)
    content = [
        element("defs", [legend.HATCH, _column(left - 6, bottom)]),
        *_grid(scale, bottom + _CURVE),
        element("g", _names(shown, pitch, left - 2 * _MARGIN), clip_path="url(#names)"),
        *(each for n, track in enumerate(shown) for each in _track(track, _TOP + pitch * n, pitch, scale, looks)),
        *_curve(tracks, bottom + 8, scale),
        *meaning.content,
        element("text", [text(_signs(tracks, shown))], class_="quiet", x=right, y=22, text_anchor="end"),
    ]
    return Drawn(content, meaning.bottom)


def _left(shown: Sequence[Track]) -> float:
    least, most = _LEFT
    return min(max(least, 2 * _MARGIN + max(width(track.name + _sign(track), _LETTERS) for track in shown)), most)


def _column(right: float, bottom: float) -> Element:
    """Where names are seen: how wide they are is known only about, and in no font may one run over its bar."""
    return element("clipPath", [element("rect", width=right, height=bottom)], id="names")


def _names(shown: Sequence[Track], pitch: float, room: float) -> Iterator[Element]:
    size, class_ = (_LETTERS, None) if pitch > 16 else (_SMALL, "small")
    for number, track in enumerate(shown):
        y = _TOP + pitch * number + (pitch - 6) / 2 + pitch / 5
        sign = _sign(track)
        name = fitted(track.name, size, room - width(sign, size)) + sign
        yield element("text", [text(name), element("title", [text(track.name)])], class_=class_, x=_MARGIN, y=y)


def _sign(track: Track) -> str:
    return " ◦" if track.daemon else ""


def _grid(scale: Axis, bottom: float) -> Iterator[Element]:
    for tick in scale.ticks():
        x = scale.place(tick)
        yield element("path", class_="grid", d=f"M{x:.1f} {_TOP - 6:.1f}V{bottom:.1f}")
        yield element("text", [text(_time(tick))], class_="quiet", x=x, y=bottom + 14, text_anchor="middle")


def _track(track: Track, top: float, pitch: float, scale: Axis, looks: Mapping[str, str]) -> Iterator[Element]:
    height = pitch - 6
    life = [Span(track.from_s, track.to_s, "")]
    yield element("path", class_="life", d=_boxes(life, top + height * 0.3, height * 0.4, scale))
    for lock, held in _by_lock(track.holds):
        title = element("title", [text(f"{track.name} holds {lock}")])
        yield element("path", [title], class_=looks[lock], d=_boxes(held, top, height, scale))
    for lock, waits in _by_lock(track.waits):
        boxes = _boxes(waits, top + height * 0.2, height * 0.6, scale)  # narrower: what it holds meanwhile is seen
        layers = [
            element("title", [text(f"{track.name} waits for {lock}")]),
            element("path", class_="back", d=boxes),
            element("path", class_=looks[lock], fill_opacity=0.35, d=boxes),
            element("path", fill="url(#waits)", d=boxes),
        ]
        yield element("g", layers)
    marks = "".join(f"M{scale.place(mark.at_s):.1f} {top:.1f}v{height:.1f}" for mark in track.marks[:_MOST_MARKS])
    if marks:
        yield element("path", class_="mark", d=marks, stroke_width=0.75)


def _by_lock(spans: Iterable[Span]) -> Iterable[tuple[str, list[Span]]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.lock, []).append(span)
    return found.items()


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


def _caption(job: Job, tracks: Tracks) -> str:
    result, python = job.result, job.python
    told = f"CPython {python['version']}, GIL {'on' if python['gil'] else 'off'}" if python else None
    parts = told, _how_far(job, tracks), result["meaning"] if result else None
    return ". ".join(part.rstrip(".") for part in parts if part)


def _how_far(job: Job, tracks: Tracks) -> str | None:
    """What is seen of a run of which there is no result; None where there is one."""
    if job.result is not None:
        return None
    if not _begun(job, tracks):
        return "It never began" if job.finished else "It has not begun"
    seen = f"seen until {_time(tracks.end_s)}" if tracks.end_s else "seen to begin"
    if job.finished:
        return f"It was {seen}"
    return f"It still runs, {seen}" if job.status is JobState.RUNNING else f"It waits to be run again, and was {seen}"


def _words(job: Job, tracks: Tracks) -> str:
    """What there is to see, for those who do not see it."""
    how_far = _how_far(job, tracks)
    if not _begun(job, tracks):
        return f"{how_far}."
    threads = f"{counted(len(tracks.tracks) - 1, 'thread')} beside the main thread"
    peak = max((count for _, count in tracks.active), default=None)
    waits = [(span.to_s - span.from_s, track.name, span.lock) for track in tracks.tracks for span in track.waits]
    said = [f"{how_far}: {threads}." if how_far else f"{threads} in {_time(tracks.end_s)}."]
    if peak is not None:
        said.append(f"At most {peak} {'was' if peak == 1 else 'were'} active at once.")
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
