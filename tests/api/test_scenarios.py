"""`/v1/scenarios`: what can be run, and the code itself; `/v1/try`: run it by a bare GET."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import catalog as catalogs
from service import scenarios
from service.api.schemas import JobView, ScenarioList, ScenarioView
from service.catalog import Catalog, Unavailable
from service.executors.scripted import ScriptedExecutor
from tests.api.client import Client, contract

NAMES = ["counter", "custom", "daemon", "interleaving", "named_workers"]

MakeClient = Callable[..., Client]
Bring = Callable[[str], Catalog]

_BROUGHT = '''"""Brought: a scenario of another package."""

import threading
from dataclasses import dataclass, field
from typing import Callable, Optional

LANE = "wait"


@dataclass(frozen=True)
class Params:
    {parameter}


def outcomes(params):
    return {{"done": ("acceptable", "It was done.")}}


def run(params, lab):
    return {{"outcome": "done"}}
'''


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bring]:
    """Offer a scenario with one parameter as another package would, and find it."""
    monkeypatch.syspath_prepend(tmp_path)
    contract()  # is made once, of what is there without it

    def bring_scenario(parameter: str) -> Catalog:
        (tmp_path / "brought_scenario.py").write_text(_BROUGHT.format(parameter=parameter), "utf-8")
        point = SimpleNamespace(name="brought", value="brought_scenario", dist=SimpleNamespace(name="some-package"))
        monkeypatch.setattr(catalogs, "entry_points", lambda group: [point])
        return catalogs.find()

    yield bring_scenario
    sys.modules.pop("brought_scenario", None)


class TestList:
    def test_holds_the_five_lessons(self, client: Client) -> None:
        """The tutorial's programs are there, each with a title and a sentence."""
        found = ScenarioList.model_validate_json(client.get("/v1/scenarios").content)
        assert set(NAMES) <= {scenario.name for scenario in found.scenarios}
        assert all(scenario.title and scenario.summary for scenario in found.scenarios)
        assert {"built-in"} == {scenario.origin for scenario in found.scenarios if scenario.name in NAMES}

    def test_unavailable_ones_are_told_with_the_reason(self, make_client: MakeClient, catalog: Catalog) -> None:
        """A scenario that breaks a rule is listed with its reason, cannot be run, and stops nothing."""
        bad = Unavailable("broken", "some-package", "It has no dataclass `Params`.")
        client = make_client(found=Catalog(catalog, [bad]))
        found = ScenarioList.model_validate_json(client.get("/v1/scenarios").content)
        assert [("broken", "some-package", bad.reason)] == [
            (each.name, each.origin, each.reason) for each in found.unavailable
        ]
        assert "broken" not in {scenario.name for scenario in found.scenarios}
        assert 404 == client.get("/v1/scenarios/broken").status_code
        assert 422 == client.post("/v1/jobs", json={"scenario": "broken"}).status_code
        assert "succeeded" == client.run({"scenario": "counter"})["status"]

    @pytest.mark.parametrize(
        ("parameter", "reason"),
        [
            (
                'mode: threading.Thread = field(default=None, metadata={"description": "A thread."})',
                "PydanticSchemaGenerationError: Unable to generate pydantic-core schema for <class 'threading.Thread'>",
            ),
            ('mode: Callable[[], int] = field(default=None, metadata={"description": "A function."})', "TypeError"),
            (
                'mode: Optional[Callable[..., int]] = field(default=None, metadata={"description": "A function."})',
                "PydanticInvalidForJsonSchema",
            ),
            (
                'mode: int = field(default=1, metadata={"ge": "one", "description": "A number."})',
                "Field 'mode': .* 'ge' must be coercible to an integer",
            ),
            (
                'mode: str = field(default="a", metadata={"pattern": "(", "description": "A text."})',
                "Field 'mode': .* unclosed group",
            ),
        ],
    )
    def test_parameters_that_make_no_request_are_told_with_the_reason(
        self, make_client: MakeClient, bring: Bring, parameter: str, reason: str
    ) -> None:
        """A scenario whose types or limits pydantic cannot take stops nothing, the document included."""
        client = make_client(found=bring(parameter))
        (unavailable,) = client.get("/v1/scenarios").json()["unavailable"]
        assert ("brought", "some-package") == (unavailable["name"], unavailable["origin"])
        assert re.search(f"^Its parameters cannot be a request: .*{reason}", unavailable["reason"])
        assert 404 == client.get("/v1/scenarios/brought").status_code
        assert 422 == client.post("/v1/jobs", json={"scenario": "brought"}).status_code
        assert 200 == client.get("/openapi.json").status_code
        assert "succeeded" == client.run({"scenario": "counter"})["status"]

    def test_parameters_of_another_package_are_taken(self, make_client: MakeClient, bring: Bring) -> None:
        """A good scenario of another package is run like any other."""
        parameter = 'mode: int = field(default=1, metadata={"ge": 1, "description": "A number."})'
        client = make_client(found=bring(parameter))
        assert [] == client.get("/v1/scenarios").json()["unavailable"]
        assert 1 == client.get("/v1/scenarios/brought").json()["parameters"]["properties"]["mode"]["minimum"]
        assert "succeeded" == client.run({"scenario": "brought", "mode": 2})["status"]

    @pytest.mark.parametrize(
        ("parameter", "keyword"),
        [
            ('mode: int = field(default=1, metadata={"counts": "threads", "description": "A number."})', "maximum"),
            ('mode: int = field(default=1, metadata={"counts": "iterations", "description": "A number."})', "maximum"),
            (
                'mode: tuple[str, ...] = field(default=(), metadata={"counts": "threads", "description": "Names."})',
                "maxItems",
            ),
        ],
    )
    def test_what_another_package_counts_is_limited(
        self, make_client: MakeClient, bring: Bring, parameter: str, keyword: str
    ) -> None:
        """A parameter of another package's scenario that says what it counts is held to the setting."""
        client = make_client(found=bring(parameter), max_threads=3, max_iterations=3)
        assert 3 == client.get("/v1/scenarios/brought").json()["parameters"]["properties"]["mode"][keyword]
        value = 4 if keyword == "maximum" else ["a", "b", "c", "d"]
        assert 422 == client.post("/v1/jobs", json={"scenario": "brought", "mode": value}).status_code


