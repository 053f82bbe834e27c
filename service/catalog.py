"""Finds scenarios, checks them and names them.

Who uses it: `api` builds the request union and the scenario pages from it, `runner` its orders, `cli` its commands.
Built-in scenarios are the files of `service/scenarios`; others come by the entry-point group `threadlab.scenarios`. A
file that breaks a rule is listed as unavailable with its reason; it never stops the service.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import inspect
import itertools
import json
import pkgutil
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from service import scenarios
from service.errors import BadScenario, ScenarioNotFound
from service.experiments import Better, Measure
from service.jobs import Grade, Lane

__all__ = ["OPTIONS", "Catalog", "Example", "Outcome", "Scenario", "Unavailable", "find", "load"]

_GROUP = "threadlab.scenarios"

# The names that a job's own options have or will have: a scenario's parameter may not hide one.
OPTIONS = frozenset({"scenario", "python", "gil", "timeout_s", "label", "trace", "callback_url"}) | {
    "vary",  # these five are an experiment's
    "repeats",
    "seed",
    "baseline",
    "measure",
    "url",  # these four are the command's
    "json",
    "as_json",
    "help",
}

_TIMINGS: Mapping[str, Better] = {"wall_s": "lower", "cpu_s": "lower"}  # of those, what a scenario itself takes

_COUNTED = ("threads", "iterations")  # what parameters count and settings limit

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LANES = typing.get_args(Lane)
_GRADES = typing.get_args(Grade)
_BETTER = typing.get_args(Better)


@dataclass(frozen=True, slots=True)
class Example:
    """A request that stands in a scenario's `Run it:` section."""

    caption: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario can end with, how that is judged, and one sentence why."""

    name: str
    grade: Grade
    meaning: str


_STUCK = Outcome("stuck", "interesting", "The job had not ended when its time was up (timeout_s).")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that passed the checks.

    Attributes:
        title: the first word of the docstring; `summary`: the rest of its first sentence; `text`: all of it.
        digest: SHA-256 of `source`, in hex.
        origin: `built-in`, or the distribution that brought it.
    """

    name: str
    title: str
    summary: str
    text: str
    source: str
    digest: str
    origin: str
    module: ModuleType
    examples: tuple[Example, ...]

    @property
    def params_type(self) -> type[Any]:
        """The dataclass `Params`."""
        params: type[Any] = self.module.Params
        return params

    def hints(self) -> dict[str, Any]:
        """Return the types of the parameters, by name, in order."""
        hints = typing.get_type_hints(self.params_type, include_extras=True)
        return {name: hints[name] for name in self.fields()}

    def fields(self) -> dict[str, dataclasses.Field[Any]]:
        """Return the parameters, by name, in order."""
        return {field.name: field for field in dataclasses.fields(self.params_type)}

    def counting(self, what: str) -> tuple[str, ...]:
        """Return the parameters that count something, as their name or `counts` in their metadata says.

        Args:
            what: `threads` or `iterations`.
        """
        return tuple(name for name, field in self.fields().items() if field.metadata.get("counts", name) == what)

    def teams(self, values: Mapping[str, Any]) -> list[dict[str, int]]:
        """Return the threads that parameters ask for: of each team that lives at a time, how many by parameter.

        A number asks for that many, and a list for one for each item, all of them in one team; a list of numbers asks
        for a team of each size, one after the other.

        Args:
            values: of the parameters that count threads, valid or not: what is neither asks for none.
        """
        together: dict[str, int] = {}
        in_turn: list[dict[str, int]] = []
        for name in self.counting("threads"):
            value = values[name]
            if isinstance(value, int):
                together[name] = value
            elif isinstance(value, (list, tuple)):
                if all(isinstance(each, int) for each in value):
                    in_turn += [{name: each} for each in value]
                else:
                    together[name] = len(value)
        return [together, *in_turn]

    def lane(self, params: Any) -> Lane:
        """Return the lane for these parameters (anything with the attributes of `Params`).

        Raises:
            BadScenario: its `lane` raised, or gave no lane.
        """
        try:
            lane = self.module.LANE if hasattr(self.module, "LANE") else self.module.lane(params)
        except Exception as exc:
            raise BadScenario(f"{self.name}: lane(params) raised {type(exc).__name__}: {exc}") from exc
        if lane not in _LANES:
            raise BadScenario(f"{self.name}: the lane must be one of {_LANES}, not {lane!r}.")
        return typing.cast("Lane", lane)

    def measures(self) -> dict[str, Measure]:
        """Return the numbers that an experiment can compare, by name, the default first.

        They are the scenario's own `MEASURES`, and the timings that every job has. Its `GROWS` tells with which
        parameters the work grows that one is taken of.
        """
        own: Mapping[str, Better] = getattr(self.module, "MEASURES", {})
        grows: Mapping[str, tuple[str, ...]] = getattr(self.module, "GROWS", {})
        return {name: Measure(name, better, grows.get(name, ())) for name, better in {**own, **_TIMINGS, **own}.items()}

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return what it can end with, each outcome once for each grade that it can have, on the service's interpreter.

        Asked for are its default parameters and those of its examples, and both with one choice made otherwise or one
        number at its lowest; the sentence is that of the first of them. `stuck` can come of any job.
        """
        found: dict[tuple[str, Grade], Outcome] = {}
        for params in [self.params_type(), *_variants(self)]:
            for name, (grade, meaning) in self.module.outcomes(params).items():
                found.setdefault((name, grade), Outcome(name, grade, meaning))
        found.setdefault((_STUCK.name, _STUCK.grade), _STUCK)
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A scenario that broke a rule."""

    name: str
    origin: str
    reason: str


