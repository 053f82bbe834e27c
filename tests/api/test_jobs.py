"""`/v1/jobs`: submit, look, wait, cancel, run again, forget."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.executors.scripted import ScriptedExecutor, success
from service.jobs import JobState
from tests.api.client import Client
from tests.support import wait_until

COUNTER = {"scenario": "counter"}
UNKNOWN = "/v1/jobs/job_01kabcdefghjkmnpqrstvwxyz0"

MakeClient = Callable[..., Client]


def problem(response: httpx.Response) -> tuple[int, str]:
    """The status of an answer and the kind of problem that it names."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["type"].rpartition("/")[2]


def pointers(response: httpx.Response) -> list[str]:
    """Where in the request the mistakes are."""
    return [
        error.get("pointer") or error.get("parameter") or error.get("header") for error in response.json()["errors"]
    ]


class TestSubmit:
    def test_answers_202_with_where_and_when_to_look(self, held: Client) -> None:
        """A job is accepted with its address and with when to look again, and nothing is said of a preference."""
        response = held.post("/v1/jobs", json=COUNTER)
        job = response.json()
        assert 202 == response.status_code
        assert f"/v1/jobs/{job['id']}" == response.headers["location"]
        assert "1" == response.headers["retry-after"]
        assert "preference-applied" not in response.headers
        assert job["status"] in {"queued", "running"}
        assert job["id"].startswith("job_")

    def test_location_leads_to_the_job(self, client: Client) -> None:
        """`Location` is the address of the job."""
        response = client.post("/v1/jobs", json=COUNTER)
        assert response.json()["id"] == client.get(response.headers["location"]).json()["id"]

    def test_wait_answers_200_with_the_finished_job(self, client: Client) -> None:
        """With `Prefer: wait` a job that ends in time is answered finished."""
        response = client.post("/v1/jobs", json=COUNTER, headers={"Prefer": "wait=30"})
        assert 200 == response.status_code
        assert "succeeded" == response.json()["status"]
        assert "wait=30" == response.headers["preference-applied"]
        assert f"/v1/jobs/{response.json()['id']}" == response.headers["location"]
        assert "retry-after" not in response.headers

    def test_wait_that_is_too_short_answers_202(self, held: Client) -> None:
        """With `Prefer: wait` a job that does not end in time is answered as it is, the preference applied."""
        response = held.post("/v1/jobs", json=COUNTER, headers={"Prefer": "wait=1"})
        assert 202 == response.status_code
        assert "running" == response.json()["status"]
        assert "wait=1" == response.headers["preference-applied"]
        assert "1" == response.headers["retry-after"]

    @pytest.mark.parametrize("asked", ["61", "3600", "999999999"])
    def test_wait_is_at_most_a_minute(self, client: Client, asked: str) -> None:
        """A longer wait is cut to 60 seconds, and the answer says so."""
        response = client.post("/v1/jobs", json=COUNTER, headers={"Prefer": f"wait={asked}"})
        assert (200, "wait=60") == (response.status_code, response.headers["preference-applied"])

    def test_longest_wait_is_a_setting(self, make_client: MakeClient, holding: ScriptedExecutor) -> None:
        """`max_wait_s` of 0 answers at once, whatever was preferred."""
        response = make_client(holding, max_wait_s=0).post("/v1/jobs", json=COUNTER, headers={"Prefer": "wait=30"})
        assert (202, "wait=0") == (response.status_code, response.headers["preference-applied"])

    @pytest.mark.parametrize(
        "prefer",
        ["", "wait", "wait=", "wait=soon", "wait=-5", "wait=1.5", "await=5", "respond-async", ";;,=", "wait 5"],
    )
    def test_garbage_in_prefer_is_ignored(self, held: Client, prefer: str) -> None:
        """A preference that cannot be understood is as good as none."""
        response = held.post("/v1/jobs", json=COUNTER, headers={"Prefer": prefer})
        assert 202 == response.status_code
        assert "preference-applied" not in response.headers

    @pytest.mark.parametrize(
        "prefer", ["wait=5", "WAIT=5", 'wait="5"', "respond-async, wait=5", "wait=5; x=1", "wait = 5"]
    )
    def test_prefer_is_read_as_rfc_7240_writes_it(self, client: Client, prefer: str) -> None:
        """`wait` is found among other preferences, quoted or not, in capitals or not."""
        response = client.post("/v1/jobs", json=COUNTER, headers={"Prefer": prefer})
        assert (200, "wait=5") == (response.status_code, response.headers.get("preference-applied"))

    @pytest.mark.parametrize("others", [["respond-async"], ["respond-async", "x=1"]])
    def test_preferences_may_come_in_several_lines(self, client: Client, others: list[str]) -> None:
        """A list that was cut into lines, as proxies may, is one list."""
        headers = [("Prefer", each) for each in [*others, "wait=5"]]
        response = client.post("/v1/jobs", json=COUNTER, headers=headers)
        assert (200, "wait=5") == (response.status_code, response.headers.get("preference-applied"))

    def test_defaults_are_filled_in(self, client: Client) -> None:
        """The answer's request holds every parameter and option, `scenario` first."""
        request = client.run(COUNTER)["request"]
        assert "scenario" == next(iter(request))
        assert {"threads": 4, "lock": True, "label": None, "timeout_s": 60.0}.items() <= request.items()

    def test_executor_gets_what_was_asked_for(self, client: Client, executor: ScriptedExecutor) -> None:
        """The job that runs has the parameters of the body."""
        client.run({**COUNTER, "threads": 3, "lock": False, "timeout_s": 7})
        order = executor.orders[-1]
        assert ("counter", 7.0) == (order.scenario, order.timeout_s)
        assert {"threads": 3, "lock": False}.items() <= order.params.items()
        assert "timeout_s" not in order.params

    def test_ids_sort_by_time(self, client: Client) -> None:
        """Jobs of the same millisecond have ids in the order in which they were posted."""
        ids = [client.submit(COUNTER)["id"] for _ in range(50)]
        assert sorted(ids) == ids

    def test_failure_of_the_scenario_is_told(self, make_client: MakeClient) -> None:
        """A scenario that raised is a failed job with its own traceback, not an error of the service."""
        frames = success()[:2]
        frames += [
            {"type": "error", "error": "ValueError", "message": "bad", "cancelled": False, "traceback": "Trace"},
            {"type": "bye", "ended_ns": 1, "warnings": [], "dropped": 0, "events_dropped": 0, "trace_cost_ns": None},
        ]
        job = make_client(ScriptedExecutor(lambda _: frames)).run(COUNTER)
        assert "failed" == job["status"]
        assert {"type": "ValueError", "message": "bad", "traceback": "Trace"} == job["error"]


