"""The request union, built from the catalog.

Who uses it: the endpoints, FastAPI for the OpenAPI document, and the command line. A scenario's `Params` is a standard
dataclass whose `metadata` holds pydantic's names; `RequestUnion` makes one named dataclass per scenario out of it and
of the job's options, so that a body is flat and every limit stands in the document. No `from __future__ import
annotations` here: annotations must be objects, not text.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union

from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from service.api import bodies
from service.catalog import Catalog, Scenario, Unavailable
from service.errors import BadScenario
from service.events import Trace

__all__ = ["RequestLimits", "RequestUnion", "lowered"]

_STRICT = {int, float, bool, str}  # a "4" for a number is a mistake that we tell, with the 4 it stands for
_OF_EXPERIMENTS = "exp_"  # how their ids begin, which are the labels of their runs


def _own(label: str) -> str:
    if label.startswith(_OF_EXPERIMENTS):
        raise ValueError(f"The labels of an experiment's jobs begin with {_OF_EXPERIMENTS}. Choose another one.")
    return label


_Label = Annotated[
    str,
    # The pattern is for readers of the document: pydantic's engine cannot look ahead.
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": f"^(?!{_OF_EXPERIMENTS})"}),
    AfterValidator(_own),
]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a request may ask for; the limits stand in the schema.

    Attributes:
        most: the highest value of a parameter, by what it counts, whatever the scenario itself allows. That of
            `threads` holds for all parameters together that count them.
    """

    most: dict[str, int]
    default_timeout_s: float
    max_timeout_s: float


