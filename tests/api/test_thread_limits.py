"""The settings that limit threads hold for every parameter that counts some, of every scenario."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service import catalog as catalogs
from service.executors.scripted import ScriptedExecutor
from tests.api.client import Client

LIMIT = 8

CATALOG = catalogs.find()
COUNTING = [(scenario.name, name) for scenario in CATALOG for name in scenario.counting("threads")]

PAIR = {"scenario": "producer_consumer"}

MakeClient = Callable[..., Client]


def value_for(scenario: str, name: str, threads: int) -> Any:
    """A value of a parameter that asks for so many threads."""
    lists = {("custom", "program"): [{"target": "sleep"}] * threads, ("oversubscription", "curve"): [1, threads]}
    return lists.get((scenario, name), threads)


def asked_for(order_params: dict[str, Any], scenario: str) -> int:
    """The most threads at a time that a job asks for."""
    return max(sum(team.values()) for team in CATALOG.get(scenario).teams(order_params))


def mistake(response: httpx.Response) -> dict[str, Any]:
    """The one mistake that an answer tells of."""
    assert 422 == response.status_code, response.text
    (found,) = response.json()["errors"]
    return dict(found)


def test_not_only_what_is_called_threads_counts_them() -> None:
    """A pool's workers, producers, calls, and the further points of a curve are threads, too."""
    expected = {
        ("custom", "program"),
        ("oversubscription", "curve"),
        ("pool", "max_workers"),
        ("producer_consumer", "producers"),
    }
    assert expected == {(scenario, name) for scenario, name in COUNTING if name != "threads"}


class TestJobs:
    @pytest.fixture
    def client(self, make_client: MakeClient) -> Client:
        """A client of a service whose jobs may have few threads."""
        return make_client(max_threads=LIMIT)

    def test_the_limit_is_in_every_schema(self, client: Client) -> None:
        """The setting is the highest value that a schema allows, and the default is within it."""
        for scenario, name in COUNTING:
            schema = client.get(f"/v1/scenarios/{scenario}").json()["parameters"]["properties"][name]
            found = schema.get("maximum") or schema["items"].get("maximum") or schema["maxItems"]
            assert (scenario, name, LIMIT) == (scenario, name, found)
            assert schema["type"] == "array" or schema["default"] <= LIMIT

    def test_more_are_refused(self, client: Client) -> None:
        """One thread more than the setting allows is a mistake at the parameter."""
        for scenario, name in COUNTING:
            body = {"scenario": scenario, name: value_for(scenario, name, LIMIT + 1)}
            assert f"#/{name}" in mistake(client.post("/v1/jobs", json=body))["pointer"], scenario

    def test_defaults_are_within_the_limit(self, client: Client, executor: ScriptedExecutor) -> None:
        """A job that says nothing of threads has no more than the setting allows."""
        for scenario in CATALOG.names:
            client.run({"scenario": scenario})
            assert asked_for(executor.orders[-1].params, scenario) <= LIMIT, scenario

    def test_all_threads_of_a_job_are_limited_together(self, client: Client) -> None:
        """Parameters that are each within the limit can be too many together."""
        assert "succeeded" == client.run({**PAIR, "producers": 4, "threads": 4})["status"]
        found = mistake(client.post("/v1/jobs", json={**PAIR, "producers": 4, "threads": 5}))
        assert "That makes 9 threads; a job can have 8. Lower producers or threads." == found["detail"]

    def test_an_experiment_leaves_out_what_is_too_much_together(self, client: Client) -> None:
        """A cell whose values ask together for too many threads is not covered, with the reason."""
        body = {**PAIR, "vary": {"threads": [2, 6, 8]}, "repeats": 1}
        (missing,) = client.post("/v1/experiments", json=body, headers={"Prefer": "wait=30"}).json()["not_covered"]
        assert {"threads": 8} == missing["values"]
        assert missing["reason"].startswith("That makes 10 threads")

    def test_a_scenario_that_needs_more_is_refused(self, make_client: MakeClient) -> None:
        """Where the least that a scenario can do with is beyond the limit, not even its default is run."""
        client = make_client(max_threads=1)
        mistake(client.post("/v1/jobs", json={"scenario": "deadlock"}))
        mistake(client.post("/v1/jobs", json={"scenario": "deadlock", "threads": 1}))
        assert "succeeded" == client.run({"scenario": "counter"})["status"]


class TestTry:
    @pytest.fixture
    def client(self, make_client: MakeClient) -> Client:
        """A client of a service whose links may start few threads."""
        return make_client(try_max_threads=LIMIT)

    def test_more_are_refused(self, client: Client) -> None:
        """What asks for more threads than a link may is a mistake at its parameter, with what is allowed there."""
        for scenario, name in COUNTING:
            query = {name: json.dumps(value_for(scenario, name, LIMIT + 1))}
            found = mistake(client.get(f"/v1/try/{scenario}", params=query))
            (most,) = found["allowed"].values()
            assert (scenario, name) == (scenario, found["parameter"])
            assert str(LIMIT) in found["detail"]
            fitting = {name: json.dumps(value_for(scenario, name, most))}
            assert 200 == client.get(f"/v1/try/{scenario}", params=fitting).status_code, scenario

    def test_a_bare_link_is_within_the_limit(self, client: Client, executor: ScriptedExecutor) -> None:
        """A link without a query starts no more threads than a link may, whatever the scenario's defaults are."""
        for scenario in CATALOG.names:
            assert 200 == client.get(f"/v1/try/{scenario}").status_code, scenario
            assert asked_for(executor.orders[-1].params, scenario) <= LIMIT, scenario

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("producers=256&threads=3", {"producers": 5}),
            ("producers=3&threads=256", {"threads": 5}),
            ("threads=7", {"threads": 6}),  # beside two producers, which are the default
            ("producers=5&threads=4", {"producers": 4}),
            ("producers=8&threads=8", {"producers": 4, "threads": 4}),
            ("producers=100&threads=200", {"producers": 4, "threads": 4}),
        ],
    )
    def test_what_is_allowed_leaves_room_for_the_others(
        self, client: Client, query: str, expected: dict[str, int]
    ) -> None:
        """Of several parameters that are too many together the largest gives way, and what is told of it would do."""
        response = client.get(f"/v1/try/producer_consumer?{query}")
        found = response.json()["errors"]
        assert 422 == response.status_code
        assert expected == {error["parameter"]: error["nearest"] for error in found}
        assert {f"By a link, producers and threads can be at most {LIMIT} together; post a job for more."} == {
            error["detail"] for error in found
        }
        given = dict(part.split("=") for part in query.split("&"))
        assert 200 == client.get("/v1/try/producer_consumer", params={**given, **expected}).status_code

    def test_a_link_may_not_start_more_than_a_job_can_have(self, make_client: MakeClient) -> None:
        """The limit of all jobs holds for those that links start."""
        client = make_client(max_threads=4, try_max_threads=64)
        assert 200 == client.get("/v1/try/oversubscription").status_code
        assert {"maximum": 4} == mistake(client.get("/v1/try/oversubscription?threads=5"))["allowed"]
