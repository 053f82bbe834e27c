"""`/v1/experiments`: submit a matrix of jobs, look at what it shows, cancel it, take it along, forget it."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULIDGenerator

from service import app
from service.api.schemas import ExperimentItem, ExperimentList, ExperimentView, Problem
from service.errors import QueueFull
from service.executors.base import Order
from service.executors.scripted import ScriptedExecutor, success
from service.experimenter import Experimenter
from tests.api.client import Client, contract, strict_json
from tests.support import interpreters, wait_until
from tests.system.server import Server

COUNTER = {"scenario": "counter", "vary": {"threads": [1, 2]}, "repeats": 2}
UNKNOWN = "/v1/experiments/exp_01kabcdefghjkmnpqrstvwxyz0"
PATH = "/v1/experiments"

MakeClient = Callable[..., Client]


def problem(response: httpx.Response) -> tuple[int, str]:
    """The status of an answer and the kind of problem that it names."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["type"].rpartition("/")[2]


def submit(client: Client, body: dict[str, Any] = COUNTER, **headers: str) -> dict[str, Any]:
    """Return the accepted experiment that a body asks for."""
    response = client.post(PATH, json=body, headers=headers)
    assert response.status_code in {200, 202}, response.text
    return dict(response.json())


def run(client: Client, body: dict[str, Any] = COUNTER, **headers: str) -> dict[str, Any]:
    """Return the finished experiment that a body asks for."""
    response = client.post(PATH, json=body, headers={"Prefer": "wait=60", **headers})
    assert response.status_code == 200, response.text
    ExperimentView.model_validate_json(response.content)
    return dict(response.json())


def mistakes(client: Client, body: Any) -> list[dict[str, Any]]:
    """The mistakes that the service finds in a body; nothing of it was accepted."""
    response = client.post(PATH, json=body)
    assert 422 == response.status_code, response.text
    Problem.model_validate_json(response.content)
    assert [] == client.get(PATH).json()["experiments"]
    return list(response.json()["errors"])


def mistake(client: Client, body: Any) -> dict[str, Any]:
    """The one mistake that the service finds in a body."""
    (found,) = mistakes(client, body)
    return found


def state(client: Client, experiment: dict[str, Any]) -> str:
    """Where an experiment stands now."""
    return str(client.get(f"{PATH}/{experiment['id']}").json()["status"])


