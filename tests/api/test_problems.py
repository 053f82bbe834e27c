"""One shape for every error: problem+json, a `type` that opens, a request id, and the way to a valid request."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, cast
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service import errors, logs
from service.api.access import JobAccess
from service.api.problem_types import BY_ERROR, BY_STATUS
from service.api.schemas import Problem
from service.app import create_app
from service.catalog import Catalog
from service.executors.base import Cancel, Order, Sink
from service.executors.scripted import ScriptedExecutor
from service.jobs import Job, Report
from service.runner import Runner
from service.settings import Settings
from service.stores.memory import MemoryStore
from tests.api.client import Client, contract, strict_json
from tests.support import wait_until

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

MakeClient = Callable[..., Client]


def check_shape(client: Client, response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check what every problem has, and return it."""
    assert "application/problem+json" == response.headers["content-type"], response.text
    content = strict_json(response.content)
    contract().validate({"$ref": "#/components/schemas/Problem"}, content)
    assert not set(content) - set(Problem.model_fields)
    assert status == response.status_code == content["status"]
    assert f"http://threadlab.localhost/problems/{kind}" == content["type"]
    assert content["title"]
    assert content["detail"]
    assert response.headers["x-request-id"] == content["request_id"]
    assert "Traceback" not in response.text
    page = client.get(content["type"])
    assert 200 == page.status_code
    assert "text/html" in page.headers["content-type"]
    return dict(content)


def invalid(client: Client, body: Any) -> list[dict[str, Any]]:
    """The mistakes that the service finds in a body."""
    response = client.post("/v1/jobs", json=body)
    found: list[dict[str, Any]] = check_shape(client, response, 422, "invalid-request")["errors"]
    return found


def mistake(client: Client, body: Any) -> dict[str, Any]:
    """The one mistake that the service finds in a body."""
    (found,) = invalid(client, body)
    return found


