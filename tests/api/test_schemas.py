"""Every real answer has the shape that the models say, for each scenario, run for real."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service import catalog as catalogs
from service.api.schemas import Capacity, InterpreterList, JobList, JobListItem, JobView, job_view
from service.catalog import Catalog, Scenario
from tests.api.client import contract
from tests.stores.helpers import ended_job, make_job
from tests.system.server import Server

_SHORT = {"delay_s": 0.02, "interval_s": 0.02, "main_s": 0.05, "iterations": 500, "max_ticks": 3, "steps": 2}

NAMES = [scenario.name for scenario in catalogs.find()]


def shortened(scenario: Scenario, body: dict[str, Any]) -> dict[str, Any]:
    """A request that shows the same and takes no time."""
    known = scenario.fields()
    short = {name: value for name, value in _SHORT.items() if name in known}
    if scenario.name == "custom" and "program" not in body:
        short["program"] = [
            {"target": "print_numbers", "args": [2], "kwargs": {"delay_s": 0.01}, "name": "Numbers", "daemon": False},
            {"target": "print_letters", "args": ["AB", 0.01]},
        ]
    return {**body, **short}


def real_jobs(server: Server, bodies: list[dict[str, Any]]) -> list[bytes]:
    """The finished jobs, as they were answered."""

    def run(body: dict[str, Any]) -> bytes:
        response = server.ask("POST", "/v1/jobs", json=body, headers={"Prefer": "wait=60"})
        assert 200 == response.status_code, response.text
        return response.content

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(run, bodies))


@pytest.mark.parametrize("name", NAMES)
def test_real_answers_match_the_models(live_server: Server, catalog: Catalog, name: str) -> None:
    """Each example of each scenario, run for real, is answered in exactly the shape of `JobView`."""
    scenario = catalog.get(name)
    bodies = [shortened(scenario, example.body) for example in scenario.examples]
    for body, answer in zip(bodies, real_jobs(live_server, bodies), strict=True):
        job = JobView.model_validate_json(answer)
        contract().validate({"$ref": "#/components/schemas/JobView"}, json.loads(answer))
        assert job.result is not None, answer
        assert job.python is not None
        assert job.machine is not None
        assert (name, 1) == (job.scenario, job.attempt)
        if "stuck" == job.result.outcome:  # shown, not suffered: there is a deadlock, and it is named
            assert ("timed_out", "interesting") == (job.status, job.result.grade), answer
            assert (job.error and job.error.type, bool(job.result.autopsy)) == ("Deadlock", True), answer
        else:
            assert ("succeeded", None, None) == (job.status, job.error, job.result.autopsy), answer
        assert body.items() <= {**job.request, **_given_program(body)}.items()


def _given_program(body: dict[str, Any]) -> dict[str, Any]:
    """A program is answered with its own defaults filled in, so it is not compared."""
    return {"program": body["program"]} if "program" in body else {}


@pytest.mark.parametrize("name", NAMES)
def test_what_was_observed_is_told(live_server: Server, catalog: Catalog, name: str) -> None:
    """Times, threads and counts of a real run are there, and go together."""
    scenario = catalog.get(name)
    (answer,) = real_jobs(live_server, [shortened(scenario, scenario.examples[0].body)])
    job = JobView.model_validate_json(answer)
    result = job.result
    assert result is not None
    assert job.created_at <= (job.started_at or job.created_at) <= (job.finished_at or job.created_at)
    measured = [result.timings.queued_s, result.timings.startup_s]
    if "stuck" != result.outcome:
        measured += [result.timings.wall_s, result.timings.cpu_s]
        assert (0, None) == (result.process.exit_code, result.process.signal)
    for seconds in measured:
        assert seconds is not None
        assert seconds >= 0
    assert 1 == result.active_threads.before
    assert (result.active_threads.peak or 0) >= 2
    assert result.threads
    for thread in result.threads:
        assert thread.started_s >= 0
        assert thread.ended_s is None or thread.ended_s >= thread.started_s
    assert result.meaning
    assert result.grade in {"acceptable", "interesting"}


@pytest.mark.parametrize("name", NAMES)
def test_request_has_every_default(live_server: Server, catalog: Catalog, name: str) -> None:
    """The answer's request holds each parameter and option, at its default unless it was given."""
    job_id = live_server.submit({"scenario": name})
    request = live_server.job(job_id)["request"]
    live_server.ask("POST", f"/v1/jobs/{job_id}/cancel")
    scenario = catalog.get(name)
    defaults = json.loads(json.dumps(dataclasses.asdict(scenario.params_type())))
    options = {"python": None, "gil": None, "timeout_s": 60.0, "trace": "threads", "label": None}
    assert {"scenario": name, **defaults, **options} == request


def test_unfinished_and_cancelled_jobs_match_the_models(live_server: Server) -> None:
    """A job without a result has the same shape."""
    job_id = live_server.submit({"scenario": "daemon", "main_s": 30.0})
    JobView.model_validate(live_server.job(job_id))
    cancelled = live_server.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert "cancelled" == JobView.model_validate_json(cancelled.content).status


def test_timed_out_job_matches_the_models(live_server: Server) -> None:
    """A job that had to be ended at its deadline says that it was stuck."""
    job = JobView.model_validate(live_server.run({"scenario": "daemon", "main_s": 30.0, "timeout_s": 0.1}))
    assert job.result is not None
    assert ("timed_out", "stuck", "interesting") == (job.status, job.result.outcome, job.result.grade)


def test_deadlocked_job_matches_the_models(live_server: Server) -> None:
    """A deadlock is answered at once, with its cycle and where every thread stood, in the shape of the models."""
    job = JobView.model_validate(live_server.run({"scenario": "deadlock", "threads": 3, "hold_s": 0.5}))
    assert job.result is not None
    assert job.error is not None
    assert ("timed_out", "stuck", "Deadlock") == (job.status, job.result.outcome, job.error.type)
    assert job.result.autopsy is not None
    assert 4 == len(job.result.autopsy.threads)
    assert ["Philosopher-1", "Philosopher-2", "Philosopher-3"] == sorted(
        link.thread for link in job.result.autopsy.cycle or ()
    )
    assert all(thread.stack for thread in job.result.autopsy.threads)


def test_a_result_from_before_there_were_autopsies() -> None:
    """A job that an older service remembered is answered in today's shape, and the job itself is left as it is."""
    job = ended_job()
    assert job.result is not None
    late = {"autopsy", "gil", "trace"}
    old = {name: value for name, value in job.result.items() if name not in late}
    view = job_view(replace(job, result=old))  # type: ignore[arg-type]
    assert dict.fromkeys(late) == {name: view["result"][name] for name in late}
    assert not late & set(old)
    assert job_view(make_job())["result"] is None


def test_list_matches_the_models(live_server: Server) -> None:
    """A list of real jobs has the shape of `JobList`, whatever became of them."""
    live_server.run({"scenario": "counter", "iterations": 10})
    found = JobList.model_validate_json(live_server.ask("GET", "/v1/jobs").content)
    assert found.jobs
    assert isinstance(found.jobs[0], JobListItem)


def test_real_interpreter_and_limits_match_the_models(live_server: Server) -> None:
    """What the service says of itself has the shape of its models, with the real executor."""
    found = InterpreterList.model_validate_json(live_server.ask("GET", "/v1/interpreters").content)
    assert Path(found.interpreters[0].executable).exists()
    Capacity.model_validate_json(live_server.ask("GET", "/v1/capacity").content)
