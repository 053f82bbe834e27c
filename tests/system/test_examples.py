"""The examples of the document, posted as they stand to a real server with its real executor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.api.schemas import JobView
from tests.system.server import Server


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server."""
    with Server(tmp_path_factory.mktemp("examples")) as server:
        yield server.start()


@pytest.mark.timeout(600)
def test_examples_run_as_they_stand(live_server: Server) -> None:
    """Every example of the document shows what it is there for: an outcome of its scenario that is not forbidden.

    Some show a deadlock, which is named; all others succeed.
    """
    document = live_server.ask("GET", "/openapi.json").json()
    post = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    examples = {name: example["value"] for name, example in post["examples"].items()}
    assert len(examples) >= 5  # the tutorial's lessons

    def run(body: dict[str, Any]) -> JobView:
        return JobView.model_validate_json(json.dumps(live_server.run(body)))

    with ThreadPoolExecutor(len(examples)) as pool:
        jobs = dict(zip(examples, pool.map(run, examples.values()), strict=True))
    deadlocks = {name for name, job in jobs.items() if job.error is not None and job.error.type == "Deadlock"}
    expected = {name: "timed_out" if name in deadlocks else "succeeded" for name in examples}
    assert expected == {name: job.status for name, job in jobs.items()}
    for name, job in jobs.items():
        assert job.result is not None, name
        found = live_server.ask("GET", f"/v1/scenarios/{job.scenario}").json()
        assert job.result.outcome, name
        assert job.result.grade in {"acceptable", "interesting"}, f"{name}: {job.result.outcome}"
        assert found["name"] == job.scenario


def test_links_run_as_they_stand(live_server: Server) -> None:
    """The design's own address for a slide runs a job."""
    response = live_server.ask("GET", "/v1/try/counter?threads=4&lock=false")
    job = JobView.model_validate_json(response.content)
    assert (200, "succeeded") == (response.status_code, job.status)
    assert job.result is not None
    assert "lost" == job.result.outcome


def test_tutorial_s_lock_keeps_every_addition(live_server: Server) -> None:
    """With the lock nothing is lost."""
    job = live_server.run({"scenario": "counter", "lock": True, "iterations": 20_000})
    assert ("exact", "acceptable") == (job["result"]["outcome"], job["result"]["grade"])
    assert 80_000 == job["result"]["values"]["actual"] == job["result"]["values"]["expected"]


def test_answers_do_not_mix(live_server: Server) -> None:
    """Many different jobs at once: each client gets its own job's answer."""

    def run(number: int) -> tuple[int, int]:
        job = live_server.run({"scenario": "named_workers", "threads": 1 + number % 7, "delay_s": 0.01})
        return 1 + number % 7, len(job["result"]["threads"])

    with ThreadPoolExecutor(8) as pool:
        for asked, ran in pool.map(run, range(40)):
            assert asked == ran
