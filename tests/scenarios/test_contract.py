"""What every scenario promises, on every interpreter found: built-in ones are held to it one by one."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from service import catalog as catalogs
from service.catalog import Catalog, Scenario
from service.child.wire import MAX_FRAME_BYTES
from service.jobs import JobState, Report

Run = Callable[..., Report]

# Everything must also run in milliseconds: these are the parameters by which it does.
QUICK: dict[str, dict[str, Any]] = {
    "atomicity": {"iterations": 100, "attempts": 1, "budget_s": 0.2},
    "barrier": {"rounds": 3, "work_s": 0.0, "patience_s": 0.2},
    "check_then_act": {"rounds": 3, "threads": 3},
    "condition": {"threads": 3, "items": 1, "patience_s": 0.05},
    "convoy": {"duration_s": 0.05},
    "counter": {"iterations": 100},
    "cpu_bound": {"threads": 2, "tasks": 2, "size": 1},
    "custom": {},
    "daemon": {"interval_s": 0.005, "main_s": 0.02, "max_ticks": 10},
    "deadlock": {"hold_s": 0.01},
    "event": {"threads": 2, "prepare_s": 0.02, "poll_s": 0.001},
    "interleaving": {"delay_s": 0.001},
    "io_bound": {"threads": 2, "tasks": 4, "delay_s": 0.001, "size_bytes": 1_000},
    "named_workers": {"delay_s": 0.01},
    "oversubscription": {"threads": 4, "total": 64, "rounds": 1},
    "pool": {"max_workers": 2, "tasks": 4, "delay_s": 0.005, "size": 1, "nested_wait_s": 0.1},
    "producer_consumer": {"items": 5, "producers": 1, "threads": 2},
    "responsiveness": {"work_s": 0.03, "alone_s": 0.03, "interval_s": 0.002},
    "rlock": {"iterations": 3},
    "semaphore": {"threads": 3, "visits": 1, "hold_s": 0.002},
    "thread_local": {"threads": 2, "requests": 5},
}

BUILT_IN = [scenario for scenario in catalogs.find() if scenario.origin == "built-in"]
NAMES = [scenario.name for scenario in BUILT_IN]


def variants() -> list[Any]:
    """Each parameter that has a choice, at each of its choices."""
    found = []
    for scenario in BUILT_IN:
        for name, hint in scenario.hints().items():
            choices = (False, True) if hint is bool else typing.get_args(hint) if _is_literal(hint) else ()
            found += [
                pytest.param(scenario.name, {name: each}, id=f"{scenario.name}-{name}-{each}") for each in choices
            ]
    return found


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def check(catalog: Catalog, name: str, params: dict[str, Any], report: Report) -> None:
    """Hold a report against what the scenario says of itself."""
    scenario = catalog.get(name)
    result = report.result
    assert result is not None, report.error
    own = (report.python or {})["executable"] == sys.executable  # what a scenario says may depend on the interpreter
    expected = scenario.module.outcomes(scenario.params_type(**params)) if own else {}
    if report.status == JobState.TIMED_OUT:  # a deadlock, found and ended
        assert ("stuck", "Deadlock") == (result["outcome"], (report.error or {}).get("type"))
        return
    assert JobState.SUCCEEDED == report.status, report.error
    if own:
        assert result["grade"] == expected[result["outcome"]][0]
    assert result["grade"] in {"acceptable", "interesting"}
    assert [] == [warning for warning in result["warnings"] if "ended with" in warning]  # no thread died of an error
    assert len(json.dumps(result["values"], allow_nan=False)) < MAX_FRAME_BYTES / 10
    for measure in scenario.measures():
        value = result["values"].get(measure, result["timings"].get(measure))
        assert value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)), measure
        assert measure in result["values"] or measure in result["timings"], measure


@pytest.mark.interpreters
@pytest.mark.parametrize("name", NAMES)
def test_runs_on_every_interpreter(run_scenario: Run, catalog: Catalog, every_python: str, name: str) -> None:
    """Each scenario comes to an outcome of its own on each interpreter, in milliseconds."""
    check(catalog, name, QUICK[name], run_scenario(name, every_python, **QUICK[name]))


@pytest.mark.parametrize(("name", "choice"), variants())
def test_every_choice(run_scenario: Run, catalog: Catalog, name: str, choice: dict[str, Any]) -> None:
    """Each value of each parameter that has a choice comes to an outcome of the scenario's."""
    params = {**QUICK[name], **choice}
    check(catalog, name, params, run_scenario(name, **params))


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself(catalog: Catalog, name: str) -> None:
    """A scenario's text says how to run it, what was observed on at least three interpreters, and its sources."""
    scenario = catalog.get(name)
    for section in ("Run it:", "Observed:", "Source:"):
        assert f"\n{section}" in scenario.text
    for version in ("3.9", "3.11", "3.13"):
        assert version in scenario.text.partition("Observed:")[2]
    assert scenario.examples
    assert scenario.summary.endswith(".")