class TestIdempotencyKey:
    def test_replays_a_running_job(self, held: Client) -> None:
        """The same key and body give the same job again while it runs."""
        first = held.post("/v1/jobs", json=COUNTER, headers={"Idempotency-Key": "k1"})
        again = held.post("/v1/jobs", json=COUNTER, headers={"Idempotency-Key": "k1"})
        assert first.json()["id"] == again.json()["id"]
        assert 202 == again.status_code
        assert "idempotent-replayed" not in first.headers
        assert "true" == again.headers["idempotent-replayed"]
        assert first.headers["location"] == again.headers["location"]

    def test_replays_a_finished_job(self, client: Client, executor: ScriptedExecutor) -> None:
        """The same key and body give the finished job with 200, and it is not run a second time."""
        first = client.run(COUNTER, **{"Idempotency-Key": "k1"})
        again = client.post("/v1/jobs", json=COUNTER, headers={"Idempotency-Key": "k1"})
        assert (200, first) == (again.status_code, again.json())
        assert "true" == again.headers["idempotent-replayed"]
        assert 1 == len(executor.orders)

    def test_replay_can_wait(self, held: Client, gate: threading.Event) -> None:
        """Who repeats a request may wait for the job of the first one."""
        first = held.submit(COUNTER, **{"Idempotency-Key": "k1"})
        again = held.ask("POST", "/v1/jobs", json=COUNTER, headers={"Idempotency-Key": "k1", "Prefer": "wait=30"})
        gate.set()
        assert (first["id"], "succeeded") == (again.result(30).json()["id"], again.result().json()["status"])

    def test_same_request_written_otherwise_is_the_same(self, client: Client) -> None:
        """A default that is spelled out, and another order of the fields, make no other request."""
        first = client.run({"scenario": "counter", "threads": 2}, **{"Idempotency-Key": "k1"})
        written = {"threads": 2, "label": None, "timeout_s": 60, "scenario": "counter"}
        assert first["id"] == client.run(written, **{"Idempotency-Key": "k1"})["id"]

    def test_other_body_is_a_conflict(self, client: Client) -> None:
        """The same key with another body is refused with 422."""
        client.run(COUNTER, **{"Idempotency-Key": "k1"})
        other = client.post("/v1/jobs", json={**COUNTER, "threads": 2}, headers={"Idempotency-Key": "k1"})
        assert (422, "idempotency-conflict") == problem(other)

    def test_other_key_is_another_job(self, client: Client) -> None:
        """The same body with another key is another job."""
        first, second = (client.run(COUNTER, **{"Idempotency-Key": key}) for key in ("k1", "k2"))
        assert first["id"] != second["id"]

    def test_many_at_once_are_one_job(self, held: Client) -> None:
        """The same request sent many times at once is accepted once."""
        headers = {"Idempotency-Key": "k1"}
        answers = [held.ask("POST", "/v1/jobs", json=COUNTER, headers=headers) for _ in range(20)]
        responses = [answer.result(30) for answer in answers]
        assert {202} == {response.status_code for response in responses}
        assert 1 == len({response.json()["id"] for response in responses})
        assert 1 == sum("idempotent-replayed" not in response.headers for response in responses)
        assert {"queued": 0, "running": 1, "slots": 1} == held.get("/v1/capacity").json()["lanes"]["cpu"]

    def test_replay_takes_no_place_in_the_queue(self, held: Client) -> None:
        """A repeated request leaves the counts of waiting jobs as they were."""
        held.submit(COUNTER)
        for _ in range(3):
            held.submit(COUNTER, **{"Idempotency-Key": "k1"})
        assert {"queued": 1, "running": 1, "slots": 1} == held.get("/v1/capacity").json()["lanes"]["cpu"]

    @pytest.mark.parametrize("key", ["", "with space", "x" * 256, "caf\u00e9", "tab\tbed"])
    def test_key_is_checked(self, client: Client, key: str) -> None:
        """A key is 1 to 255 visible ASCII characters; the problem names the header."""
        response = client.post("/v1/jobs", json=COUNTER, headers={"Idempotency-Key": key.encode()})
        assert (422, "invalid-request") == problem(response)
        assert ["idempotency-key"] == pointers(response)

    def test_key_of_a_deleted_job_is_free(self, client: Client) -> None:
        """With its job, a key is forgotten."""
        first = client.run(COUNTER, **{"Idempotency-Key": "k1"})
        client.delete(f"/v1/jobs/{first['id']}")
        assert first["id"] != client.run({**COUNTER, "threads": 2}, **{"Idempotency-Key": "k1"})["id"]

    def test_works_for_rerun(self, client: Client) -> None:
        """A rerun that is sent again with its key gives the same new job."""
        first = client.run(COUNTER)
        headers = {"Idempotency-Key": "again", "Prefer": "wait=30"}
        second, third = (client.post(f"/v1/jobs/{first['id']}/rerun", headers=headers) for _ in range(2))
        assert second.json()["id"] == third.json()["id"] != first["id"]
        assert "true" == third.headers["idempotent-replayed"]

    def test_rerun_is_another_request_than_the_submission(self, client: Client) -> None:
        """The key of a submission cannot name a rerun of its job: that would give the old job for a new one."""
        first = client.run(COUNTER, **{"Idempotency-Key": "k1"})
        response = client.post(f"/v1/jobs/{first['id']}/rerun", headers={"Idempotency-Key": "k1"})
        assert (422, "idempotency-conflict") == problem(response)


