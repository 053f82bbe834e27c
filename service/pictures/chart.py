"""A picture of an experiment: curves over a number that was varied, or a line for each cell.

Who uses it: the HTTP face. Pure. It shows what the analysis says and nothing else: intervals are those of the rows, the
knees those of the verdict, and the ideal line stands only where speedup is shown over workers. Each curve has a colour
of Okabe and Ito and a mark of its own, so that colour is not the only sign.

Source: M. Okabe, K. Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from service.experiments import Analysis
from service.experiments.experiment import Experiment
from service.experiments.words import counted, line
from service.pictures import cells, curves
from service.pictures.svg import Element, element, picture, text

__all__ = ["draw"]

_WIDTH = 900.0
_TOP = 64.0  # below the title and the caption
_LINE = 16.0
_LETTERS = 136  # of a line
_MOST_LINES = 4  # of the verdict: all of it is in the description

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .quiet { fill: #57606a; font-size: 11px }
.back { fill: #ffffff } .grid { stroke: #d8dee4 } .ideal { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 6 4 }
.bar { stroke-width: 1.5 } .curve { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.knee { fill: none; stroke: #1f2328; stroke-width: 1.5 } .rest { fill: #d8dee4 } .dot { fill: #1f2328; stroke: #1f2328 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9da7b3 } .back { fill: #0d1117 } .grid { stroke: #30363d }
.ideal { stroke: #9da7b3 } .knee { stroke: #e6edf3 } .rest { fill: #30363d } .dot { fill: #e6edf3; stroke: #e6edf3 } }
"""


def draw(experiment: Experiment, analysis: Analysis) -> str:
    """Return the picture of what an experiment has shown so far, as SVG."""
    said = textwrap.wrap(analysis["verdict"]["text"], _LETTERS, max_lines=_MOST_LINES, placeholder=" …")
    top = _TOP + _LINE * len(said)
    over = curves.field(analysis)
    drawn = cells.draw(analysis, _WIDTH, top) if over is None else curves.draw(analysis, over, _WIDTH, top)
    content = [
        element("rect", class_="back", width="100%", height="100%"),
        *_head(experiment, analysis, said),
        *drawn.content,
    ]
    description = analysis["verdict"]["text"]
    return picture(_WIDTH, drawn.bottom, content, title=_title(experiment), description=description, style=_STYLE)


def _head(experiment: Experiment, analysis: Analysis, said: list[str]) -> Iterator[Element]:
    yield element("text", [text(_title(experiment))], class_="title", x=12, y=24)
    yield element("text", [text(_caption(experiment, analysis))], class_="quiet", x=12, y=42)
    for number, words in enumerate(said):
        yield element("text", [text(words)], x=12, y=_TOP + _LINE * number)


def _title(experiment: Experiment) -> str:
    named = "" if experiment.label is None else f" ({line(experiment.label, 60)})"
    return f"{experiment.scenario}: {experiment.measure.name}{named}"


def _caption(experiment: Experiment, analysis: Analysis) -> str:
    pythons = sorted({row["python"] for row in analysis["rows"] if row["python"] is not None})
    cpus = experiment.machine.get("usable_cpus")
    done, of = analysis["progress"]["done"], analysis["progress"]["of"]
    parts = [
        line(f"CPython {', '.join(pythons)}", 70) if pythons else None,
        counted(cpus, "CPU") if cpus else None,
        f"{counted(analysis['repeats'], 'run')} of each",
        _intervals(analysis),
        f"{experiment.status}: {done} of {counted(of, 'run')} done" if done < of else None,
    ]
    return "; ".join(part for part in parts if part)


def _intervals(analysis: Analysis) -> str | None:
    covered = [row["interval_coverage"] for row in analysis["rows"] if row["interval_coverage"] is not None]
    if not covered:
        return None
    return "bars: 95 % intervals" if min(covered) >= 0.95 else "bars: intervals, of too few runs for 95 %"