# Of these nobody can say how much work they are: a program of the client's own.
UNKNOWN_WORK = {"custom"}


@pytest.mark.parametrize("name", NAMES)
def test_says_with_what_its_work_grows(catalog: Catalog, name: str) -> None:
    """The whole time of a job is that of its work, and the scenario says which parameters make that more."""
    measures = catalog.get(name).measures()
    for measure in (measures["wall_s"], measures["cpu_s"]):
        assert (name in UNKNOWN_WORK) == (measure.grows_with == ()), measure.name


@pytest.mark.parametrize("gil", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_outcome_is_listed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, name: str, gil: bool) -> None:
    """Whatever is chosen, with any number at its lowest or its highest, and with or without a GIL: it is listed."""
    scenario = catalog.get(name)
    listed = {(outcome.name, outcome.grade) for outcome in scenario.outcomes()}
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: gil, raising=False)
    for params in corners(scenario):
        assert {(outcome, grade) for outcome, (grade, _) in scenario.module.outcomes(params).items()} <= listed, params


def corners(scenario: Scenario) -> Iterator[Any]:
    """All combinations of a scenario's choices, with each number in turn at its lowest and at its highest."""
    choices = [
        [(name, each) for each in ((False, True) if hint is bool else typing.get_args(hint))]
        for name, hint in scenario.hints().items()
        if hint is bool or _is_literal(hint)
    ]
    lists = {name for name, hint in scenario.hints().items() if typing.get_origin(hint) is tuple}
    limits = [
        {name: (field.metadata[limit],) if name in lists else field.metadata[limit]}
        for name, field in scenario.fields().items()
        for limit in ("ge", "le")
        if limit in field.metadata
    ]
    for chosen, number in itertools.product(itertools.product(*choices), [{}, *limits]):
        with contextlib.suppress(ValueError):  # they do not go together
            yield scenario.params_type(**dict(chosen), **number)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_counts_threads_makes_them(run_scenario: Run, catalog: Catalog, name: str) -> None:
    """With every other number at a dozen, a scenario has the threads that it was asked for, and two of its own."""
    scenario = catalog.get(name)
    numbers = {each.name: each for each in scenario.fields().values() if scenario.hints()[each.name] is int}
    dozen = {each: min(12, field.metadata["le"]) for each, field in numbers.items()}
    counting = {each: numbers[each].metadata["ge"] for each in scenario.counting("threads") if each in numbers}
    params = {**QUICK[name], **dozen, **counting}
    values = {each: params.get(each, field.default) for each, field in scenario.fields().items()}
    result = run_scenario(name, **params).result
    assert result is not None
    threads = result["active_threads"]
    assert threads["peak"] - threads["before"] <= max(sum(team.values()) for team in scenario.teams(values)) + 2


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_limits(catalog: Catalog, name: str) -> None:
    """Every number has a smallest and a largest value, and every default is within them."""
    scenario = catalog.get(name)
    for field in scenario.fields().values():
        hint = scenario.hints()[field.name]
        if hint in (int, float, int | None, float | None):
            assert {"ge", "gt"} & set(field.metadata), field.name
            assert {"le", "lt"} & set(field.metadata), field.name
            if field.default is not None:
                assert field.metadata.get("ge", field.default) <= field.default <= field.metadata["le"]