class TestLook:
    def test_gives_the_job_with_an_etag(self, client: Client) -> None:
        """A finished job is answered whole, with an `ETag` and no `Retry-After`."""
        job = client.run(COUNTER)
        response = client.get(f"/v1/jobs/{job['id']}")
        assert (200, job) == (response.status_code, response.json())
        assert response.headers["etag"].startswith('"')
        assert "retry-after" not in response.headers

    def test_unfinished_job_says_when_to_look_again(self, held: Client) -> None:
        """A job on its way has `Retry-After`."""
        job = held.submit(COUNTER)
        assert "1" == held.get(f"/v1/jobs/{job['id']}").headers["retry-after"]

    def test_unchanged_job_is_304(self, client: Client) -> None:
        """Who has the current version gets 304 without a body."""
        path = f"/v1/jobs/{client.run(COUNTER)['id']}"
        etag = client.get(path).headers["etag"]
        response = client.get(path, headers={"If-None-Match": etag})
        assert (304, b"", etag) == (response.status_code, response.content, response.headers["etag"])

    @pytest.mark.parametrize("template", ['"other", {}', "W/{}", '{},"other"', "*"])
    def test_if_none_match_is_read_as_rfc_9110_writes_it(self, client: Client, template: str) -> None:
        """A list of tags, a weak one, and `*` are understood."""
        path = f"/v1/jobs/{client.run(COUNTER)['id']}"
        etag = client.get(path).headers["etag"]
        assert 304 == client.get(path, headers={"If-None-Match": template.format(etag)}).status_code

    def test_changed_job_is_200(self, held: Client, gate: threading.Event) -> None:
        """An `ETag` changes when the job does."""
        path = f"/v1/jobs/{held.submit(COUNTER)['id']}"
        wait_until(lambda: held.get(path).json()["status"] == "running")
        etag = held.get(path).headers["etag"]
        assert 304 == held.get(path, headers={"If-None-Match": etag}).status_code
        gate.set()
        finished = held.get(path, headers={"If-None-Match": etag, "Prefer": "wait=30"})
        assert (200, "succeeded") == (finished.status_code, finished.json()["status"])

    def test_wait_holds_the_answer_until_the_end(self, held: Client, gate: threading.Event) -> None:
        """A long poll is answered with the finished job."""
        path = f"/v1/jobs/{held.submit(COUNTER)['id']}"
        polls = [held.ask("GET", path, headers={"Prefer": "wait=30"}) for _ in range(5)]
        assert "running" == held.get(path, headers={"Prefer": "wait=1"}).json()["status"]
        assert [False] * 5 == [poll.done() for poll in polls]
        gate.set()
        for poll in polls:
            response = poll.result(30)
            assert (200, "succeeded") == (response.status_code, response.json()["status"])
            assert "wait=30" == response.headers["preference-applied"]

    def test_wait_that_is_too_short_gives_the_job_as_it_is(self, held: Client) -> None:
        """A long poll that runs out is answered 200 with the unfinished job."""
        path = f"/v1/jobs/{held.submit(COUNTER)['id']}"
        response = held.get(path, headers={"Prefer": "wait=1"})
        assert (200, "running") == (response.status_code, response.json()["status"])
        assert ("wait=1", "1") == (response.headers["preference-applied"], response.headers["retry-after"])

    def test_wait_for_a_finished_job_is_no_wait(self, client: Client) -> None:
        """A long poll for a finished job is answered at once."""
        path = f"/v1/jobs/{client.run(COUNTER)['id']}"
        assert "succeeded" == client.ask("GET", path, headers={"Prefer": "wait=60"}).result(20).json()["status"]

    def test_unknown_job_is_404(self, client: Client) -> None:
        """A job that never was is a problem that names it."""
        response = client.get(UNKNOWN)
        assert (404, "job-not-found") == problem(response)
        assert "job_01kabcdefghjkmnpqrstvwxyz0" in response.json()["detail"]

    def test_id_that_is_too_long_is_422(self, client: Client) -> None:
        """What cannot be an id is not looked up."""
        response = client.get(f"/v1/jobs/job_{'0' * 100}")
        assert (422, ["job_id"]) == (response.status_code, pointers(response))