class TestShape:
    def test_unknown_address(self, client: Client) -> None:
        """An address that is none is 404."""
        check_shape(client, client.get("/v2/jobs"), 404, "not-found")

    def test_unknown_problem_page(self, client: Client) -> None:
        """A page of a problem that is none is a problem, too."""
        check_shape(client, client.get("/problems/nothing"), 404, "not-found")

    def test_unknown_asset(self, client: Client) -> None:
        """A missing file of the pages is 404, and so is one outside their folder."""
        check_shape(client, client.get("/assets/nothing.js"), 404, "not-found")
        check_shape(client, client.get("/assets/..%2f__init__.py"), 404, "not-found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/v1/jobs", {"GET", "HEAD", "POST"}),
            ("PATCH", "/v1/jobs/job_1", {"GET", "HEAD", "DELETE"}),
            ("GET", "/v1/jobs/job_1/cancel", {"POST"}),
            ("POST", "/healthz", {"GET", "HEAD"}),
        ],
    )
    def test_wrong_method(self, client: Client, method: str, path: str, allowed: set[str]) -> None:
        """A method that an address does not have is 405, and `Allow` names those that it has."""
        response = client.request(method, path)
        check_shape(client, response, 405, "method-not-allowed")
        assert allowed == set(re.split(r",\s*", response.headers["allow"]))

    def test_every_address_names_its_methods(self, client: Client) -> None:
        """`Allow` names the methods of the document, and HEAD where GET starts no job; no document is made for that."""
        document = create_app(Settings(database_url="memory:"), ScriptedExecutor()).openapi()
        for path, operations in document["paths"].items():
            expected = {method.upper() for method in operations}
            if "GET" in expected and not path.startswith(("/v1/try/", "/v1/atomicity")):
                expected.add("HEAD")
            response = client.request("TRACE", re.sub(r"\{[^}]+\}", "x", path))
            assert (405, expected) == (response.status_code, set(response.headers["allow"].split(", "))), path
        assert client.app.openapi_schema is None

    @pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/assets/icon.svg"])
    def test_pages_and_files_can_be_read_only(self, client: Client, path: str) -> None:
        """What stands in no document has GET and HEAD."""
        response = client.post(path)
        assert (405, "GET, HEAD") == (response.status_code, response.headers["allow"])

    def test_body_too_large(self, make_client: MakeClient) -> None:
        """A body beyond the limit is 413."""
        client = make_client(max_body_bytes=2048)
        body = json.dumps({"scenario": "counter", "label": "x" * 3000}).encode()
        check_shape(client, client.post("/v1/jobs", content=body, headers=JSON), 413, "body-too-large")

    def test_body_of_unknown_length_too_large(self, make_client: MakeClient) -> None:
        """A body that is sent in pieces is cut off at the limit."""
        client = make_client(max_body_bytes=2048)

        async def pieces() -> Any:
            for _ in range(100):
                yield b" " * 1000

        check_shape(client, client.post("/v1/jobs", content=pieces(), headers=JSON), 413, "body-too-large")

    def test_largest_body_is_taken(self, make_client: MakeClient) -> None:
        """A body of exactly the limit is read."""
        body = json.dumps({"scenario": "counter"}).encode()
        response = make_client(max_body_bytes=2048).post("/v1/jobs", content=body.ljust(2048), headers=JSON)
        assert 202 == response.status_code

    @pytest.mark.parametrize("headers", [FORM, {"Content-Type": "text/plain"}, {}])
    def test_body_not_sent_as_json(self, client: Client, headers: dict[str, str]) -> None:
        """What `curl -d` sends is 415, and the problem says what to write instead."""
        response = client.post("/v1/jobs", content=b'{"scenario": "counter"}', headers=headers)
        assert "curl --json" in check_shape(client, response, 415, "not-json")["detail"]

    def test_changes_not_sent_as_json(self, client: Client) -> None:
        """A rerun's body is told the same."""
        path = f"/v1/jobs/{client.run({'scenario': 'counter'})['id']}/rerun"
        check_shape(client, client.post(path, content=b'{"lock": true}', headers=FORM), 415, "not-json")

    @pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/vnd.api+json"])
    def test_json_by_another_name_is_taken(self, client: Client, media_type: str) -> None:
        """A character set and a suffix are JSON, too."""
        response = client.post("/v1/jobs", content=b'{"scenario": "counter"}', headers={"Content-Type": media_type})
        assert 202 == response.status_code

    def test_conflict(self, client: Client) -> None:
        """A wish that the job's state does not allow is 409."""
        path = f"/v1/jobs/{client.run({'scenario': 'counter'})['id']}/cancel"
        check_shape(client, client.post(path), 409, "illegal-move")

    def test_unknown_job(self, client: Client) -> None:
        """A job that is not there is 404."""
        check_shape(client, client.get("/v1/jobs/job_1"), 404, "job-not-found")

    def test_unknown_scenario(self, client: Client) -> None:
        """A scenario that is not there is 404, with those that are, and the nearest."""
        content = check_shape(client, client.get("/v1/scenarios/conter"), 404, "scenario-not-found")
        (error,) = content["errors"]
        assert "counter" == error["nearest"]
        assert "counter" in error["allowed"]

    def test_full_queue(self, make_client: MakeClient, holding: ScriptedExecutor) -> None:
        """A full queue is 503."""
        client = make_client(holding, max_queued=1)
        running = client.submit({"scenario": "counter"})
        wait_until(lambda: client.state(running) == "running")
        client.submit({"scenario": "counter"})
        check_shape(client, client.post("/v1/jobs", json={"scenario": "counter"}), 503, "queue-full")

    def test_store_that_fails(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """A database that does not answer is 503."""
        monkeypatch.setattr(MemoryStore, "page", _raising(errors.StoreUnavailable("The disk is full.")))
        check_shape(client, client.get("/v1/jobs"), 503, "store-unavailable")

    def test_store_that_refuses_a_job(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """A job that could not be written is not accepted, whether its client waits or not."""
        monkeypatch.setattr(MemoryStore, "_add", _raising(errors.StoreUnavailable("The disk is full.")))
        for headers in ({}, {"Prefer": "wait=30"}):
            response = client.post("/v1/jobs", json={"scenario": "counter"}, headers=headers)
            check_shape(client, response, 503, "store-unavailable")
        assert {"queued": 0, "running": 0, "slots": 1} == client.get("/v1/capacity").json()["lanes"]["cpu"]

    def test_job_that_ends_before_the_store_has_refused_it(self) -> None:
        """Who waits for its end is not told that there is no such job: what became of its acceptance is."""
        ended: Future[Job] = Future()
        ended.set_exception(errors.JobNotFound("job_1"))
        access = JobAccess(cast("Runner", None), MemoryStore(), max_wait_s=60, retry_after_s=1)
        assert asyncio.run(access.settled(ended, 1)) is None

    def test_fault_of_the_service(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault inside is 500, and nothing of it leaves the service."""
        monkeypatch.setattr(MemoryStore, "page", _raising(RuntimeError("the secret")))
        response = client.get("/v1/jobs", headers={"X-Request-ID": "mine-1"})
        content = check_shape(client, response, 500, "internal-error")
        assert "secret" not in response.text
        assert "mine-1" == content["request_id"]

    def test_fault_of_the_service_is_logged_with_its_request(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, said: list[_Said]
    ) -> None:
        """The log tells of a fault, with its traceback and the id of the request."""
        monkeypatch.setattr(MemoryStore, "page", _raising(RuntimeError("the secret")))
        client.get("/v1/jobs", headers={"X-Request-ID": "mine-2"})
        (told,) = [each for each in said if each.record.exc_info]
        assert "mine-2" == told.request_id
        (line,) = [each.record for each in said if each.record.name == "service.access"]
        assert 500 == line.__dict__["status"]

    def test_broken_executor_is_a_lost_job_without_our_traceback(self, make_client: MakeClient) -> None:
        """A fault while a job runs ends the job, which says no more than where to look."""

        class Broken(ScriptedExecutor):
            def run(self, order: Order, sink: Sink, cancel: Cancel) -> Report:
                raise RuntimeError("the secret")

        job = make_client(Broken()).run({"scenario": "counter"})
        assert ("lost", "InternalError", None) == (job["status"], job["error"]["type"], job["error"]["traceback"])
        assert "secret" not in json.dumps(job)


def _raising(exc: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise exc

    return fail


class _Said:
    """A log record, and the request that was being answered when it was made."""

    def __init__(self, record: logging.LogRecord) -> None:
        self.record = record
        self.request_id = logs.request_id.get()


@pytest.fixture
def said() -> Iterator[list[_Said]]:
    """What is logged during the test."""
    found: list[_Said] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(_Said(record))  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


class TestPages:
    TYPES = (*BY_ERROR.values(), *BY_STATUS.values())

    @pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.slug)
    def test_every_kind_has_a_page(self, client: Client, kind: Any) -> None:
        """The page of a problem says its title, its status and what to do, and is on the list of all."""
        page = client.get(f"/problems/{kind.slug}")
        assert 200 == page.status_code
        assert str(kind.status) in page.text
        assert kind.remedy
        assert f"/problems/{kind.slug}" in client.get("/problems").text

    def test_slugs_are_unique(self) -> None:
        """Two kinds of problems do not share a page."""
        slugs = [kind.slug for kind in self.TYPES]
        assert sorted(set(slugs)) == sorted(slugs)

    def test_every_error_of_ours_has_a_kind(self) -> None:
        """No error of the service's own tree ends as a 500 by oversight."""
        for name in errors.__all__:
            cls = getattr(errors, name)
            leaf = not cls.__subclasses__() and not issubclass(cls, errors.RemoteError)  # raised for clients only
            assert not leaf or any(base in BY_ERROR for base in cls.__mro__), f"{name} has no kind of problem"

    def test_pages_load_nothing_from_elsewhere(self, client: Client) -> None:
        """The pages name no other host."""
        for path in ("/problems", "/problems/queue-full", "/docs", "/redoc"):
            assert [] == re.findall(r"(?:src|href)=[\"'](?:https?:)?//[^\"']*", client.get(path).text)

    def test_pages_assets_open(self, client: Client) -> None:
        """Every file that a page names is there."""
        for path in ("/problems", "/docs", "/redoc"):
            for asset in re.findall(r"(?:src|href)=[\"'](/assets/[^\"']*)", client.get(path).text):
                assert 200 == client.get(asset).status_code, asset


class TestRequestId:
    def test_is_made_for_each_request(self, client: Client) -> None:
        """Two requests have two ids."""
        first, second = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
        assert first != second

    def test_of_the_client_is_kept(self, client: Client) -> None:
        """A sane id of the client's own is used."""
        response = client.get("/nothing", headers={"X-Request-ID": "abc-123_4.5"})
        assert "abc-123_4.5" == response.headers["x-request-id"] == response.json()["request_id"]

    @pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\x1b[31m", "{}"])
    def test_that_is_not_sane_is_replaced(self, client: Client, given: str) -> None:
        """What would be the client's to write into our log is not taken."""
        response = client.get("/healthz", headers={"X-Request-ID": given})
        assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])

    def test_is_in_the_log(self, client: Client, said: list[_Said]) -> None:
        """The line about a request has its id, its status and how long it took."""
        client.get("/v1/jobs/job_1", headers={"X-Request-ID": "mine"})
        (told,) = [each for each in said if each.record.name == "service.access"]
        assert ("mine", "GET /v1/jobs/job_1") == (told.request_id, told.record.getMessage())
        assert 404 == told.record.__dict__["status"]
        assert told.record.__dict__["took_s"] >= 0


class TestNearest:
    def test_scenario(self, client: Client, catalog: Catalog) -> None:
        """A misspelled scenario is answered with the one that was meant."""
        assert {
            "pointer": "#/scenario",
            "detail": "There is no scenario 'conter'. Did you mean 'counter'?",
            "allowed": sorted(catalog.names),
            "nearest": "counter",
        } == mistake(client, {"scenario": "conter"})

    @pytest.mark.parametrize("body", [{}, {"scenario": None}, {"threads": 4}])
    def test_scenario_left_out(self, client: Client, body: dict[str, Any]) -> None:
        """Without a scenario the problem lists those that there are."""
        found = mistake(client, body)
        assert "#/scenario" == found["pointer"]
        assert "counter" in found["allowed"]

    @pytest.mark.parametrize("value", [5, ["counter"], {"a": 1}, True, ""])
    def test_scenario_of_another_type(self, client: Client, value: Any) -> None:
        """Anything but a known name is no scenario."""
        assert "#/scenario" == mistake(client, {"scenario": value})["pointer"]

    def test_number_that_is_too_large(self, client: Client) -> None:
        """A number beyond the limit is answered with the limits and the highest."""
        found = mistake(client, {"scenario": "counter", "threads": 99_999})
        most = found["allowed"]["maximum"]
        assert ("#/threads", most) == (found["pointer"], found["nearest"])
        assert 202 == client.post("/v1/jobs", json={"scenario": "counter", "threads": most}).status_code

    def test_number_that_is_too_small(self, client: Client) -> None:
        """A number below the limit is answered with the lowest."""
        found = mistake(client, {"scenario": "counter", "threads": -1})
        assert (found["allowed"]["minimum"], "#/threads") == (found["nearest"], found["pointer"])

    def test_limit_of_the_service_is_the_limit(self, make_client: MakeClient) -> None:
        """A setting that is lower than the scenario's own limit is the one that counts and is told."""
        client = make_client(max_threads=8)
        found = mistake(client, {"scenario": "counter", "threads": 9})
        assert (8, 8) == (found["nearest"], found["allowed"]["maximum"])

    @pytest.mark.parametrize(
        ("field", "given", "nearest"),
        [
            ("threads", "4", 4),
            ("threads", 2.5, 2),
            ("threads", "many", None),
            ("threads", None, None),
            ("threads", True, 1),
            ("lock", "true", True),
            ("lock", "False", False),
            ("lock", 0, False),
            ("lock", 1, True),
            ("lock", "perhaps", None),
            ("shape", "agmented", "augmented"),
            ("shape", "zzz", None),
            ("timeout_s", "30", 30),
            ("switch_interval_s", "0.5", 0.5),
            ("timeout_s", 1e9, 600),
            ("timeout_s", 0, None),
        ],
    )
    def test_value(self, client: Client, field: str, given: Any, nearest: Any) -> None:
        """A value of the wrong kind is answered with the valid one that it stands for, where there is one."""
        found = mistake(client, {"scenario": "counter", field: given})
        assert (f"#/{field}", nearest) == (found["pointer"], found.get("nearest"))
        assert found["allowed"]

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    @pytest.mark.parametrize("field", ["threads", "timeout_s", "switch_interval_s"])
    def test_number_that_is_none(self, client: Client, field: str, constant: str) -> None:
        """Python's words for numbers that JSON does not have are refused, and never said."""
        body = f'{{"scenario": "counter", "{field}": {constant}}}'
        content = check_shape(client, client.post("/v1/jobs", content=body, headers=JSON), 422, "invalid-request")
        (found,) = content["errors"]
        assert found.get("pointer") in {f"#/{field}", "#"}
        assert math.isfinite(found.get("nearest") or 0)

    def test_field(self, client: Client) -> None:
        """A misspelled field is answered with the one that was meant, and with all there are."""
        found = mistake(client, {"scenario": "counter", "treads": 4})
        assert ("#/treads", "threads") == (found["pointer"], found["nearest"])
        assert {"threads", "lock", "timeout_s", "label"} <= set(found["allowed"])
        assert "Did you mean 'threads'?" in found["detail"]

    def test_field_of_another_scenario(self, client: Client) -> None:
        """A scenario does not take what is another one's."""
        assert "#/ticks_of_another" == mistake(client, {"scenario": "daemon", "ticks_of_another": 4})["pointer"]

    def test_every_mistake_is_told(self, client: Client) -> None:
        """All that is wrong is told at once, and `detail` says it in words."""
        body = {"scenario": "counter", "threads": 0, "lock": "flase", "treads": 1, "label": ""}
        response = client.post("/v1/jobs", json=body)
        content = check_shape(client, response, 422, "invalid-request")
        pointers = {error["pointer"] for error in content["errors"]}
        assert {"#/threads", "#/lock", "#/treads", "#/label"} == pointers
        for pointer in pointers:
            assert pointer in content["detail"]

    @pytest.mark.parametrize("name", ["a/b", "a~b", "~1", "", "ä", "a b", "%41", "#"])
    def test_pointer_is_escaped(self, client: Client, name: str) -> None:
        """A pointer is an RFC 6901 pointer as a URI fragment, whatever the field is called."""
        found = mistake(client, {"scenario": "counter", name: 1})
        assert _steps(found["pointer"]) == [name]

    @pytest.mark.parametrize(("number", "nearest"), [(0, 1), (-1, 1), (513, 512)])
    def test_a_number_of_a_list(self, client: Client, number: int, nearest: int) -> None:
        """A number of a list that is beyond the limits is told by its place, with what it could be."""
        found = mistake(client, {"scenario": "oversubscription", "curve": [2, number]})
        assert ("#/curve/1", nearest) == (found["pointer"], found["nearest"])
        assert {"minimum": 1, "maximum": 512}.items() <= found["allowed"].items()

    def test_within_a_program(self, client: Client) -> None:
        """A mistake in one thread of `custom`'s program is told where it stands."""
        body = {"scenario": "custom", "program": [{"target": "sleep"}, {"target": "slep"}]}
        found = mistake(client, body)
        assert ("#/program/1/target", "sleep") == (found["pointer"], found["nearest"])
        assert "sleep" in (found["allowed"].get("enum") or [])

    def test_field_within_a_program(self, client: Client) -> None:
        """A misspelled member of a program's thread is answered with the one that was meant."""
        found = mistake(client, {"scenario": "custom", "program": [{"target": "sleep", "deamon": True}]})
        assert ("#/program/0/deamon", "daemon") == (found["pointer"], found["nearest"])

    def test_type_within_a_program(self, client: Client) -> None:
        """A value of the wrong type deep in a body has its pointer and its nearest."""
        found = mistake(client, {"scenario": "custom", "program": [{"target": "sleep", "daemon": "true"}]})
        assert ("#/program/0/daemon", True) == (found["pointer"], found["nearest"])

    def test_rule_between_fields(self, client: Client) -> None:
        """What a scenario's own check refuses is 422 in the scenario's words."""
        body = {"scenario": "custom", "program": [{"target": "sleep", "kwargs": {"no_such_argument": 1}}]}
        found = invalid(client, body)
        assert all(error["pointer"].startswith("#") and error["detail"] for error in found)


def _steps(pointer: str) -> list[str]:
    """The steps of an RFC 6901 pointer in its URI fragment form (section 6)."""
    assert re.fullmatch(r"#(/([A-Za-z0-9._~!$&'()*+,;=:@?-]|%[0-9A-F]{2})*)*", pointer), f"no fragment: {pointer}"
    return [unquote(step).replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")[1:]]


class TestBody:
    def test_that_is_not_json_says_where(self, client: Client) -> None:
        """A body that is no JSON is told what was expected and at which character."""
        response = client.post("/v1/jobs", content=b'{"scenario": "counter",}', headers=JSON)
        (found,) = check_shape(client, response, 422, "invalid-request")["errors"]
        assert "#" == found["pointer"]
        assert re.search(r"Not JSON: .*, at character 2[23]\.", found["detail"])

    @pytest.mark.parametrize(
        "body",
        [b"{", b"nonsense", b"[" * 50_000, b"\xff\xfe\xfa", b'"\xff"', b"9" * 5_000, b'{"a":' * 20_000, b"\x00"],
        ids=["open", "word", "deep list", "no text", "no utf-8", "long number", "deep object", "nul"],
    )
    def test_that_cannot_be_read_is_422(self, client: Client, body: bytes) -> None:
        """Whatever cannot be read as JSON is told so in the one shape."""
        response = client.post("/v1/jobs", content=body, headers=JSON)
        check_shape(client, response, 422, "invalid-request")

    def test_left_out_is_422(self, client: Client) -> None:
        """No body is no request."""
        check_shape(client, client.post("/v1/jobs"), 422, "invalid-request")

    @pytest.mark.parametrize("body", [[], [{"scenario": "counter"}], "counter", 5, True])
    def test_that_is_no_object_is_422(self, client: Client, body: Any) -> None:
        """A request is an object."""
        assert mistake(client, body)["pointer"].startswith("#")

    @pytest.mark.parametrize("member", ['"label": "\\ud800"', '"\\ud800": 1', '"shape": "\\udfff"'])
    def test_with_text_that_is_no_unicode_is_422(self, client: Client, member: str) -> None:
        """Half a surrogate pair, which no answer could repeat, is refused."""
        response = client.post("/v1/jobs", content=f'{{"scenario": "counter", {member}}}', headers=JSON)
        check_shape(client, response, 422, "invalid-request")


# What hypothesis sends: anything at all, and what is nearly right.
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["4", "true", "", "sleep", "augmented", 10**30, -1, 0, 1e308, float("nan"), "\ud800"])
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
_PARAMETERS = ["threads", "lock", "daemon", "iterations", "shape", "delay_s", "steps", "name", "program", "join"]
_FIELDS = st.sampled_from([*_PARAMETERS, "timeout_s", "label", "python", "treads"])
_THREADS = st.fixed_dictionaries(
    {"target": st.sampled_from(["sleep", "compute", "print_numbers", "print_letters", "slep"]) | _VALUES},
    optional={"args": _VALUES, "kwargs": _VALUES, "name": _VALUES, "daemon": _VALUES, "deamon": _VALUES},
)
_NEARLY = st.builds(
    lambda scenario, fields: {"scenario": scenario, **fields},
    st.sampled_from(["counter", "custom", "daemon", "interleaving", "named_workers", "conter"]) | _VALUES,
    st.dictionaries(_FIELDS, _VALUES | st.lists(_THREADS, max_size=3), max_size=4),
)


def _properties(function: Any) -> Any:
    return settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])(function)