class RequestUnion:
    """All requests that the catalog allows, told apart by `scenario`.

    Attributes:
        annotation: the union as a type, for an endpoint's parameter.
        catalog: what can be asked for; a scenario whose parameters make no request is unavailable there.
    """

    def __init__(self, catalog: Catalog, limits: RequestLimits) -> None:
        self.models: dict[str, type[Any]] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        unavailable = list(catalog.unavailable)
        for scenario in catalog:
            try:
                model, schema = _try_model(scenario, limits)
            except BadScenario as exc:
                unavailable.append(Unavailable(scenario.name, scenario.origin, str(exc)))
            else:
                self.models[scenario.name], self._schemas[scenario.name] = model, schema
        self.catalog = Catalog([each for each in catalog if each.name in self.models], unavailable)
        self._most_threads = limits.most.get("threads")
        models = tuple(Annotated[model, AfterValidator(self._hold_to_threads)] for model in self.models.values())
        self.annotation: Any = Annotated[Union[models], Field(discriminator="scenario")]  # noqa: UP007  made at run time
        adapted: Any = self.annotation  # a type made at run time, which mypy cannot know for one
        self._adapter: TypeAdapter[Any] = TypeAdapter(adapted)

    def parse(self, body: Any) -> Any:
        """Return the request that a JSON value holds.

        Raises:
            ValidationError: it holds none.
        """
        return self._adapter.validate_python(body)

    def validate(self, body: Any, source: str = "body") -> Any:
        """Return the request that a body holds.

        Args:
            source: where the client wrote it: `body` or `query`.

        Raises:
            RequestValidationError: it holds none.
        """
        unfit = [{**each, "loc": (source, *each["loc"])} for each in bodies.faults(body)]
        if unfit:
            raise RequestValidationError(unfit, body=body)
        try:
            return self.parse(body)
        except ValidationError as exc:
            found = [{**error, "loc": (source, *error["loc"])} for error in exc.errors()]
            raise RequestValidationError(found, body=body) from exc

    def from_query(self, scenario: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the body that a query string stands for: text for parameters that are text, else read as JSON."""
        hints = typing.get_type_hints(self.models[scenario]) if scenario in self.models else {}
        texts = {name for name, hint in hints.items() if str in (hint, *typing.get_args(hint))}
        values = {name: text if name in texts else _from_json(text) for name, text in query.items()}
        return {**values, "scenario": scenario}

    @staticmethod
    def again(request: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a job's request with some fields changed.

        The label that an experiment gave to its run stays with that run: another job of this label would count as one.
        """
        label = request.get("label")
        ran_for = label is not None and label.startswith(_OF_EXPERIMENTS)
        return {**request, **({"label": None} if ran_for else {}), **changes}

    @staticmethod
    def dump(request: Any) -> dict[str, Any]:
        """Return a request as JSON values, every default filled in, `scenario` first."""
        values = {each.name: _plain(getattr(request, each.name)) for each in dataclasses.fields(request)}
        return {"scenario": values.pop("scenario"), **values}

    def schema(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of a scenario's request."""
        return self._schemas[name]

    def _hold_to_threads(self, request: Any) -> Any:
        """Refuse parameters that are each within the limit, and ask together for more threads than one job may have."""
        scenario = self.catalog.get(request.scenario)
        for team in scenario.teams({name: getattr(request, name) for name in scenario.counting("threads")}):
            if self._most_threads is not None and sum(team.values()) > self._most_threads:
                raise ValueError(
                    f"That makes {sum(team.values())} threads; a job can have {self._most_threads}. "
                    f"Lower {' or '.join(team)}."
                )
        return request


def lowered(parameter: dataclasses.Field[Any], most: int | None) -> Any:
    """Return the default of a parameter, or the most that it can be if that is less and the scenario can do with it."""
    default, least = parameter.default, parameter.metadata.get("ge", most)
    return min(default, most) if most is not None and isinstance(default, int) and least <= most else default


def _try_model(scenario: Scenario, limits: RequestLimits) -> tuple[type[Any], dict[str, Any]]:
    """Return the model of a scenario's request and its JSON Schema, made alone: one that is bad spoils no other.

    Raises:
        BadScenario: no request can be made of its types, or of the limits in its metadata.
    """
    try:
        model = _request_model(scenario, limits)
        return model, TypeAdapter(model).json_schema()
    except Exception as exc:
        why = " ".join(str(exc).partition("\n\n")[0].split())  # what comes behind is for who extends pydantic
        raise BadScenario(f"Its parameters cannot be a request: {type(exc).__name__}: {why}") from exc


def _request_model(scenario: Scenario, limits: RequestLimits) -> type[Any]:
    """A frozen dataclass, named like `CounterJob`: the scenario's parameters and the job's options."""
    hints = scenario.hints()
    members: list[tuple[str, Any, Any]] = [
        ("scenario", Literal[scenario.name], field(metadata={"description": scenario.summary}))
    ]
    for name, parameter in scenario.fields().items():
        metadata = dict(parameter.metadata)
        most = limits.most.get(metadata.pop("counts", name))
        if most is not None:
            bound = _bound(hints[name])
            metadata[bound] = min(metadata.get(bound, most), most)
        hint = _strict_items(hints[name], metadata)
        if hint is hints[name] and {hint, *typing.get_args(hint)} & _STRICT:
            metadata["strict"] = True
        members.append((name, hint, field(default=lowered(parameter, most), metadata=metadata)))
    members += _options(limits)
    return dataclasses.make_dataclass(
        "".join(part.title() for part in scenario.name.split("_")) + "Job",
        members,
        bases=(scenario.params_type,),
        frozen=True,
        kw_only=True,
        namespace={"__pydantic_config__": ConfigDict(extra="forbid", allow_inf_nan=False), "__doc__": scenario.summary},
    )


def _bound(hint: Any) -> str:
    """What holds a parameter to the most that it may count: numbers by their values, other lists by their lengths."""
    return "max_length" if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] is not int else "le"


def _strict_items(hint: Any, metadata: dict[str, Any]) -> Any:
    """A list of numbers as a list of strict numbers; a strict tuple would refuse the list that JSON has for it.

    What limits the numbers goes from the list's metadata to theirs.
    """
    items = typing.get_args(hint)
    if typing.get_origin(hint) is not tuple or items[0] not in _STRICT:
        return hint
    limits = {name: metadata.pop(name) for name in ("ge", "le") if name in metadata}
    item: Any = items[0]
    strict: Any = Annotated[item, Field(strict=True, **limits)]
    return types.GenericAlias(tuple, (strict, ...))


def _options(limits: RequestLimits) -> list[tuple[str, Any, Any]]:
    """What every job has besides its scenario's parameters."""
    timeout = {
        "gt": 0,
        "le": limits.max_timeout_s,
        "strict": True,
        "allow_inf_nan": False,
        "description": "Seconds that the scenario may run; then the job is `timed_out` and its process is ended.",
    }
    label = {
        "description": "A text of yours to find the job again by. It may not begin with `exp_`, as the labels of an "
        "experiment's jobs do.",
    }
    python = {
        "min_length": 1,
        "max_length": 200,
        "description": "Which interpreter runs it: a `selector` of `GET /v1/interpreters`, a version such as `3.13` or "
        "`3.13.0`, with a `t` for a free-threaded build, or `3.x` for the newest; null is the service's own.",
    }
    gil = {"description": "Switches the GIL of a free-threaded build; null leaves it as the build has it."}
    trace = {
        "description": "What is recorded of its threads: `threads` when they start and end; `locks` also each wait, "
        "acquire and release of the locks that the scenario took from its lab, at a cost that the answer tells; "
        "semaphores, conditions, events, barriers and queues are not seen; `off` nothing."
    }
    return [
        ("python", str | None, field(default=None, metadata=python)),
        ("gil", Literal["on", "off"] | None, field(default=None, metadata=gil)),
        ("timeout_s", float, field(default=min(limits.default_timeout_s, limits.max_timeout_s), metadata=timeout)),
        ("trace", Trace, field(default="threads", metadata=trace)),
        ("label", _Label | None, field(default=None, metadata=label)),
    ]


def _from_json(text: str) -> Any:
    try:
        return bodies.load(text)
    except (ValueError, RequestValidationError):  # no JSON, or too large: the parameter's type refuses the text
        return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