class TestSubmit:
    def test_answers_202_with_where_and_when_to_look(self, held: Client) -> None:
        """An experiment is accepted with its address and with when to look again."""
        response = held.post(PATH, json=COUNTER)
        experiment = response.json()
        assert 202 == response.status_code
        assert re.fullmatch(r"exp_[0-9a-z]{26}", experiment["id"])
        assert f"{PATH}/{experiment['id']}" == response.headers["location"]
        assert "1" == response.headers["retry-after"]
        assert "preference-applied" not in response.headers
        assert experiment["status"] in {"queued", "running"}
        assert experiment["id"] == held.get(response.headers["location"]).json()["id"]

    def test_wait_answers_200_with_the_finished_experiment(self, client: Client) -> None:
        """With `Prefer: wait` an experiment that ends in time is answered finished."""
        response = client.post(PATH, json=COUNTER, headers={"Prefer": "wait=30"})
        assert (200, "wait=30") == (response.status_code, response.headers["preference-applied"])
        assert ("succeeded", {"done": 4, "of": 4}) == (response.json()["status"], response.json()["progress"])
        assert f"{PATH}/{response.json()['id']}" == response.headers["location"]
        assert "retry-after" not in response.headers

    def test_jobs_of_one_millisecond_sort_as_they_were_made(
        self, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job that is posted before or after an experiment stands before or after its runs, by its id."""
        stands_still = functools.partial(ULIDGenerator, clock=lambda: 1_800_000_000_000, randomness=lambda _: bytes(10))
        monkeypatch.setattr(app, "ULIDGenerator", stands_still)
        client = make_client()
        before, _, after = client.run({"scenario": "counter"}), run(client), client.run({"scenario": "counter"})
        ids = [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]
        assert (after["id"], 6, before["id"]) == (ids[0], len(ids), ids[-1])

    def test_wait_that_is_too_short_answers_202(self, held: Client) -> None:
        """An experiment that does not end in time is answered as it is, the preference applied."""
        response = held.post(PATH, json=COUNTER, headers={"Prefer": "wait=1"})
        assert (202, "wait=1", "1") == (
            response.status_code,
            response.headers["preference-applied"],
            response.headers["retry-after"],
        )
        assert "running" == response.json()["status"]

    def test_status_goes_with_the_answer(self, client: Client) -> None:
        """200 is a finished experiment and 202 one that is not, however fast it was."""
        for _ in range(20):
            response = client.post(PATH, json={**COUNTER, "vary": {"threads": [1]}, "repeats": 1})
            expected = 200 if response.json()["status"] == "succeeded" else 202
            assert (expected, expected == 202) == (response.status_code, "retry-after" in response.headers)

    def test_defaults_are_filled_in(self, client: Client) -> None:
        """The answer's request holds what was asked for, each default, and the seed that was drawn."""
        request = run(client, {"scenario": "counter", "vary": {"threads": [1, 2]}})["request"]
        expected = {"scenario": "counter", "vary": {"threads": [1, 2]}, "repeats": 5, "baseline": None, "label": None}
        assert expected.items() <= request.items()
        assert {"lock": True, "iterations": 100_000, "timeout_s": 60.0, "python": None}.items() <= request.items()
        assert "threads" not in request
        assert 0 <= request["seed"] < 2**32
        assert "wall_s" == request["measure"]

    def test_request_of_an_answer_can_be_sent_again(self, client: Client) -> None:
        """What an answer says was asked for is itself a request, for the same experiment."""
        first = run(client, {**COUNTER, "lock": False, "baseline": {"threads": 2}, "label": "mine"})["request"]
        assert first == run(client, first)["request"]

    def test_executor_gets_fixed_and_varied_fields(self, client: Client, executor: ScriptedExecutor) -> None:
        """Each run has the fields that are the same in all cells, and those of its cell."""
        run(client, {**COUNTER, "lock": False, "timeout_s": 7.5})
        assert {(1, False, 7.5), (2, False, 7.5)} == {
            (order.params["threads"], order.params["lock"], order.timeout_s) for order in executor.orders
        }
        assert 4 == len(executor.orders)

    def test_jobs_carry_the_experiment_s_id(self, client: Client) -> None:
        """The jobs are those with the experiment's id for a label, and the rows name them."""
        experiment = run(client, {**COUNTER, "label": "mine"})
        jobs = client.get("/v1/jobs", params={"label": experiment["id"]}).json()["jobs"]
        named = {raw["job_id"] for row in experiment["rows"] for raw in row["raw"]}
        assert ({job["id"] for job in jobs}, "mine") == (named, experiment["label"])
        assert 4 == len(jobs)

    def test_no_other_job_can_have_its_id_for_a_label(self, client: Client) -> None:
        """A label that begins as an experiment's id does is refused, and the document says so."""
        response = client.post("/v1/jobs", json={"scenario": "counter", "label": "exp_mine"})
        (error,) = response.json()["errors"]
        assert (422, "#/label", "^(?!exp_)") == (response.status_code, error["pointer"], error["allowed"]["pattern"])
        assert "The labels of an experiment's jobs begin with exp_. Choose another one." == error["detail"]
        label = client.get("/openapi.json").json()["components"]["schemas"]["CounterJob"]["properties"]["label"]
        assert "It may not begin with `exp_`" in label["description"]
        assert "experience" == client.run({"scenario": "counter", "label": "experience"})["label"]

    def test_zipped_fields_vary_together(self, client: Client, executor: ScriptedExecutor) -> None:
        """Fields with commas between them take their values side by side."""
        vary = {"threads,iterations": [[1, 8], [8, 1]], "lock": [True, False]}
        experiment = run(client, {"scenario": "counter", "vary": vary, "repeats": 1})
        assert [
            {"threads": 1, "iterations": 8, "lock": True},
            {"threads": 1, "iterations": 8, "lock": False},
            {"threads": 8, "iterations": 1, "lock": True},
            {"threads": 8, "iterations": 1, "lock": False},
        ] == [row["values"] for row in experiment["rows"]]
        ran = {(order.params["threads"], order.params["iterations"]) for order in executor.orders}
        assert {(1, 8), (8, 1)} == ran

    def test_nested_values_can_be_varied(self, client: Client) -> None:
        """Whole programs can be compared, although JSON's objects become others in a scenario."""
        programs = [[{"target": "compute", "args": [10]}], [{"target": "sleep", "args": [0.01]}]]
        experiment = run(client, {"scenario": "custom", "vary": {"program": programs}, "repeats": 1})
        assert ("succeeded", programs) == (
            experiment["status"],
            [row["values"]["program"] for row in experiment["rows"]],
        )

    def test_baseline_is_compared_with(self, make_client: MakeClient) -> None:
        """Each cell is compared with the one that has the baseline's values and is the same otherwise."""
        client = make_client(ScriptedExecutor(lambda order: success(wall_s=order.params["threads"] / 10)))
        vary = {"threads": [1, 2, 4], "lock": [True, False]}
        experiment = run(client, {"scenario": "counter", "vary": vary, "repeats": 2, "baseline": {"threads": 2}})
        assert {"threads": 2} == experiment["baseline"]
        assert [2, 3, 2, 3, 2, 3] == [row["baseline"] for row in experiment["rows"]]
        assert [2.0, 2.0, 1.0, 1.0, 0.5, 0.5] == [row["speedup"] for row in experiment["rows"]]

    def test_measure_is_chosen(self, make_client: MakeClient) -> None:
        """What is compared is the measure of the request; by default it is the scenario's first."""
        client = make_client(ScriptedExecutor(lambda order: success(cpu_s=float(order.params["threads"]))))
        experiment = run(client, {**COUNTER, "measure": "cpu_s"})
        expected = {"name": "cpu_s", "better": "lower", "grows_with": ["threads", "iterations"]}
        assert expected == experiment["measure"]
        assert [1.0, 2.0] == [row["median"] for row in experiment["rows"]]
        assert experiment["verdict"]["best"] == 0

    def test_unequal_work_is_told(self, make_client: MakeClient) -> None:
        """Threads that each add as often as one alone are not compared as if they shared one's work."""
        client = make_client(ScriptedExecutor(lambda order: success(wall_s=order.params["threads"] / 10)))
        experiment = run(client, COUNTER)
        assert (False, [1.0, 2.0]) == (
            experiment["verdict"]["same_work"],
            [row["relative_work"] for row in experiment["rows"]],
        )
        remedy = next(each["remedy"] for each in experiment["warnings"] if "work grows with threads" in each["text"])
        assert 'vary "threads,iterations" together' in remedy
        assert "compare per_addition_s" in remedy

    def test_work_that_is_shared_is_compared(self, make_client: MakeClient) -> None:
        """Of fields that vary together so that the work stays the same, the verdict says which is fastest."""
        client = make_client(ScriptedExecutor(lambda order: success(wall_s=order.params["iterations"] / 1000)))
        vary = {"threads,iterations": [[1, 200], [2, 100]]}
        experiment = run(client, {"scenario": "counter", "vary": vary, "repeats": 7})
        assert (True, 1.0) == (experiment["verdict"]["same_work"], experiment["rows"][1]["efficiency"])
        assert experiment["verdict"]["text"].startswith("Fastest is threads 2, iterations 100")

    def test_seed_fixes_the_order(self, client: Client, executor: ScriptedExecutor) -> None:
        """The same seed gives the same order of runs, and it is told."""
        body = {"scenario": "counter", "vary": {"threads": [1, 2, 3, 4, 5]}, "repeats": 3, "seed": 42}
        assert 42 == run(client, body)["request"]["seed"]
        run(client, body)
        order = [each.params["threads"] for each in executor.orders]
        assert order[:15] == order[15:]
        assert order[:5] != [1, 2, 3, 4, 5] or order[5:10] != [1, 2, 3, 4, 5]

    def test_full_queue_is_503(self, make_client: MakeClient, holding: ScriptedExecutor) -> None:
        """As many experiments wait as may; the next is told when to come again."""
        client = make_client(holding, max_queued_experiments=1)
        running = submit(client)
        wait_until(lambda: state(client, running) == "running")
        submit(client)
        response = client.post(PATH, json=COUNTER)
        assert (503, "queue-full") == problem(response)
        assert "1" == response.headers["retry-after"]
        assert "1 experiments" in response.json()["detail"]

    def test_queue_full_tells_the_experimenter_s_wait(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """`Retry-After` of a refusal is what the refusal says."""

        def refuse(*_: object) -> None:
            raise QueueFull(3, 9, "experiments")

        monkeypatch.setattr(Experimenter, "submit", refuse)
        assert "9" == client.post(PATH, json=COUNTER).headers["retry-after"]


class TestIdempotencyKey:
    def test_replays_an_experiment(self, client: Client, executor: ScriptedExecutor) -> None:
        """The same key and body give the same experiment again, and nothing is run a second time."""
        first = run(client, **{"Idempotency-Key": "k1"})
        again = client.post(PATH, json=COUNTER, headers={"Idempotency-Key": "k1"})
        assert (200, first) == (again.status_code, again.json())
        assert "true" == again.headers["idempotent-replayed"]
        assert 4 == len(executor.orders)

    def test_replay_can_wait(self, held: Client, gate: threading.Event) -> None:
        """Who repeats a request may wait for the experiment of the first one."""
        first = held.post(PATH, json=COUNTER, headers={"Idempotency-Key": "k1"})
        assert "idempotent-replayed" not in first.headers
        again = held.ask("POST", PATH, json=COUNTER, headers={"Idempotency-Key": "k1", "Prefer": "wait=30"})
        gate.set()
        assert (first.json()["id"], "succeeded") == (again.result(30).json()["id"], again.result().json()["status"])

    def test_same_request_written_otherwise_is_the_same(self, client: Client) -> None:
        """A default that is spelled out, and another order of the fields, make no other request."""
        body = {**COUNTER, "lock": False, "iterations": 7}
        first = run(client, body, **{"Idempotency-Key": "k1"})
        written = {"iterations": 7, "lock": False, "timeout_s": 60, "seed": None, "measure": "wall_s", **COUNTER}
        assert first["id"] == run(client, written, **{"Idempotency-Key": "k1"})["id"]

    def test_other_body_is_a_conflict(self, client: Client) -> None:
        """The same key with another body is refused with 422; the order of varied values counts."""
        run(client, **{"Idempotency-Key": "k1"})
        changes: list[dict[str, Any]] = [
            {"repeats": 3},
            {"seed": 1},
            {"lock": False},
            {"label": "other"},
            {"measure": "cpu_s"},
            {"baseline": {"threads": 2}},
            {"vary": {"threads": [2, 1]}},
            {"vary": {"threads": [1, 2], "lock": [True]}},
        ]
        for change in changes:
            other = client.post(PATH, json={**COUNTER, **change}, headers={"Idempotency-Key": "k1"})
            assert (422, "idempotency-conflict") == problem(other), change

    def test_other_order_of_varied_fields_is_a_conflict(self, client: Client) -> None:
        """The order of the varied fields is that of the cells, of which the first is the baseline."""
        one, other = {"threads": [1, 2], "lock": [True]}, {"lock": [True], "threads": [1, 2]}
        run(client, {**COUNTER, "vary": one}, **{"Idempotency-Key": "k1"})
        response = client.post(PATH, json={**COUNTER, "vary": other}, headers={"Idempotency-Key": "k1"})
        assert (422, "idempotency-conflict") == problem(response)

    def test_key_of_a_job_is_free(self, client: Client) -> None:
        """Jobs and experiments have keys of their own."""
        client.run({"scenario": "counter"}, **{"Idempotency-Key": "k1"})
        assert "succeeded" == run(client, **{"Idempotency-Key": "k1"})["status"]

    def test_many_at_once_are_one_experiment(self, held: Client) -> None:
        """The same request sent many times at once is accepted once."""
        asked = [held.ask("POST", PATH, json=COUNTER, headers={"Idempotency-Key": "k1"}) for _ in range(10)]
        responses = [each.result(30) for each in asked]
        assert {202} == {response.status_code for response in responses}
        assert 1 == len({response.json()["id"] for response in responses})
        assert 1 == sum("idempotent-replayed" not in response.headers for response in responses)

    def test_key_is_checked(self, client: Client) -> None:
        """A key is visible ASCII: those of an experiment's own jobs cannot be guessed by a client."""
        response = client.post(PATH, json=COUNTER, headers={"Idempotency-Key": "exp_1 0 0"})
        assert (422, "invalid-request") == problem(response)


class TestLook:
    def test_unfinished_experiment_says_when_to_look_again(self, held: Client, gate: threading.Event) -> None:
        """`Retry-After` is there while it runs, and gone when it has ended; one may wait for that."""
        path = f"{PATH}/{submit(held)['id']}"
        assert "1" == held.get(path).headers["retry-after"]
        waited = held.ask("GET", path, headers={"Prefer": "wait=30"})
        gate.set()
        response = waited.result(30)
        assert ("succeeded", "wait=30") == (response.json()["status"], response.headers["preference-applied"])
        assert "retry-after" not in response.headers

    def test_unchanged_experiment_is_304(self, client: Client) -> None:
        """Who has the current version gets 304 without a body."""
        path = f"{PATH}/{run(client)['id']}"
        etag = client.get(path).headers["etag"]
        for tags in (etag, f'"other", W/{etag}', "*"):
            response = client.get(path, headers={"If-None-Match": tags})
            assert (304, b"", etag) == (response.status_code, response.content, response.headers["etag"])
        assert 200 == client.get(path, headers={"If-None-Match": '"other"'}).status_code

    def test_etag_changes_with_every_run(self, make_client: MakeClient) -> None:
        """A run more is another version, and so is the end."""
        step = threading.Semaphore(0)

        def script(_: Order) -> Any:
            step.acquire(timeout=20)
            return success()

        client = make_client(ScriptedExecutor(script))
        path = f"{PATH}/{submit(client)['id']}"
        tags = []
        for done in range(4):
            wait_until(lambda done=done: client.get(path).json()["progress"]["done"] == done)
            tags.append(client.get(path).headers["etag"])
            assert 304 == client.get(path, headers={"If-None-Match": tags[-1]}).status_code
            step.release()
        tags.append(client.get(path, headers={"Prefer": "wait=30"}).headers["etag"])
        assert 5 == len(set(tags))

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", UNKNOWN), ("POST", f"{UNKNOWN}/cancel"), ("DELETE", UNKNOWN), ("GET", f"{UNKNOWN}/table.csv")],
    )
    def test_unknown_experiment_is_404(self, client: Client, method: str, path: str) -> None:
        """What is not there is told by name."""
        response = client.request(method, path)
        assert (404, "experiment-not-found") == problem(response)
        assert UNKNOWN.rpartition("/")[2] in response.json()["detail"]

    def test_id_of_a_job_is_no_experiment(self, client: Client) -> None:
        """Jobs are found under their own address only."""
        job = client.run({"scenario": "counter"})
        assert (404, "experiment-not-found") == problem(client.get(f"{PATH}/{job['id']}"))


class TestList:
    def test_label_finds_it_again(self, client: Client) -> None:
        """Experiments are found by the label that they were given, as jobs are."""
        labels = ["mine", "other", "mine"]
        first, _, last = [submit(client, {**COUNTER, "label": label})["id"] for label in labels]

        def found(**query: Any) -> list[str]:
            return [each["id"] for each in client.get(PATH, params={"label": "mine", **query}).json()["experiments"]]

        assert [last, first] == found()
        cursor = client.get(PATH, params={"label": "mine", "limit": 1}).json()["next_cursor"]
        assert [first] == found(cursor=cursor)
        assert [] == found(label="none")

    def test_is_newest_first_and_has_no_rows(self, client: Client) -> None:
        """A list holds the heads of experiments, the newest first."""
        experiments = [run(client, {**COUNTER, "label": f"number {number}"}) for number in range(3)]
        response = client.get(PATH)
        found = ExperimentList.model_validate_json(response.content)
        assert [each["id"] for each in reversed(experiments)] == [each.id for each in found.experiments]
        heads = [{name: each[name] for name in ExperimentItem.model_fields} for each in reversed(experiments)]
        assert (heads, None) == (response.json()["experiments"], found.next_cursor)

    def test_pages_can_be_turned(self, client: Client) -> None:
        """The cursor leads from page to page until nothing is left."""
        ids = [run(client)["id"] for _ in range(5)]
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while True:
            page = client.get(PATH, params=params).json()
            seen += [each["id"] for each in page["experiments"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert list(reversed(ids)) == seen

    @pytest.mark.parametrize(
        ("query", "parameter"),
        [
            ("cursor=nonsense", "cursor"),
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("state=x", "state"),
            ("label=a&label=b", "label"),
        ],
    )
    def test_queries_are_checked(self, client: Client, query: str, parameter: str) -> None:
        """What cannot be asked for is named."""
        response = client.get(f"{PATH}?{query}")
        assert (422, "invalid-request") == problem(response)
        assert [parameter] == [error["parameter"] for error in response.json()["errors"]]


class TestCancel:
    def test_running_experiment(self, held: Client) -> None:
        """A running experiment is cancelled with its run; what it says of itself stays."""
        experiment = submit(held)
        wait_until(lambda: state(held, experiment) == "running")
        wait_until(lambda: held.get("/v1/jobs", params={"status": "running"}).json()["jobs"])
        response = held.post(f"{PATH}/{experiment['id']}/cancel")
        view = ExperimentView.model_validate_json(response.content)
        assert (200, "cancelled", 0) == (response.status_code, view.status, view.progress.done)
        jobs = held.get("/v1/jobs", params={"label": experiment["id"]}).json()["jobs"]
        assert ["cancelled"] == [job["status"] for job in jobs]

    def test_queued_experiment(self, held: Client) -> None:
        """An experiment that waits for its turn is cancelled before any run."""
        submit(held)
        experiment = submit(held)
        view = ExperimentView.model_validate_json(held.post(f"{PATH}/{experiment['id']}/cancel").content)
        assert ("cancelled", None) == (view.status, view.started_at)
        assert [] == held.get("/v1/jobs", params={"label": experiment["id"]}).json()["jobs"]

    def test_finished_experiment_is_409(self, client: Client) -> None:
        """What has ended cannot be cancelled; the problem says how it ended."""
        response = client.post(f"{PATH}/{run(client)['id']}/cancel")
        assert (409, "illegal-experiment-move") == problem(response)
        assert "succeeded" in response.json()["detail"]


class TestDelete:
    def test_forgets_a_finished_experiment(self, client: Client) -> None:
        """It is gone from everywhere; its jobs stay."""
        experiment = run(client)
        response = client.delete(f"{PATH}/{experiment['id']}")
        assert (204, b"") == (response.status_code, response.content)
        assert 404 == client.get(f"{PATH}/{experiment['id']}").status_code
        assert [] == client.get(PATH).json()["experiments"]
        assert 4 == len(client.get("/v1/jobs", params={"label": experiment["id"]}).json()["jobs"])

    def test_unfinished_experiment_is_409(self, held: Client) -> None:
        """An experiment that runs or waits must be cancelled first."""
        for experiment in (submit(held), submit(held)):
            response = held.delete(f"{PATH}/{experiment['id']}")
            assert (409, "illegal-experiment-move") == problem(response)
            assert "cancel" in response.json()["detail"]


class TestTable:
    def test_is_csv_with_a_line_for_each_cell(self, make_client: MakeClient) -> None:
        """The rows as RFC 4180: a header, lines that end with CRLF, and a file name."""
        client = make_client(ScriptedExecutor(lambda order: success("a,b", wall_s=float(order.params["threads"]))))
        experiment = run(client, {**COUNTER, "vary": {"threads": [1, 2], "lock": [True, False]}})
        response = client.get(f"{PATH}/{experiment['id']}/table.csv")
        assert "text/csv; charset=utf-8; header=present" == response.headers["content-type"]
        assert f'attachment; filename="{experiment["id"]}.csv"' == response.headers["content-disposition"]
        assert 5 == response.text.count("\r\n") == response.text.count("\n")
        rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
        assert [("1", "true"), ("1", "false"), ("2", "true"), ("2", "false")] == [
            (row["threads"], row["lock"]) for row in rows
        ]
        assert ["1.0", "1.0", "2.0", "2.0"] == [row["median"] for row in rows]
        assert {"a,b:2"} == {row["outcomes"] for row in rows}
        assert {"n", "median", "speedup", "significant", "outcomes"} <= rows[0].keys()

    def test_is_there_before_the_first_run(self, held: Client) -> None:
        """A table of an experiment that has shown nothing has its lines already."""
        text = held.get(f"{PATH}/{submit(held)['id']}/table.csv").text
        assert ["1", "2"] == [row["threads"] for row in csv.DictReader(io.StringIO(text, newline=""))]


MISTAKES: list[tuple[dict[str, Any], str]] = [  # what is changed in `COUNTER`, and where that is told
    ({"vary": {"threads": [1, 0]}}, "#/vary/threads/1"),
    ({"vary": {"threads": [1, "2"]}}, "#/vary/threads/1"),
    ({"vary": {"threads": [1, True]}}, "#/vary/threads/1"),
    ({"vary": {"lock": [False, 0]}}, "#/vary/lock/1"),
    ({"vary": {"threads": [1, 2, 1]}}, "#/vary/threads/2"),
    ({"vary": {"threads": []}}, "#/vary/threads"),
    ({"vary": {"threads": 4}}, "#/vary/threads"),
    ({"vary": {"treads": [1, 2]}}, "#/vary/treads"),
    ({"vary": {"a/b c~d": [1, 2]}}, "#/vary/a~1b%20c~0d"),
    ({"vary": {"threads,iterations": [[1, 10], [-1, 10]]}}, "#/vary/threads,iterations/1/0"),
    ({"vary": {"threads,iterations": [[1, 10], [1, -1]]}}, "#/vary/threads,iterations/1/1"),
    ({"vary": {"threads,iterations": [[1, 10], [1]]}}, "#/vary/threads,iterations/1"),
    ({"vary": {"threads, iterations": [[1, 10], [1, -1]]}}, "#/vary/threads,%20iterations/1/1"),
    ({"vary": {"threads,treads": [[1, 10], [2, 10]]}}, "#/vary/threads,treads"),
    ({"vary": {"threads,": [[1, 10]]}}, "#/vary/threads,"),
    ({"vary": {"threads": [1], "threads,lock": [[2, True]]}}, "#/vary/threads,lock"),
    ({"vary": {"label": ["a", "b"]}}, "#/vary/label"),
    ({"vary": {"scenario": ["counter", "daemon"]}}, "#/vary/scenario"),
    ({"vary": {"threads": list(range(1, 30)), "iterations": list(range(1, 30))}}, "#/vary"),
    ({"vary": {name: list(range(100)) for name in "abcdefgh"}}, "#/vary"),
    ({"vary": {}}, "#/vary"),
    ({"vary": [1, 2]}, "#/vary"),
    ({"vary": None}, "#/vary"),
    ({"threads": 3}, "#/threads"),
    ({"lok": False}, "#/lok"),
    ({"lock": "no"}, "#/lock"),
    ({"iterations": -1}, "#/iterations"),
    ({"timeout_s": 0}, "#/timeout_s"),
    ({"gil": "maybe"}, "#/gil"),
    ({"repeats": 0}, "#/repeats"),
    ({"repeats": 101}, "#/repeats"),
    ({"repeats": "5"}, "#/repeats"),
    ({"seed": -1}, "#/seed"),
    ({"seed": 2**32}, "#/seed"),
    ({"label": ""}, "#/label"),
    ({"measure": "speed"}, "#/measure"),
    ({"baseline": {"threads": 3}}, "#/baseline/threads"),
    ({"baseline": {"threads": True}}, "#/baseline/threads"),
    ({"baseline": {"lock": True}}, "#/baseline/lock"),
    ({"baseline": {}}, "#/baseline"),
    ({"scenario": "conter"}, "#/scenario"),
    ({"scenario": 5}, "#/scenario"),
]


class TestMistakes:
    """Each mistake is told where it stands."""

    def test_is_told_where_it_stands(self, client: Client) -> None:
        """One mistake is one error, with its exact pointer and a text."""
        found = [(change, mistake(client, {**COUNTER, **change})) for change, _ in MISTAKES]
        assert MISTAKES == [(change, error["pointer"]) for change, error in found]
        assert [] == [change for change, error in found if not error["detail"]]

    def test_the_sentence_says_where_too(self, client: Client) -> None:
        """Whoever reads `detail` alone knows where to look, whichever kind of problem it is."""
        for change, pointer in MISTAKES:
            content = client.post(PATH, json={**COUNTER, **change}).json()
            assert content["detail"].startswith(f"{pointer}: "), (change, content["detail"])
            assert content["errors"][0]["detail"] in content["detail"]
        content = client.post(PATH, json={**COUNTER, "python": "9.9"}).json()
        assert content["detail"].startswith("#/python: "), content["detail"]

    def test_what_is_never_varied_is_not_offered(self, client: Client) -> None:
        """An unknown field that is varied is told what can be; scenario and label cannot."""
        found = mistake(client, {**COUNTER, "vary": {"labl": ["a", "b"]}})
        assert {"threads", "lock", "python", "timeout_s"} <= set(found["allowed"])
        assert not {"scenario", "label"} & set(found["allowed"])
        assert "Did you mean" not in found["detail"]
        assert {"scenario", "label"} <= set(mistake(client, {**COUNTER, "labl": "a"})["allowed"])

    @pytest.mark.parametrize("name", ["scenario", "vary"])
    def test_required_field(self, client: Client, name: str) -> None:
        """What has no default must be there."""
        body = {key: value for key, value in COUNTER.items() if key != name}
        assert f"#/{name}" == mistake(client, body)["pointer"]

    @pytest.mark.parametrize("body", [[], "counter", 5, None])
    def test_body_that_is_no_object(self, client: Client, body: Any) -> None:
        """A body is an object; the whole of it is the mistake."""
        assert "#" == mistake(client, body)["pointer"]

    def test_unknown_field_has_a_nearest(self, client: Client) -> None:
        """A slip of the pen is told with what was meant, fixed or varied."""
        for change in ({"lok": False}, {"vary": {"lok": [True, False]}}):
            found = mistake(client, {**COUNTER, **change})
            assert "lock" == found["nearest"]
            assert "lock" in found["allowed"]
            assert "Did you mean 'lock'?" in found["detail"]

    def test_limits_are_told(self, client: Client) -> None:
        """A number beyond its limits comes with them and the nearest one within."""
        found = mistake(client, {**COUNTER, "vary": {"threads": [1, 1000]}})
        assert 256 == found["nearest"] == found["allowed"]["maximum"]
        found = mistake(client, {**COUNTER, "repeats": 1000})
        assert {"maximum": 100} == found["allowed"]

    def test_each_mistake_once(self, client: Client) -> None:
        """Mistakes of several values are all told, each once, however many cells have them."""
        vary = {"threads": [0, 1, -1], "lock": [True, "no"], "iterations": [1, 2, 3]}
        found = mistakes(client, {"scenario": "counter", "vary": vary, "timeout_s": -1})
        expected = ["#/timeout_s", "#/vary/lock/1", "#/vary/threads/0", "#/vary/threads/2"]
        assert expected == sorted(each["pointer"] for each in found)

    def test_fields_that_do_not_go_together(self, client: Client) -> None:
        """A rule of the scenario about several fields is told once, about the body as a whole."""
        vary = {"extra_release": ["before", "inside"]}
        found = mistake(client, {"scenario": "semaphore", "lock": False, "vary": vary})
        assert ("#", True) == (found["pointer"], "there is no semaphore to release" in found["detail"])

    def test_values_that_exclude_each_other_are_not_covered(self, client: Client) -> None:
        """Of a product, the cells that a scenario's own rule refuses are left out with that reason; the rest is run."""
        vary = {"lock": [True, False], "extra_release": ["no", "inside"]}
        experiment = run(client, {"scenario": "semaphore", "vary": vary})
        (left_out,) = experiment["not_covered"]
        assert {"lock": False, "extra_release": "inside"} == left_out["values"]
        assert "lock" in left_out["reason"]
        assert {"done": 15, "of": 15} == experiment["progress"]

    def test_names_are_listed(self, client: Client) -> None:
        """What can be said instead is there for scenario, measure, and baseline."""
        assert "counter" in mistake(client, {**COUNTER, "scenario": "conter"})["allowed"]
        assert "wall_s" in mistake(client, {**COUNTER, "measure": "speed"})["allowed"]
        assert [1, 2] == mistake(client, {**COUNTER, "baseline": {"threads": 3}})["allowed"]
        assert ["threads"] == mistake(client, {**COUNTER, "baseline": {"lock": True}})["allowed"]

    def test_limits_are_settings(self, make_client: MakeClient) -> None:
        """How many cells and repeats may be is for the operator to say, and stands in the document."""
        client = make_client(max_cells=3, max_repeats=4)
        found = mistake(client, {**COUNTER, "vary": {"threads": [1, 2, 3, 4]}})
        assert ("#/vary", True) == (found["pointer"], "4 cells; 3 can be" in found["detail"])
        assert {"maximum": 4} == mistake(client, {**COUNTER, "repeats": 5})["allowed"]
        schema = client.app.openapi()["components"]["schemas"]["ExperimentRequest"]["properties"]
        assert 4 == schema["repeats"]["maximum"]
        assert "3 cells" in schema["vary"]["description"]
        limits = client.get("/v1/capacity").json()["limits"]
        assert (3, 4) == (limits["max_cells"], limits["max_repeats"])

    def test_not_sent_as_json(self, client: Client) -> None:
        """What `curl -d` sends is 415."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (415, "not-json") == problem(client.post(PATH, content=json.dumps(COUNTER), headers=headers))


class TestInterpreters:
    """The scripted executor has 3.11 and no other."""

    def test_fixed_one_that_is_not_installed(self, client: Client) -> None:
        """An interpreter for all cells that is not there is a mistake; those that are there are listed."""
        found = mistake(client, {**COUNTER, "python": "9.9"})
        assert ("#/python", ["3.11"]) == (found["pointer"], found["allowed"])

    def test_varied_one_that_is_not_installed(self, client: Client, executor: ScriptedExecutor) -> None:
        """What is not there is left out, listed with its reason and named in the verdict; the rest is run."""
        experiment = run(client, {"scenario": "counter", "vary": {"python": ["3.11", "9.9"], "threads": [1, 2]}})
        assert [{"values": {"python": "9.9"}, "reason": "not installed"}] == experiment["not_covered"]
        assert "9.9" in experiment["verdict"]["text"]
        assert {"done": 10, "of": 10} == experiment["progress"]
        assert [5, 5, 0, 0] == [row["runs"] for row in experiment["rows"]]
        assert {"3.11"} == {order.python for order in executor.orders}

    def test_all_that_are_varied_are_not_installed(self, client: Client) -> None:
        """When nothing of it can be run, that is a mistake of the list."""
        for key, values in (("python", ["9.9", "9.8"]), ("python,threads", [["9.9", 1], ["9.8", 2]])):
            found = mistake(client, {"scenario": "counter", "vary": {key: values}})
            assert (f"#/vary/{key}", ["3.11"]) == (found["pointer"], found["allowed"])

    def test_varied_with_others(self, client: Client) -> None:
        """Of fields that vary together only the interpreter is named."""
        experiment = run(client, {"scenario": "counter", "vary": {"python,threads": [["3.11", 1], ["9.9", 2]]}})
        assert [{"python": "9.9"}] == [each["values"] for each in experiment["not_covered"]]


class TestStates:
    """Every answer has the shape of the models, and is nothing but JSON, whatever became of the experiment."""

    def view(self, client: Client, experiment: dict[str, Any]) -> ExperimentView:
        """The experiment as it is now, checked."""
        response = client.get(f"{PATH}/{experiment['id']}")
        strict_json(response.content)
        return ExperimentView.model_validate_json(response.content)

    def test_queued_and_running_without_a_run(self, held: Client) -> None:
        """Rows are there for each cell before anything was run."""
        running, queued = submit(held), submit(held)
        wait_until(lambda: state(held, running) == "running")
        for experiment, status in ((running, "running"), (queued, "queued")):
            view = self.view(held, experiment)
            assert (status, 0, 4) == (view.status, view.progress.done, view.progress.of)
            assert [(0, None), (0, None)] == [(row.runs, row.median) for row in view.rows]
            assert view.verdict.text.startswith("So far (0 of 4 runs)")
            assert (None, None) == (view.finished_at, view.error)
        assert self.view(held, queued).started_at is None

    def test_running_with_partial_rows(self, make_client: MakeClient, gate: threading.Event) -> None:
        """While it runs, the rows are of what is there."""
        seen = 3

        def script(_: Order) -> Any:
            if len(executor.orders) == seen:
                gate.clear()
            return success()

        executor = ScriptedExecutor(script, gate)
        gate.set()
        client = make_client(executor)
        experiment = submit(client, {**COUNTER, "repeats": 5, "seed": 1})
        wait_until(lambda: self.view(client, experiment).progress.done == seen)
        view = self.view(client, experiment)
        assert ("running", seen) == (view.status, sum(row.n for row in view.rows))
        assert [0.001] * 2 == [row.median for row in view.rows]

    @pytest.mark.parametrize("repeats", [1, 2, 7])
    def test_succeeded(self, make_client: MakeClient, repeats: int) -> None:
        """With few runs or many, equal values or not, the statistics are null or numbers."""
        numbers = iter(range(10_000))
        for script in (lambda _: success(), lambda _: success(wall_s=next(numbers) / 7)):
            client = make_client(ScriptedExecutor(script))
            view = ExperimentView.model_validate(run(client, {**COUNTER, "repeats": repeats}))
            assert ("succeeded", 2 * repeats) == (view.status, sum(row.n for row in view.rows))

    @pytest.mark.parametrize(
        "value", [0, -1.5, 10**400, -(10**400), "text", None, True, [1], 1e300], ids=lambda value: str(value)[:8]
    )
    def test_odd_values(self, make_client: MakeClient, value: Any) -> None:
        """Whatever number a scenario returns, the answer is JSON."""
        client = make_client(ScriptedExecutor(lambda _: success(wall_s=value)))
        experiment = run(client)
        strict_json(client.get(f"{PATH}/{experiment['id']}").content)
        assert "succeeded" == experiment["status"]

    def test_failed_jobs(self, make_client: MakeClient) -> None:
        """An experiment whose jobs all failed has succeeded in showing that."""
        frames = success()[:2]
        frames += [
            {"type": "error", "error": "ValueError", "message": "bad", "cancelled": False, "traceback": "Trace"},
            {"type": "bye", "ended_ns": 1, "warnings": [], "dropped": 0, "events_dropped": 0, "trace_cost_ns": None},
        ]
        experiment = run(make_client(ScriptedExecutor(lambda _: frames)))
        assert "succeeded" == experiment["status"]
        assert [{"failed": 2}] * 2 == [row["statuses"] for row in experiment["rows"]]
        assert any("bad" in warning["text"] for warning in experiment["warnings"])

    def test_failed(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """An experiment that could not go on says why, and nothing of our insides."""

        def broken(*_: object) -> None:
            raise RuntimeError("the secret")

        monkeypatch.setattr(Experimenter, "_run", broken)
        experiment = run(client)
        assert ("failed", "InternalError") == (experiment["status"], experiment["error"]["type"])
        assert "secret" not in json.dumps(experiment)
        assert 200 == client.get(f"{PATH}/{experiment['id']}/table.csv").status_code

    def test_cancelled_in_the_middle(self, make_client: MakeClient, gate: threading.Event) -> None:
        """What was seen before the end is in the rows."""

        def script(_: Order) -> Any:
            if len(executor.orders) == 2:
                gate.clear()
            return success()

        executor = ScriptedExecutor(script, gate)
        gate.set()
        client = make_client(executor)
        experiment = submit(client)
        wait_until(lambda: len(executor.orders) == 3)
        response = client.post(f"{PATH}/{experiment['id']}/cancel")
        view = ExperimentView.model_validate_json(response.content)
        assert ("cancelled", 2, 4) == (view.status, view.progress.done, view.progress.of)
        assert not view.verdict.text.startswith("So far")


class TestReal:
    """With the real executor."""

    def ask(self, server: Server, body: dict[str, Any], wait_s: int = 60) -> bytes:
        """The answer to a submission."""
        response = server.ask("POST", PATH, json=body, headers={"Prefer": f"wait={wait_s}"})
        assert response.status_code in {200, 202}, response.text
        contract().validate({"$ref": "#/components/schemas/ExperimentView"}, strict_json(response.content))
        return response.content

    def test_succeeded(self, live_server: Server) -> None:
        """Real runs give real numbers, in the shape of the models."""
        body = {"scenario": "counter", "vary": {"threads": [1, 2], "lock": [True, False]}, "iterations": 200}
        view = ExperimentView.model_validate_json(self.ask(live_server, {**body, "repeats": 3}))
        assert ("succeeded", 12) == (view.status, view.progress.done)
        assert [3] * 4 == [row.n for row in view.rows]
        assert all(row.median is not None and row.median > 0 for row in view.rows)
        assert all(row.python for row in view.rows)
        assert view.verdict.text

    def test_two_interpreters(self, live_server: Server) -> None:
        """Each run says which version made it; one that is not installed is told."""
        found = [each.selector for each in interpreters()][:2]
        body = {"scenario": "counter", "vary": {"python": [*found, "3.1"]}, "iterations": 200, "repeats": 2}
        view = ExperimentView.model_validate_json(self.ask(live_server, body))
        assert [{"python": "3.1"}] == [each.values for each in view.not_covered]
        assert [2] * len(found) + [0] == [row.n for row in view.rows]
        assert len(found) == len({row.python for row in view.rows if row.python})

    def test_nested_values(self, live_server: Server) -> None:
        """Programs are run as they are written in the cells."""
        programs = [[{"target": "compute", "args": [10]}], [{"target": "sleep", "args": [0.01], "name": "Napper"}]]
        body = {"scenario": "custom", "vary": {"program": programs}, "repeats": 1}
        view = ExperimentView.model_validate_json(self.ask(live_server, body))
        assert ("succeeded", [1, 1]) == (view.status, [row.n for row in view.rows])

    def test_deadlines(self, live_server: Server) -> None:
        """Jobs that are ended at their deadline are runs without a value."""
        body = {"scenario": "daemon", "main_s": 30.0, "vary": {"timeout_s": [0.1, 0.05]}, "repeats": 1}
        view = ExperimentView.model_validate_json(self.ask(live_server, body))
        assert [{"timed_out": 1}] * 2 == [row.statuses for row in view.rows]
        assert [{"stuck"}] * 2 == [set(row.outcomes) for row in view.rows]
        assert [0, 0] == [row.n for row in view.rows]

    def test_cancelled(self, live_server: Server) -> None:
        """A running experiment's child is gone when its cancel is answered."""
        body = {"scenario": "daemon", "vary": {"main_s": [30.0, 31.0]}, "timeout_s": 60}
        experiment = strict_json(self.ask(live_server, body, wait_s=0))
        wait_until(live_server.children)
        response = live_server.ask("POST", f"{PATH}/{experiment['id']}/cancel")
        assert "cancelled" == ExperimentView.model_validate_json(response.content).status
        assert [] == live_server.children()


class TestDocument:
    def test_request_is_described(self, client: Client) -> None:
        """Each field of a request has its text and its limits; others are the job's."""
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        request = schemas["ExperimentRequest"]
        names = {"scenario", "vary", "repeats", "seed", "baseline", "measure", "label"}
        assert names == set(request["properties"])
        assert (["scenario", "vary"], True) == (request["required"], request["additionalProperties"])
        assert all(request["properties"][name].get("description") for name in names - {"scenario"})
        assert (1, 100) == (request["properties"]["repeats"]["minimum"], request["properties"]["repeats"]["maximum"])
        assert request["properties"]["vary"]["examples"]

    def test_examples_can_be_posted_as_they_stand(self, client: Client) -> None:
        """There are a small one and a zipped one at least, with a line on each, and all are accepted."""
        content = client.get("/openapi.json").json()["paths"][PATH]["post"]["requestBody"]["content"]
        examples = content["application/json"]["examples"].values()
        for example in examples:
            assert submit(client, example["value"])["id"]
            assert example["summary"]
        assert any("," in field for example in examples for field in example["value"]["vary"])

    def test_answers_are_named(self, client: Client) -> None:
        """Each call answers with a named model, the table as CSV, and each error that it can meet."""
        paths = client.get("/openapi.json").json()["paths"]
        one = f"{PATH}/{{experiment_id}}"
        for path, method, status in (
            (PATH, "post", "200"),
            (PATH, "post", "202"),
            (one, "get", "200"),
            (f"{one}/cancel", "post", "200"),
        ):
            answer = paths[path][method]["responses"][status]["content"]["application/json"]["schema"]
            assert {"$ref": "#/components/schemas/ExperimentView"} == answer
        found = paths[PATH]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert {"$ref": "#/components/schemas/ExperimentList"} == found
        assert ["text/csv"] == list(paths[f"{one}/table.csv"]["get"]["responses"]["200"]["content"])
        assert {"404", "409"} <= paths[one]["delete"]["responses"].keys() & paths[f"{one}/cancel"]["post"][
            "responses"
        ].keys()


# Whatever is sent.

_FIELDS = st.sampled_from(
    ["threads", "lock", "python", "gil", "label", "scenario", "lok", "threads,lock", "timeout_s", ""]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | _FIELDS, inner, max_size=3),
    max_leaves=5,
)
_LISTS = st.lists(_VALUES | st.integers(1, 3) | st.booleans(), max_size=3)
_NEARLY = st.fixed_dictionaries(
    {"scenario": st.sampled_from(["counter", "counter", "custom", "x"]), "repeats": st.sampled_from([1, 1, 0, None])},
    optional={
        "vary": _VALUES | st.dictionaries(_FIELDS | st.text(max_size=3), _LISTS, max_size=3),
        "baseline": _VALUES | st.dictionaries(_FIELDS, _VALUES, max_size=2),
        "measure": _VALUES,
        "seed": _VALUES,
        "label": _VALUES,
        "threads": _VALUES,
        "python": _VALUES,
        "lok": _VALUES,
    },
)


def test_no_body_is_a_fault(make_client: MakeClient) -> None:
    """Whatever is posted is accepted or told where it is wrong, with pointers into what was sent."""
    client = make_client(max_queued_experiments=100_000)

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(body=_NEARLY | _VALUES)
    def post(body: Any) -> None:
        text = json.dumps(body)
        response = client.post(PATH, content=text, headers={"Content-Type": "application/json"})
        assert response.status_code in {200, 202, 422}, (response.status_code, text)
        strict_json(response.content)
        for error in response.json().get("errors") or ():
            assert error["pointer"].startswith("#"), (error, text)

    post()