class Catalog:
    """All scenarios by name.

    Thread safety: read-only after construction.
    """

    def __init__(self, found: Iterable[Scenario], unavailable: Iterable[Unavailable] = ()) -> None:
        self._by_name = {scenario.name: scenario for scenario in found}
        self.unavailable = tuple(unavailable)

    def __iter__(self) -> Iterator[Scenario]:
        return iter(self._by_name.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names that can be asked for."""
        return tuple(self._by_name)

    def get(self, name: str) -> Scenario:
        """Return the scenario.

        Raises:
            ScenarioNotFound: nobody knows it.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise ScenarioNotFound(name, self.names) from None


def find() -> Catalog:
    """Return all scenarios on this machine: the built-in ones first, then those of other packages, by name."""
    found: dict[str, Scenario] = {}
    unavailable: list[Unavailable] = []
    for name, module_name, origin in [*_built_in(), *_third_party()]:
        if name in found:
            reason = f"{found[name].origin} already has a scenario of this name; give it another."
            unavailable.append(Unavailable(name, origin, reason))
            continue
        try:
            found[name] = load(name, module_name, origin)
        except BadScenario as exc:
            unavailable.append(Unavailable(name, origin, str(exc)))
    return Catalog(found.values(), unavailable)


def _built_in() -> list[tuple[str, str, str]]:
    names = sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__))
    return [(name, f"{scenarios.__name__}.{name}", "built-in") for name in names]


def _third_party() -> list[tuple[str, str, str]]:
    points = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    return [(point.name, point.value, point.dist.name if point.dist else "unknown") for point in points]


def load(name: str, module_name: str, origin: str) -> Scenario:
    """Import one scenario and check it against the rules.

    Raises:
        BadScenario: it breaks one; the text names it.
    """
    module, source = _import(module_name)
    _check_name(name)
    _check_imports(source)
    _check_params(module)
    text = inspect.getdoc(module) or ""
    title, colon, summary = text.split("\n\n")[0].replace("\n", " ").partition(": ")
    if not colon:
        raise BadScenario('The docstring must begin with a line like "Counter: four threads add to one variable."')
    scenario = Scenario(
        name=name,
        title=title,
        summary=summary,
        text=text,
        source=source,
        digest=hashlib.sha256(source.encode()).hexdigest(),
        origin=origin,
        module=module,
        examples=tuple(_examples(text, name)),
    )
    _check_types(scenario)
    _check_functions(scenario)
    _check_measures(scenario)
    return scenario


def _import(module_name: str) -> tuple[ModuleType, str]:
    try:
        module = importlib.import_module(module_name)
        return module, inspect.getsource(module)
    except (Exception, SystemExit) as exc:
        raise BadScenario(f"{module_name} cannot be imported: {type(exc).__name__}: {exc}") from exc


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadScenario(f"A scenario's name is lower-case letters, digits and underscores, not {name!r}.")