class TestList:
    def test_is_empty_at_first(self, client: Client) -> None:
        """Without jobs the list is empty and has no next page."""
        assert {"jobs": [], "next_cursor": None} == client.get("/v1/jobs").json()

    def test_is_newest_first(self, client: Client) -> None:
        """The last job posted is the first listed."""
        ids = [client.run(COUNTER)["id"] for _ in range(3)]
        assert ids[::-1] == [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]

    def test_item_is_the_job_without_its_bulk(self, client: Client) -> None:
        """An item says what was observed, without threads and output."""
        job = client.run(COUNTER)
        (item,) = client.get("/v1/jobs").json()["jobs"]
        left_out = {"links", "python", "machine", "result", "error"}
        expected = {name: value for name, value in job.items() if name not in left_out}
        assert {**expected, "outcome": "done", "grade": "acceptable"} == item

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    def test_pages_lead_to_the_end(self, client: Client, limit: int) -> None:
        """Following `next_cursor` shows every job once, in order, and ends."""
        ids = [client.run(COUNTER)["id"] for _ in range(7)]
        assert ids[::-1] == listed(client, limit=limit)

    def test_new_jobs_do_not_disturb_pages(self, client: Client) -> None:
        """A job posted between two pages shows on neither, and shifts nothing."""
        ids = [client.run(COUNTER)["id"] for _ in range(4)]
        first = client.get("/v1/jobs", params={"limit": 2}).json()
        client.run(COUNTER)
        second = client.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
        assert ids[::-1] == [job["id"] for job in first["jobs"] + second["jobs"]]
        assert second["next_cursor"] is None

    def test_filter_by_scenario(self, client: Client) -> None:
        """`scenario` shows that scenario's jobs only."""
        client.run(COUNTER)
        other = client.run({"scenario": "daemon"})
        assert [other["id"]] == listed(client, scenario="daemon")
        assert [] == listed(client, scenario="nobody")

    def test_filter_by_label(self, client: Client) -> None:
        """`label` shows the jobs with exactly that label."""
        labels = ["a", "b", None, "a b", "a"]
        ids = [client.run({**COUNTER, "label": label})["id"] for label in labels]
        assert [ids[4], ids[0]] == listed(client, label="a")
        assert [ids[3]] == listed(client, label="a b")

    def test_filter_by_several_states(self, make_client: MakeClient, holding: ScriptedExecutor) -> None:
        """`status`, given several times, shows jobs in any of these states."""
        client = make_client(holding)
        running, cancelled, queued = (client.submit(COUNTER)["id"] for _ in range(3))
        client.post(f"/v1/jobs/{cancelled}/cancel")
        wait_until(lambda: client.get(f"/v1/jobs/{running}").json()["status"] == "running")
        assert [running] == listed(client, status="running")
        assert [queued, running] == listed(client, status=["running", "queued"])
        assert [queued, cancelled, running] == listed(client, status=[*JobState])
        assert [] == listed(client, status=["failed", "lost"])

    def test_filters_combine_with_pages(self, client: Client) -> None:
        """A filter holds on every page."""
        bodies = [{**COUNTER, "label": "even" if number % 2 == 0 else "odd"} for number in range(9)]
        ids = [client.run(body)["id"] for body in bodies]
        assert ids[::-2] == listed(client, limit=2, label="even", scenario="counter", status="succeeded")

    @pytest.mark.parametrize(
        "cursor",
        [
            "!!!",
            "x",
            "\u00e9",
            "%00",
            base64.urlsafe_b64encode(b"hello").decode(),
            base64.urlsafe_b64encode(b"\xff\xfe").decode(),
            base64.urlsafe_b64encode(b"job_ nothing of ours").decode(),
            "",
            "A" * 101,
        ],
    )
    def test_cursor_that_is_not_ours_is_422(self, client: Client, cursor: str) -> None:
        """A cursor that the service never gave is refused, not answered with some page."""
        client.run(COUNTER)
        response = client.get("/v1/jobs", params={"cursor": cursor})
        assert (422, "invalid-request") == problem(response)
        assert ["cursor"] == pointers(response)

    @pytest.mark.parametrize(("limit", "nearest"), [("0", 1), ("-3", 1), ("201", 200), ("many", None), ("1.5", None)])
    def test_limit_is_checked(self, client: Client, limit: str, nearest: int | None) -> None:
        """`limit` is 1 to 200; the problem says the nearest valid one where there is one."""
        response = client.get("/v1/jobs", params={"limit": limit})
        (error,) = response.json()["errors"]
        assert (422, "limit", nearest) == (response.status_code, error["parameter"], error.get("nearest"))

    def test_status_is_checked(self, client: Client) -> None:
        """An unknown state is refused with those that there are, and the nearest."""
        response = client.get("/v1/jobs", params={"status": ["queued", "runing"]})
        (error,) = response.json()["errors"]
        assert 422 == response.status_code
        assert ("status", [*JobState], "running") == (error["parameter"], error["allowed"], error["nearest"])

    def test_unknown_names_are_422(self, client: Client) -> None:
        """A misspelled filter is refused: ignoring it would show every job."""
        response = client.get("/v1/jobs", params={"scenaro": "counter"})
        (error,) = response.json()["errors"]
        assert (422, "scenaro", "scenario") == (response.status_code, error["parameter"], error["nearest"])
        assert ["limit", "cursor", "status", "scenario", "label"] == error["allowed"]
        assert "There is no parameter 'scenaro' here. Did you mean 'scenario'?" == error["detail"]

    @pytest.mark.parametrize("name", ["limit", "cursor", "scenario", "label"])
    def test_names_given_twice_are_422(self, client: Client, name: str) -> None:
        """What is no list can be said once: nobody knows which of two values was meant."""
        response = client.get("/v1/jobs", params={name: ["1", "2"], "status": ["queued", "running"]})
        (error,) = response.json()["errors"]
        assert (422, name, f"Give {name} once.") == (response.status_code, error["parameter"], error["detail"])