def test_any_json_is_accepted_or_a_problem(catalog: Catalog) -> None:
    """Whatever JSON is posted: it is accepted, or a problem of the client's; never a fault of ours."""
    with Client(create_app(Settings(database_url="memory:"), ScriptedExecutor(), catalog)) as client:

        @_properties
        @given(_VALUES | _NEARLY)
        @example({"scenario": "counter", "threads": 10**400})
        @example({"scenario": "counter", "__class__": 1, "self": 2})
        @example({"scenario": {}})
        @example({"scenario": "custom", "program": [{"target": "sleep", "args": [None]}]})
        @example({"scenario": "custom", "program": [{"target": "sleep", "kwargs": {"delay_s": []}}]})
        @example({"scenario": "custom", "program": [5]})
        def post(body: Any) -> None:
            response = client.post("/v1/jobs", content=json.dumps(body), headers=JSON)
            if response.status_code != 202:
                content = check_shape(client, response, 422, "invalid-request")
                assert content["errors"]
                for error in content["errors"]:
                    assert error["detail"]
                    assert _stands(body, _steps(error["pointer"])), f"{error} speaks of a place that is none"

        post()


def test_nearest_value_is_a_valid_one(catalog: Catalog) -> None:
    """Whoever takes the nearest value has mended that place."""
    with Client(create_app(Settings(database_url="memory:"), ScriptedExecutor(), catalog)) as client:

        @_properties
        @given(_NEARLY)
        @example({"scenario": "counter", "lock": "1", "threads": "99999", "shape": "yeild", "timeout_s": "1e3"})
        @example({"scenario": "conter"})
        @example({"scenario": "counter", "label": 5})
        def mend(body: dict[str, Any]) -> None:
            response = client.post("/v1/jobs", content=json.dumps(body), headers=JSON)
            if response.status_code == 202:
                return
            for error in strict_json(response.content)["errors"]:
                if error.get("nearest") is None or "has no field" in error["detail"]:
                    continue
                mended = _replaced(json.loads(json.dumps(body)), _steps(error["pointer"]), error["nearest"])
                again = client.post("/v1/jobs", content=json.dumps(mended), headers=JSON)
                if again.status_code != 202:
                    left = {each.get("pointer") for each in strict_json(again.content)["errors"]}
                    assert error["pointer"] not in left, again.text

        mend()


def _stands(value: Any, steps: list[str]) -> bool:
    """Whether a place is there, or could be: a member that an object lacks."""
    for number, step in enumerate(steps, start=1):
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return number == len(steps) and isinstance(value, dict)
    return True


def _replaced(value: Any, steps: list[str], nearest: Any) -> Any:
    """The value with what stands at a place replaced."""
    place = value
    for step in steps[:-1]:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[int(steps[-1]) if isinstance(place, list) else steps[-1]] = nearest
    return value
