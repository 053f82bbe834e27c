"""What can be run."""

from typing import Any

from service.api.schemas.base import Answer
from service.experiments import Better, Measure
from service.jobs import Grade

__all__ = ["MeasureView", "ScenarioList", "ScenarioView", "measure_view"]


class ExampleView(Answer):
    """A request that can be posted as it stands."""

    caption: str
    body: dict[str, Any]


class OutcomeView(Answer):
    """What a scenario can end with."""

    outcome: str
    grade: Grade
    """How it is judged, which may depend on the parameters: `lost` is `forbidden` with a lock only."""
    meaning: str
    """One sentence, for some of the parameters; a job has its own in its result."""


class ScenarioItem(Answer):
    """A scenario in a list."""

    name: str
    title: str
    summary: str
    origin: str
    """`built-in`, or the distribution that brought it."""


class UnavailableView(Answer):
    """A scenario that breaks a rule and cannot be run."""

    name: str
    origin: str
    reason: str


class ScenarioList(Answer):
    """What can be run, and what cannot."""

    scenarios: list[ScenarioItem]
    unavailable: list[UnavailableView]


class MeasureView(Answer):
    """What is compared. The end of the name is its unit: `_s` seconds, `_bytes`, `_per_s` per second, else a number."""

    name: str
    better: Better
    """Which way is better."""
    grows_with: list[str]
    """The parameters of which the work that it is taken of is the product. Where they differ, it is not the same work
    that is compared."""


class ScenarioView(ScenarioItem):
    """All about one scenario."""

    text: str
    """Its docstring: why it happens, what was observed, sources."""
    digest: str
    """SHA-256 of its source."""
    parameters: dict[str, Any]
    """JSON Schema of the request."""
    examples: list[ExampleView]
    outcomes: list[OutcomeView]
    """All that a job of it can end with, whatever its parameters, each outcome once for each grade that it can have:
    what comes of its defaults and of its examples, and of both with one choice made otherwise or one number at its
    lowest, on the service's own interpreter. A job that failed, was cancelled or lost has no outcome."""
    measures: list[MeasureView]
    """What an experiment can compare; the first is compared when it does not say."""


def measure_view(measure: Measure) -> dict[str, Any]:
    """Return a measure in the shape of `MeasureView`, ready for JSON."""
    return {"name": measure.name, "better": measure.better, "grows_with": measure.grows_with}