def _check_imports(source: str) -> None:
    """The source travels to interpreters that have nothing but their standard library."""
    for node in _nodes_at_run_time(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        for name in names:
            if name.partition(".")[0] not in sys.stdlib_module_names:
                raise BadScenario(f"It imports {name}; a scenario runs with the standard library only.")


def _nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # most of a file, and no import stands in one
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from _nodes_at_run_time(other)
        else:
            yield from _nodes_at_run_time(child)


def _check_params(module: ModuleType) -> None:
    params = getattr(module, "Params", None)
    if not (isinstance(params, type) and dataclasses.is_dataclass(params)):
        raise BadScenario("It has no dataclass `Params`.")
    if not params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BadScenario("Its dataclass `Params` can be changed; write @dataclass(frozen=True).")
    for field in dataclasses.fields(params):
        if field.name in OPTIONS:
            raise BadScenario(f"Its parameter {field.name!r} has the name of a job's option {field.name!r}; rename it.")
        if field.default is dataclasses.MISSING:
            raise BadScenario(f"Its parameter {field.name!r} has no default.")
        if not isinstance(field.metadata.get("description"), str) or not field.metadata["description"]:
            raise BadScenario(f"Its parameter {field.name!r} has no description in its metadata.")
        if field.metadata.get("counts", _COUNTED[0]) not in _COUNTED:
            raise BadScenario(f"The `counts` of its parameter {field.name!r} must be one of {_COUNTED}.")


def _check_types(scenario: Scenario) -> None:
    try:
        hints = scenario.hints()
    except Exception as exc:
        raise BadScenario(f"The types of its parameters cannot be found: {type(exc).__name__}: {exc}") from exc
    for name in scenario.counting("threads"):
        if hints[name] is not int and typing.get_origin(hints[name]) is not tuple:
            raise BadScenario(
                f"Its parameter {name!r} counts threads and must be an int, or a tuple with one for each."
            )


def _check_functions(scenario: Scenario) -> None:
    if not callable(getattr(scenario.module, "run", None)):
        raise BadScenario("It has no function `run(params, lab)`.")
    try:
        scenario.lane(scenario.params_type())
        outcomes = scenario.outcomes()
    except BadScenario:
        raise
    except Exception as exc:
        raise BadScenario(f"outcomes(params) or Params() failed: {type(exc).__name__}: {exc}") from exc
    for outcome in outcomes:
        if outcome.grade not in _GRADES:
            raise BadScenario(f"The grade of outcome {outcome.name!r} must be one of {_GRADES}.")


def _check_measures(scenario: Scenario) -> None:
    measures, grows = (getattr(scenario.module, name, {}) for name in ("MEASURES", "GROWS"))
    for name, found in {"MEASURES": measures, "GROWS": grows}.items():
        if not isinstance(found, Mapping):
            raise BadScenario(f"{name} must be a dictionary by the names of measures, not {found!r}.")
    for name, better in measures.items():
        if better not in _BETTER:
            raise BadScenario(f"MEASURES must say of {name!r} which is better, one of {_BETTER}.")
    known = {*measures, *_TIMINGS}
    numbers = {name for name, hint in scenario.hints().items() if hint in (int, float)}
    for name, fields in grows.items():
        if name not in known:
            raise BadScenario(f"GROWS tells of {name!r}, which is no measure; those are {', '.join(sorted(known))}.")
        if not isinstance(fields, tuple) or not numbers.issuperset(fields):
            among = ", ".join(sorted(numbers)) or "none"
            raise BadScenario(f"GROWS must give {name!r} a tuple of parameters that are numbers ({among}).")


def _variants(scenario: Scenario) -> Iterator[Any]:
    """Parameters that may bring other outcomes than the default ones; those that do not go together are left out."""
    examples = [{name: example.body[name] for name in example.body.keys() - OPTIONS} for example in scenario.examples]
    hints, fields = scenario.hints(), scenario.fields()
    changes = [{name: value} for name in fields for value in _choices(hints[name], fields[name])]
    for body, change in itertools.product([{}, *examples], [{}, *changes]):
        try:
            params = scenario.params_type(**{**body, **change})
        except (TypeError, ValueError):
            continue
        yield params


def _choices(hint: Any, field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    """The values of a parameter that has a choice, or the lowest of a number, for a list of them alone."""
    if hint is bool:
        return False, True
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if "ge" not in field.metadata:
        return ()
    least = field.metadata["ge"]
    return ((least,),) if typing.get_origin(hint) is tuple else (least,)


def _examples(text: str, name: str) -> Iterator[Example]:
    """The requests of the `Run it:` section: a caption, then a line of JSON."""
    section = re.search(r"^Run it:\n((?:[ \t]+.*\n|\n)*)", text + "\n", re.MULTILINE)
    caption = ""
    for line in section.group(1).splitlines() if section else ():
        content = line.strip()
        if content.startswith("{"):
            yield Example(caption, _example_body(content, name))
        elif content:
            caption = content.rstrip(":.")


def _example_body(content: str, name: str) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError as exc:
        raise BadScenario(f"`Run it:` holds a line that is no JSON: {content}: {exc}") from exc
    if not isinstance(body, Mapping) or body.get("scenario") != name:
        raise BadScenario(f"`Run it:` holds a request for another scenario: {content}")
    return dict(body)