class TestCancel:
    def test_queued_job_never_runs(self, held: Client, gate: threading.Event, holding: ScriptedExecutor) -> None:
        """A job that waits is cancelled at once and never started."""
        first, second = held.submit(COUNTER), held.submit(COUNTER)
        wait_until(lambda: held.state(first) == "running")
        response = held.post(f"/v1/jobs/{second['id']}/cancel")
        job = response.json()
        assert (200, "cancelled") == (response.status_code, job["status"])
        assert (None, None, 0) == (job["started_at"], job["result"], job["attempt"])
        assert job["finished_at"] is not None
        gate.set()
        wait_until(lambda: held.state(first) == "succeeded")
        assert [first["id"]] == [order.job_id for order in holding.orders]

    def test_running_job_ends(self, held: Client) -> None:
        """A job that runs is cancelled, and the answer is the finished job."""
        job = held.submit(COUNTER)
        wait_until(lambda: held.state(job) == "running")
        response = held.post(f"/v1/jobs/{job['id']}/cancel")
        assert (200, "cancelled") == (response.status_code, response.json()["status"])
        assert response.json() == held.get(f"/v1/jobs/{job['id']}").json()
        assert "retry-after" not in response.headers

    def test_frees_the_lane(self, held: Client) -> None:
        """When a running job was cancelled, the next one starts."""
        first, second = held.submit(COUNTER), held.submit(COUNTER)
        held.post(f"/v1/jobs/{first['id']}/cancel")
        wait_until(lambda: held.state(second) == "running")

    def test_tells_whoever_waits(self, held: Client) -> None:
        """A long poll for a job that is cancelled is answered with the cancelled job."""
        job = held.submit(COUNTER)
        poll = held.ask("GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
        held.post(f"/v1/jobs/{job['id']}/cancel")
        assert "cancelled" == poll.result(30).json()["status"]

    def test_at_once_by_many_ends_it_once(self, held: Client) -> None:
        """Whoever asks for the end of a job while it ends gets the cancelled job, or is told that it has ended."""
        job = held.submit(COUNTER)
        answers = [held.ask("POST", f"/v1/jobs/{job['id']}/cancel") for _ in range(5)]
        statuses = {answer.result(30).status_code for answer in answers}
        assert 200 in statuses <= {200, 409}

    def test_finished_job_is_409(self, client: Client) -> None:
        """A job that has ended cannot be cancelled; the problem tells its story."""
        job = client.run(COUNTER)
        response = client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (409, "illegal-move") == problem(response)
        assert job["id"] in response.json()["detail"]
        assert "succeeded" == client.state(job)

    def test_cancelled_job_is_409(self, held: Client) -> None:
        """A job is cancelled once."""
        job = held.submit(COUNTER)
        held.post(f"/v1/jobs/{job['id']}/cancel")
        assert (409, "illegal-move") == problem(held.post(f"/v1/jobs/{job['id']}/cancel"))

    def test_unknown_job_is_404(self, client: Client) -> None:
        """What never was cannot be cancelled."""
        assert (404, "job-not-found") == problem(client.post(f"{UNKNOWN}/cancel"))


class TestRerun:
    def test_without_changes_runs_the_same(self, client: Client) -> None:
        """Without a body a rerun is a new job with the same request, which names the first one."""
        first = client.run({**COUNTER, "threads": 3, "label": "mine"})
        response = client.post(f"/v1/jobs/{first['id']}/rerun")
        second = response.json()
        assert 202 == response.status_code
        assert f"/v1/jobs/{second['id']}" == response.headers["location"]
        assert second["id"] != first["id"]
        assert (first["id"], first["request"], "mine") == (second["rerun_of"], second["request"], second["label"])

    @pytest.mark.parametrize("body", [b"", b"null", b"{}"])
    def test_empty_body_changes_nothing(self, client: Client, body: bytes) -> None:
        """No body, null and an empty object are no changes."""
        first = client.run({**COUNTER, "threads": 3})
        response = client.post(
            f"/v1/jobs/{first['id']}/rerun", content=body, headers={"Content-Type": "application/json"}
        )
        assert (202, first["request"]) == (response.status_code, response.json()["request"])

    def test_with_changes_runs_the_changed(self, client: Client, executor: ScriptedExecutor) -> None:
        """The fields of the body take the place of the first job's; the first job stays as it was."""
        first = client.run({**COUNTER, "threads": 3})
        changes = {"lock": False, "label": "unlocked"}
        response = client.post(f"/v1/jobs/{first['id']}/rerun", json=changes, headers={"Prefer": "wait=30"})
        assert (200, {**first["request"], **changes}) == (response.status_code, response.json()["request"])
        assert {"threads": 3, "lock": False}.items() <= executor.orders[-1].params.items()
        assert first == client.get(f"/v1/jobs/{first['id']}").json()

    def test_unfinished_job_can_be_rerun(self, held: Client) -> None:
        """A job need not have ended to be run again."""
        first = held.submit(COUNTER)
        assert first["id"] == held.post(f"/v1/jobs/{first['id']}/rerun").json()["rerun_of"]

    def test_rerun_of_a_rerun_names_that(self, client: Client) -> None:
        """`rerun_of` is the job that was asked to run again."""
        first = client.run(COUNTER)
        second = client.post(f"/v1/jobs/{first['id']}/rerun").json()
        assert second["id"] == client.post(f"/v1/jobs/{second['id']}/rerun").json()["rerun_of"]

    def test_of_an_experiment_s_run_is_none_of_its_runs(self, client: Client) -> None:
        """The label by which an experiment finds its jobs stays with them; a rerun may have one of the client's."""
        body = {**COUNTER, "vary": {"threads": [1]}, "repeats": 1}
        experiment = client.post("/v1/experiments", json=body, headers={"Prefer": "wait=30"}).json()
        (run,) = client.get(experiment["links"]["jobs"]).json()["jobs"]
        again = client.post(f"/v1/jobs/{run['id']}/rerun").json()
        assert (run["id"], None, None) == (again["rerun_of"], again["label"], again["request"]["label"])
        assert "mine" == client.post(f"/v1/jobs/{run['id']}/rerun", json={"label": "mine"}).json()["label"]
        assert [run["id"]] == [each["id"] for each in client.get(experiment["links"]["jobs"]).json()["jobs"]]

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"threads": 0}, "#/threads"),
            ({"treads": 2}, "#/treads"),
            ({"scenario": "conter"}, "#/scenario"),
            ({"scenario": "daemon"}, "#/scenario"),
        ],
    )
    def test_bad_changes_are_422(self, client: Client, changes: dict[str, Any], pointer: str) -> None:
        """Changes are checked like a new request, and nothing is run."""
        first = client.run(COUNTER)
        response = client.post(f"/v1/jobs/{first['id']}/rerun", json=changes)
        assert (422, [pointer]) == (response.status_code, pointers(response))
        assert [first["id"]] == listed(client)

    @pytest.mark.parametrize("body", [[1], "lock", 5])
    def test_changes_are_an_object(self, client: Client, body: Any) -> None:
        """Anything but an object is no changes."""
        first = client.run(COUNTER)
        response = client.post(f"/v1/jobs/{first['id']}/rerun", json=body)
        assert (422, ["#"]) == (response.status_code, pointers(response))

    def test_unknown_job_is_404(self, client: Client) -> None:
        """What never was cannot be run again."""
        assert (404, "job-not-found") == problem(client.post(f"{UNKNOWN}/rerun"))


