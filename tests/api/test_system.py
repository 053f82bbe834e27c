"""What the service says of itself: interpreters, limits, probes, pages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service import app, errors
from service.api.schemas import Capacity, Health, InterpreterList
from service.app import create_app
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from service.stores.memory import MemoryStore
from tests.api.client import Client
from tests.support import wait_until

MakeClient = Callable[..., Client]


class Failing(ScriptedExecutor):
    """An executor that can break down and recover."""

    broken = False

    def start(self) -> None:
        """Fail while broken."""
        if self.broken:
            raise errors.ForkServerDied("The fork server is gone.")


class Ailing(MemoryStore):
    """A store that can fall ill and recover."""

    ailment: Callable[[], object] | None = None

    def probe(self) -> None:
        """Fail as it is told to."""
        if self.ailment is not None:
            self.ailment()


@pytest.fixture
def ailing(monkeypatch: pytest.MonkeyPatch) -> Ailing:
    """The store of whatever service is made after it."""
    store = Ailing()
    monkeypatch.setattr(app, "make_store", lambda *_: store)
    return store


def test_interpreters_are_those_of_the_executor(client: Client) -> None:
    """What can run jobs is listed, with its machine."""
    found = InterpreterList.model_validate_json(client.get("/v1/interpreters").content)
    (python,) = found.interpreters
    assert ("3.11", "3.11.0", "cpython", True) == (python.selector, python.version, python.implementation, python.gil)
    assert python.machine is not None
    assert 2 == python.machine.cpus


class TestCapacity:
    def test_shows_the_lanes(self, held: Client, gate: threading.Event) -> None:
        """Each lane says how many of its jobs wait and run, and how many can."""

        def lanes() -> dict[str, Any]:
            return dict(held.get("/v1/capacity").json()["lanes"])

        idle = {"cpu": {"queued": 0, "running": 0, "slots": 1}, "wait": {"queued": 0, "running": 0, "slots": 1000}}
        assert idle == lanes()
        for _ in range(3):
            held.submit({"scenario": "counter"})
        for _ in range(2):
            held.submit({"scenario": "daemon"})
        busy = {"cpu": {"queued": 2, "running": 1, "slots": 1}, "wait": {"queued": 0, "running": 2, "slots": 1000}}
        wait_until(lambda: lanes() == busy)
        gate.set()
        wait_until(lambda: lanes() == idle)

    def test_shows_the_limits_in_force(self, make_client: MakeClient) -> None:
        """Every limit is there under the name of its setting, with its unit in the name."""
        client = make_client(max_threads=77, try_timeout_s=2.5)
        limits = Capacity.model_validate_json(client.get("/v1/capacity").content).limits
        assert {"max_threads": 77, "try_timeout_s": 2.5}.items() <= limits.items()
        asked = {"max_iterations", "max_timeout_s", "max_wait_s", "max_body_bytes", "max_output_bytes", "max_queued"}
        assert set() == asked - set(limits)
        assert set() == set(limits) - set(Settings.model_fields)

    def test_tells_nothing_of_the_machine_s_secrets(self, make_client: MakeClient) -> None:
        """What is no limit is not shown: no address, no database."""
        limits = make_client().get("/v1/capacity").json()["limits"]
        assert not {"host", "port", "database_url", "log_level"} & set(limits)


class TestProbes:
    def test_health(self, client: Client) -> None:
        """The process answers."""
        assert "ok" == Health.model_validate_json(client.get("/healthz").content).status

    def test_ready(self, client: Client) -> None:
        """Jobs can be taken and run."""
        assert "ready" == Health.model_validate_json(client.get("/readyz").content).status

    def test_not_ready_without_the_store(self, ailing: Ailing, client: Client) -> None:
        """Without a database the service is healthy and not ready, and says which part is unwell, and why."""

        def fail() -> None:
            raise errors.StoreUnavailable("The disk is full.")

        ailing.ailment = fail
        response = client.get("/readyz")
        assert 503 == response.status_code
        problem = response.json()
        assert problem["type"].endswith("/problems/not-ready")
        assert "store: The disk is full." == problem["detail"]
        assert [
            {"name": "store", "ready": False, "reason": "The disk is full."},
            {"name": "executor", "ready": True, "reason": None},
        ] == problem["parts"]
        assert 200 == client.get("/healthz").status_code
        ailing.ailment = None
        assert 200 == client.get("/readyz").status_code

    def test_not_ready_without_the_executor(self, make_client: MakeClient) -> None:
        """Without a way to run jobs the service is healthy and not ready, and ready again when there is one."""
        executor = Failing()
        client = make_client(executor)
        executor.broken = True
        response = client.get("/readyz")
        assert 503 == response.status_code
        assert "executor: The fork server is gone." == response.json()["detail"]
        assert 200 == client.get("/healthz").status_code
        executor.broken = False
        assert 200 == client.get("/readyz").status_code

    def test_every_part_that_is_unwell_is_told(self, ailing: Ailing, make_client: MakeClient) -> None:
        """Two parts are told with a reason each, a fault of ours without a word of what happened inside."""
        executor = Failing()
        client = make_client(executor)
        executor.broken = True

        def fail() -> None:
            raise RuntimeError("a secret of ours")

        ailing.ailment = fail
        problem = client.get("/readyz").json()
        ailment = "It could not be looked at; the service's log says why."
        assert f"store: {ailment} executor: The fork server is gone." == problem["detail"]
        assert [False, False] == [part["ready"] for part in problem["parts"]]

    def test_many_probes_at_once_find_a_well_service_ready(self, client: Client) -> None:
        """Whoever waits for a look that ends is told what it found, though the next probe has begun another."""
        for _ in range(10):
            asked = [client.ask("GET", "/readyz") for _ in range(100)]
            assert [200] * 100 == [each.result(30).status_code for each in asked]

    def test_a_part_that_hangs_holds_up_no_probe(self, ailing: Ailing, client: Client) -> None:
        """While the database hangs every probe is answered, all share one look, and endpoints keep their threads."""
        looks: list[object] = []
        hanging = threading.Event()

        def hang() -> None:
            looks.append(None)
            assert hanging.wait(60)

        ailing.ailment = hang
        asked = [client.ask("GET", "/readyz") for _ in range(100)]
        try:
            answers = [each.result(30) for each in asked]
            assert {503} == {answer.status_code for answer in answers}
            assert {"store: It did not answer within 0.8 s."} == {answer.json()["detail"] for answer in answers}
            assert 200 == client.get("/v1/interpreters").status_code
            assert 1 == len(looks)
        finally:
            ailing.ailment = None
            hanging.set()
        wait_until(lambda: client.get("/readyz").status_code == 200)

    def test_a_part_that_takes_long_to_fail_says_why(self, ailing: Ailing, client: Client) -> None:
        """What a look found after its probe was answered is told by the next probe that is answered too early."""
        lates = [threading.Event(), threading.Event()]
        looks = iter(lates)

        def fail_late() -> None:
            assert next(looks).wait(60)
            raise errors.StoreUnavailable("The file is locked.")

        ailing.ailment = fail_late
        late = "store: It did not answer within 0.8 s."
        try:
            assert late == client.get("/readyz").json()["detail"]
            lates[0].set()
            wait_until(lambda: client.get("/readyz").json()["detail"] == f"{late} The file is locked.")
        finally:
            ailing.ailment = None
            lates[1].set()

    def test_executor_that_cannot_start_stops_the_start(self) -> None:
        """A service that could run nothing does not come up."""
        executor = Failing()
        executor.broken = True
        client = Client(create_app(Settings(database_url="memory:"), executor))
        with pytest.raises(errors.ForkServerDied), client:
            pass


class TestPages:
    def test_front_page_runs_nothing_inline(self, client: Client) -> None:
        """The front page is HTML of our own, leads to the documentation, and allows scripts from files of ours only."""
        response = client.get("/")
        assert (200, "text/html") == (response.status_code, response.headers["content-type"].split(";")[0])
        assert 'href="/docs"' in response.text
        policy = response.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe-inline" not in policy

    @pytest.mark.parametrize("path", ["/docs", "/redoc", "/problems"])
    def test_pages_are_html(self, client: Client, path: str) -> None:
        """The pages for people are HTML."""
        response = client.get(path)
        assert (200, "text/html; charset=utf-8") == (response.status_code, response.headers["content-type"])

    def test_every_answer_has_the_common_headers(self, client: Client) -> None:
        """An id, and no guessing of media types, on every answer."""
        for path in ("/", "/docs", "/healthz", "/v1/jobs", "/assets/icon.svg", "/nothing"):
            headers = client.get(path).headers
            assert headers["x-request-id"], path
            assert "nosniff" == headers["x-content-type-options"], path