@pytest.mark.parametrize("name", NAMES)
class TestScenario:
    def test_tells_all_about_itself(self, client: Client, catalog: Catalog, name: str) -> None:
        """A scenario's page holds its text, its parameters, its examples and its outcomes."""
        scenario = catalog.get(name)
        found = ScenarioView.model_validate_json(client.get(f"/v1/scenarios/{name}").content)
        assert (name, scenario.text, scenario.digest) == (found.name, found.text, found.digest)
        assert [example.body for example in scenario.examples] == [example.body for example in found.examples]
        assert all(example.caption for example in found.examples)
        assert all(outcome.meaning for outcome in found.outcomes)
        assert [outcome.name for outcome in scenario.outcomes()] == [outcome.outcome for outcome in found.outcomes]

    def test_parameters_are_a_schema_of_its_requests(self, client: Client, catalog: Catalog, name: str) -> None:
        """The JSON Schema of a scenario takes its examples and refuses another scenario's."""
        schema = client.get(f"/v1/scenarios/{name}").json()["parameters"]
        for example in catalog.get(name).examples:
            contract().validate(schema, example.body, example.caption)
        with pytest.raises(AssertionError):
            contract().validate(schema, {"scenario": "another"})

    def test_examples_can_be_posted_as_they_stand(self, client: Client, name: str) -> None:
        """Every example of a scenario's page is accepted."""
        for example in client.get(f"/v1/scenarios/{name}").json()["examples"]:
            assert 202 == client.post("/v1/jobs", json=example["body"]).status_code

    def test_source_is_the_file(self, client: Client, name: str) -> None:
        """The code that is shown is the file, to the byte, with its digest as `ETag`."""
        path = Path(scenarios.__path__[0], f"{name}.py")
        response = client.get(f"/v1/scenarios/{name}/source")
        assert path.read_bytes() == response.content
        assert "text/plain; charset=utf-8" == response.headers["content-type"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f'"{digest}"' == response.headers["etag"]
        assert digest == client.get(f"/v1/scenarios/{name}").json()["digest"]


def test_measures_are_told_with_what_their_work_grows_with(client: Client) -> None:
    """Of each number that an experiment can compare it is told which way is better, and of how much work it is."""
    work = ["threads", "iterations"]
    expected = [
        {"name": "wall_s", "better": "lower", "grows_with": work},
        {"name": "per_addition_s", "better": "lower", "grows_with": []},
        {"name": "cpu_s", "better": "lower", "grows_with": work},
    ]
    assert expected == client.get("/v1/scenarios/counter").json()["measures"]


@pytest.mark.parametrize("path", ["/v1/scenarios/{}", "/v1/scenarios/{}/source", "/v1/try/{}"])
def test_unknown_scenario_is_404_with_the_nearest(client: Client, path: str) -> None:
    """A misspelled scenario in an address is answered with the one that was meant."""
    response = client.get(path.format("named_worker"))
    (error,) = response.json()["errors"]
    assert (404, "named_workers") == (response.status_code, error["nearest"])


class TestTry:
    def test_runs_a_job_by_a_bare_get(self, client: Client) -> None:
        """An address is enough to run a job and see it finished; nothing may cache that."""
        response = client.get("/v1/try/counter?threads=4&lock=false")
        job = JobView.model_validate_json(response.content)
        assert (200, "succeeded") == (response.status_code, job.status)
        assert {"threads": 4, "lock": False}.items() <= job.request.items()
        assert "no-store" == response.headers["cache-control"]
        assert f"/v1/jobs/{job.id}" == response.headers["location"]
        assert "preference-applied" not in response.headers

    @pytest.mark.parametrize(
        ("query", "place"),
        [("threads=4&threads=5", "threads"), ("lock=true&lock=true", "lock"), ("scenario=daemon", "scenario")],
    )
    def test_says_each_thing_once(self, client: Client, query: str, place: str) -> None:
        """Of two values none is what was meant, and the path says which scenario to run."""
        response = client.get(f"/v1/try/counter?{query}")
        assert (422, [place]) == (response.status_code, [each["parameter"] for each in response.json()["errors"]])

    def test_needs_no_query(self, client: Client) -> None:
        """Without a query a scenario's defaults are run."""
        assert 200 == client.get("/v1/try/daemon").status_code

    def test_is_a_job_like_any_other(self, client: Client) -> None:
        """What was run by an address is listed, and can be run again."""
        job = client.get("/v1/try/counter").json()
        assert [job["id"]] == [each["id"] for each in client.get("/v1/jobs").json()["jobs"]]
        assert 202 == client.post(f"/v1/jobs/{job['id']}/rerun").status_code

    @pytest.mark.parametrize(
        ("scenario", "query", "expected"),
        [
            ("counter", "threads=2&iterations=10", {"threads": 2, "iterations": 10}),
            ("counter", "lock=true", {"lock": True}),
            ("counter", "shape=yield", {"shape": "yield"}),
            ("counter", "switch_interval_s=0.5", {"switch_interval_s": 0.5}),
            ("counter", "switch_interval_s=null", {"switch_interval_s": None}),
            ("daemon", "interval_s=0.5&daemon=false", {"interval_s": 0.5, "daemon": False}),
            ("daemon", "interval_s=1", {"interval_s": 1.0}),
            ("named_workers", "name=5", {"name": "5"}),
            ("named_workers", "name=true&threads=1", {"name": "true", "threads": 1}),
            ("interleaving", "delay_s=0.25&label=a+b&timeout_s=3", {"delay_s": 0.25, "label": "a b", "timeout_s": 3.0}),
            ("custom", 'program=[{"target":"sleep","args":[1]}]', None),
        ],
    )
    def test_types_come_from_the_parameters(
        self, client: Client, scenario: str, query: str, expected: dict[str, Any] | None
    ) -> None:
        """A query is text; what it stands for is decided by the parameter's type."""
        response = client.get(f"/v1/try/{scenario}?{query}")
        assert 200 == response.status_code, response.text
        if expected is not None:
            request = response.json()["request"]
            assert expected == {name: request[name] for name in expected}

    @pytest.mark.parametrize(
        ("scenario", "query", "name", "detail"),
        [
            ("custom", "program=sleep", "program", "Input should be a list, written as JSON."),
            ("oversubscription", "curve=1,2", "curve", "Input should be a list, written as JSON."),
            ("oversubscription", "curve=[2,0]", "curve", "At 1: Input should be greater than or equal to 1."),
            ("custom", 'program=["sleep"]', "program", "At 0: Input should be an object."),
        ],
    )
    def test_mistakes_in_what_is_read_as_json(
        self, client: Client, scenario: str, query: str, name: str, detail: str
    ) -> None:
        """A list is written as JSON, which is said where it is none, and a mistake within it has its place there."""
        response = client.get(f"/v1/try/{scenario}?{query}")
        (error,) = response.json()["errors"]
        assert (422, name, detail) == (response.status_code, error["parameter"], error["detail"])

    def test_runs_no_longer_than_a_link_may(self, client: Client, executor: ScriptedExecutor) -> None:
        """Without a `timeout_s` a link's own limit holds."""
        client.get("/v1/try/counter")
        assert 30.0 == executor.orders[-1].timeout_s

    @pytest.mark.parametrize(
        ("query", "name", "nearest"), [("threads=65", "threads", 64), ("timeout_s=31", "timeout_s", 30)]
    )
    def test_limits_are_tighter_than_for_a_post(self, client: Client, query: str, name: str, nearest: float) -> None:
        """What a link may ask for is bounded, and the problem says where the bound is."""
        response = client.get(f"/v1/try/counter?{query}")
        (error,) = response.json()["errors"]
        assert (422, name, nearest) == (response.status_code, error["parameter"], error["nearest"])
        value = int(query.partition("=")[2])
        assert 202 == client.post("/v1/jobs", json={"scenario": "counter", name: value}).status_code

    def test_limits_are_settings(self, make_client: MakeClient) -> None:
        """The bounds of a link can be set."""
        client = make_client(try_max_threads=3, try_timeout_s=1.0)
        assert 422 == client.get("/v1/try/counter?threads=4").status_code
        assert 200 == client.get("/v1/try/counter?threads=3").status_code

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("threads=many", "threads"),
            ("threads=0", "threads"),
            ("treads=4", "treads"),
            ("lock=perhaps", "lock"),
            ("timeout_s=NaN", "timeout_s"),
            ("timeout_s=1e999", "timeout_s"),
            ("threads=", "threads"),
        ],
    )
    def test_mistakes_are_in_the_query(self, client: Client, query: str, name: str) -> None:
        """A mistake is told of the query's parameter: there is no body to point into."""
        response = client.get(f"/v1/try/counter?{query}")
        (error,) = response.json()["errors"]
        assert (422, name) == (response.status_code, error.get("parameter"))
        assert "pointer" not in error

    def test_job_that_takes_long_is_202(self, make_client: MakeClient, gate: threading.Event) -> None:
        """A job that does not end within the longest wait is answered with its address."""
        client = make_client(ScriptedExecutor(held=gate), max_wait_s=1)
        response = client.get("/v1/try/counter")
        assert 202 == response.status_code
        assert f"/v1/jobs/{response.json()['id']}" == response.headers["location"]
        assert "1" == response.headers["retry-after"]