class TestDelete:
    def test_forgets_a_finished_job(self, client: Client) -> None:
        """A deleted job is gone from everywhere."""
        job = client.run(COUNTER)
        response = client.delete(f"/v1/jobs/{job['id']}")
        assert (204, b"") == (response.status_code, response.content)
        path = f"/v1/jobs/{job['id']}"
        assert [] == listed(client)
        for method, url in [("GET", path), ("DELETE", path), ("POST", f"{path}/cancel"), ("POST", f"{path}/rerun")]:
            assert (404, "job-not-found") == problem(client.request(method, url))

    def test_unfinished_job_is_409(self, held: Client) -> None:
        """A job on its way cannot be forgotten, queued or running."""
        running, queued = held.submit(COUNTER), held.submit(COUNTER)
        wait_until(lambda: held.state(running) == "running")
        for job in (running, queued):
            assert (409, "illegal-move") == problem(held.delete(f"/v1/jobs/{job['id']}"))
        assert "queued" == held.state(queued)

    def test_unknown_job_is_404(self, client: Client) -> None:
        """What never was cannot be forgotten."""
        assert (404, "job-not-found") == problem(client.delete(UNKNOWN))


class TestRefusal:
    def test_full_queue_is_503_and_says_when_to_come_back(
        self, make_client: MakeClient, holding: ScriptedExecutor
    ) -> None:
        """When as many jobs wait as may, a post is refused and nothing is remembered of it."""
        client = make_client(holding, max_queued=2, retry_after_s=7)
        running = client.submit(COUNTER)
        wait_until(lambda: client.state(running) == "running")
        waiting = [client.submit(COUNTER), client.submit(COUNTER)]
        response = client.post("/v1/jobs", json=COUNTER)
        assert (503, "queue-full") == problem(response)
        assert "7" == response.headers["retry-after"]
        assert 3 == len(listed(client))
        client.post(f"/v1/jobs/{waiting[0]['id']}/cancel")
        client.submit(COUNTER)

    def test_full_queue_holds_for_reruns_and_links(self, make_client: MakeClient, holding: ScriptedExecutor) -> None:
        """A full queue refuses every way to submit a job."""
        client = make_client(holding, max_queued=1)
        first = client.submit(COUNTER)
        wait_until(lambda: client.state(first) == "running")
        client.submit(COUNTER)
        assert (503, "queue-full") == problem(client.post(f"/v1/jobs/{first['id']}/rerun"))
        assert (503, "queue-full") == problem(client.get("/v1/try/counter"))

    def test_end_of_the_service_is_503(
        self, make_client: MakeClient, holding: ScriptedExecutor, gate: threading.Event
    ) -> None:
        """A service that is shutting down takes no more jobs, and lets those that run end."""
        client = make_client(holding, shutdown_grace_s=60.0)
        job = client.submit(COUNTER)
        poll = client.ask("GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"})
        wait_until(lambda: client.state(job) == "running")
        closing = threading.Thread(target=client.close)
        closing.start()
        try:
            wait_until(lambda: client.post("/v1/jobs", json=COUNTER).status_code == 503)
            assert (503, "shutting-down") == problem(client.post("/v1/jobs", json=COUNTER))
            assert (503, "shutting-down") == problem(client.post(f"/v1/jobs/{job['id']}/rerun"))
        finally:
            gate.set()
            closing.join()
        assert "succeeded" == poll.result(30).json()["status"]

    def test_end_of_the_service_does_not_take_back_what_was_accepted(
        self, make_client: MakeClient, holding: ScriptedExecutor
    ) -> None:
        """Who waits for a job that goes back to the queue is told that it was accepted: it is, and will run."""
        client = make_client(holding)
        running, queued = (
            client.ask("POST", "/v1/jobs", json={**COUNTER, "label": label}, headers={"Prefer": "wait=60"})
            for label in ("runs", "waits")
        )
        wait_until(lambda: client.get("/v1/capacity").json()["lanes"]["cpu"] == {"queued": 1, "running": 1, "slots": 1})
        client.close()
        for answer in (running, queued):
            response = answer.result(30)
            assert (202, "queued") == (response.status_code, response.json().get("status")), response.text
            assert f"/v1/jobs/{response.json()['id']}" == response.headers["location"]


def listed(client: Client, **params: Any) -> list[str]:
    """The ids of all jobs that a query shows, page by page."""
    ids: list[str] = []
    cursor: str | None = None
    for _ in range(100):
        query = {**params, "cursor": cursor} if cursor is not None else params
        page = client.get("/v1/jobs", params=query).json()
        assert len(page["jobs"]) <= params.get("limit", 50)
        ids += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return ids
    raise AssertionError("the pages do not end")
