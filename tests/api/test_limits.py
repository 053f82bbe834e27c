"""What is refused of a body or an address, and how: always told where it stands, and never a fault of the service."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.api.bodies import MOST_TOLD
from tests.api.client import contract, strict_json
from tests.system.server import Server

JOBS, EXPERIMENTS, RERUN = "/v1/jobs", "/v1/experiments", "/v1/jobs/{job}/rerun"
JSON = {"Content-Type": "application/json"}


def counter(field: str, value: str) -> bytes:
    """A job whose one field is a text of JSON."""
    return f'{{"scenario": "counter", "{field}": {value}}}'.encode()


def custom(member: str, value: str) -> bytes:
    """A job of one thread, whose one member is a text of JSON."""
    return f'{{"scenario": "custom", "program": [{{"target": "sleep", "{member}": {value}}}]}}'.encode()


def experiment(members: str) -> bytes:
    """An experiment with some more members."""
    return f'{{"scenario": "counter", "vary": {{"threads": [1]}}, {members}}}'.encode()


def nested(levels: int, *, objects: bool = False) -> str:
    """Lists, or objects, in each other."""
    opened, closed = ('{"a":', "}") if objects else ("[", "]")
    return opened * levels + "1" + closed * levels


@pytest.fixture
def client(live_server: Server) -> Iterator[httpx.Client]:
    """A client of a real server, each of whose answers is one that the document promises."""

    def check(response: httpx.Response) -> None:
        response.read()
        contract().check(response)

    with live_server.client() as client:
        client.event_hooks["response"] = [check]
        yield client


@pytest.fixture(scope="module")
def job(live_server: Server) -> str:
    """The id of a finished job."""
    return str(live_server.run({"scenario": "counter", "iterations": 10})["id"])


# Path, body, pointer, and whether the answer can say what is allowed there.
REFUSED: dict[str, tuple[str, bytes, str, bool]] = {
    "NaN": (JOBS, counter("threads", "NaN"), "#/threads", True),
    "Infinity": (JOBS, counter("timeout_s", "Infinity"), "#/timeout_s", True),
    "-Infinity": (JOBS, counter("switch_interval_s", "-Infinity"), "#/switch_interval_s", True),
    "1e400": (JOBS, counter("timeout_s", "1e400"), "#/timeout_s", True),
    "NaN in a list": (JOBS, custom("args", "[NaN]"), "#/program/0", True),
    "1e400 in an object": (JOBS, custom("kwargs", '{"delay_s": 1e400}'), "#/program/0", True),
    "NaN in a matrix": (
        EXPERIMENTS,
        b'{"scenario": "counter", "vary": {"timeout_s": [NaN]}}',
        "#/vary/timeout_s/0",
        True,
    ),
    "-0.0 for a whole number": (JOBS, counter("threads", "-0.0"), "#/threads", True),
    "2**63": (JOBS, counter("threads", str(2**63)), "#/threads", True),
    "4,000 digits": (JOBS, counter("threads", "9" * 4_000), "#/threads", True),
    "4,000 digits in a rerun": (RERUN, b'{"threads": ' + b"9" * 4_000 + b"}", "#/threads", True),
    "4,000 digits in a matrix": (
        EXPERIMENTS,
        b'{"scenario": "counter", "vary": {"threads": [' + b"9" * 4_000 + b"]}}",
        "#/vary/threads/0",
        True,
    ),
    "100,000 digits": (JOBS, counter("threads", "9" * 100_000), "#", False),
    "a fraction": (JOBS, counter("threads", "4.5"), "#/threads", True),
    "a number as text": (JOBS, counter("threads", '"4"'), "#/threads", True),
    "a flag as a number": (JOBS, counter("lock", "1"), "#/lock", True),
    "null": (JOBS, counter("threads", "null"), "#/threads", True),
    "an unknown field": (JOBS, counter("treads", "4"), "#/treads", True),
    "an unknown field in a rerun": (RERUN, b'{"treads": 4}', "#/treads", True),
    "an unknown field in a matrix": (
        EXPERIMENTS,
        b'{"scenario": "counter", "vary": {"treads": [4]}}',
        "#/vary/treads",
        True,
    ),
    "a member twice": (JOBS, b'{"scenario": "counter", "threads": 2, "threads": 3}', "#/threads", False),
    "a member twice within": (
        JOBS,
        custom("kwargs", '{"delay_s": 1, "delay_s": 2}'),
        "#/program/0/kwargs/delay_s",
        False,
    ),
    "a member twice in a rerun": (RERUN, b'{"threads": 2, "threads": 3}', "#/threads", False),
    "a list varied twice": (
        EXPERIMENTS,
        b'{"scenario": "counter", "vary": {"threads": [1], "threads": [2]}}',
        "#/vary/threads",
        False,
    ),
    "half a surrogate pair": (JOBS, counter("label", '"\\ud800"'), "#/label", False),
    "two halves the wrong way round": (JOBS, counter("label", '"\\udc00\\ud800"'), "#/label", False),
    "half a surrogate pair as a name": (JOBS, counter("\\ud800", "1"), "#", False),
    "half a surrogate pair in a baseline": (EXPERIMENTS, experiment('"baseline": {"\\ud800": 1}'), "#/baseline", False),
    "half a surrogate pair in a thread's name": (JOBS, custom("name", '"\\udfff"'), "#/program/0/name", False),
    "NUL": (JOBS, counter("label", '"a\\u0000b"'), "#/label", False),
    "NUL in a rerun": (RERUN, b'{"label": "\\u0000"}', "#/label", False),
    "NUL in an experiment": (EXPERIMENTS, experiment('"label": "\\u0000"'), "#/label", False),
    "NUL itself": (JOBS, counter("label", '"\x00"'), "#", False),
    "no UTF-8": (JOBS, b'{"scenario": "counter", "label": "\xff"}', "#", False),
    "an overlong NUL": (JOBS, b'{"scenario": "counter", "label": "\xc0\x80"}', "#", False),
    "a surrogate as UTF-8": (JOBS, b'{"scenario": "counter", "label": "\xed\xa0\x80"}', "#", False),
    "UTF-16": (JOBS, '{"scenario": "counter"}'.encode("utf-16"), "#", False),
    "a long text": (JOBS, counter("label", json.dumps("x" * 201)), "#/label", True),
    "an empty text": (JOBS, counter("label", '""'), "#/label", True),
    "a long list": (
        JOBS,
        json.dumps({"scenario": "custom", "program": [{"target": "sleep"}] * 600}).encode(),
        "#/program",
        True,
    ),
    "a large matrix": (
        EXPERIMENTS,
        json.dumps({"scenario": "counter", "vary": {"threads": [*range(1, 101)], "iterations": [*range(6)]}}).encode(),
        "#/vary",
        False,
    ),
    "a matrix of many lists": (
        EXPERIMENTS,
        json.dumps({"scenario": "counter", "vary": {f"f{number}": [1, 2] for number in range(10_000)}}).encode(),
        "#/vary",
        True,
    ),
    "an empty list": (EXPERIMENTS, b'{"scenario": "counter", "vary": {"threads": []}}', "#/vary/threads", False),
    "100,000 brackets": (JOBS, b"[" * 100_000, "#", False),
    "20,000 objects": (RERUN, nested(20_000, objects=True).encode(), "#", False),
    "33 levels": (JOBS, counter("label", nested(33)), "#/label" + "/0" * 31, False),
    "500 levels in a rerun": (
        RERUN,
        b'{"label": ' + nested(500, objects=True).encode() + b"}",
        "#/label" + "/a" * 31,
        False,
    ),
    "500 levels in a matrix": (
        EXPERIMENTS,
        b'{"scenario": "counter", "vary": {"threads": [' + nested(500, objects=True).encode() + b"]}}",
        "#/vary/threads/0" + "/a" * 29,
        False,
    ),
    "500 levels in a baseline": (
        EXPERIMENTS,
        experiment(f'"baseline": {{"threads": {nested(500)}}}'),
        "#/baseline/threads" + "/0" * 30,
        False,
    ),
    "half of it": (JOBS, b'{"scenario": "coun', "#", False),
    "two of them": (JOBS, b'{"scenario": "counter"}{}', "#", False),
    "Python's quotes": (JOBS, b"{'scenario': 'counter'}", "#", False),
    "a comment": (JOBS, b'{"scenario": "counter" /* four */}', "#", False),
    "a list": (JOBS, b"[]", "#", False),
    "a list in a rerun": (RERUN, b"[]", "#", False),
    "a list for an experiment": (EXPERIMENTS, b"[]", "#", False),
    "nothing": (JOBS, b"", "#", False),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_its_place(client: httpx.Client, job: str, name: str) -> None:
    """A value that cannot be is 422, with a pointer to it and, where that can be said, what is allowed there."""
    path, body, pointer, allowed = REFUSED[name]
    response = client.post(path.format(job=job), content=body, headers=JSON)
    assert 422 == response.status_code, response.text
    (error,) = strict_json(response.content)["errors"]
    assert pointer == error["pointer"]
    assert allowed == (error.get("allowed") is not None)
    assert error["detail"]
    assert len(response.content) < 10_000


TAKEN: dict[str, bytes] = {
    "-0.0": b'{"scenario": "named_workers", "delay_s": -0.0}',
    "the smallest number": b'{"scenario": "counter", "timeout_s": 5e-324}',
    "less than the smallest number": b'{"scenario": "named_workers", "delay_s": 1e-400}',
    "a whole surrogate pair": counter("label", '"\\ud83d\\ude00"'),
    "the longest label": counter("label", json.dumps("\N{GRINNING FACE}" * 200)),
    "a byte order mark": b'\xef\xbb\xbf{"scenario": "counter"}',
    "text about an escape": counter("label", '"\\\\ud800 \\\\u0000"'),
    "a line separator": counter("label", '"a\\u2028b\\r\\nc"'),
}


@pytest.mark.parametrize("name", TAKEN)
def test_is_taken_and_comes_back(client: httpx.Client, name: str) -> None:
    """What is unusual, but can be, is accepted, and stands in the job as it was sent."""
    sent = json.loads(TAKEN[name].decode("utf-8-sig"))
    response = client.post(JOBS, content=TAKEN[name], headers=JSON)
    assert 202 == response.status_code, response.text
    kept = client.get(response.headers["location"]).json()
    assert sent == {field: kept["request"][field] for field in sent}
    assert kept["label"] == sent.get("label")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "gzip, gzip"}, 415),
        ({"Content-Encoding": "identity"}, 202),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/jsonp"}, 415),
        ({"Content-Type": "application/json; charset=utf-16"}, 202),  # JSON has but one: RFC 8259, section 8.1
    ],
)
@pytest.mark.parametrize("path", [JOBS, RERUN])
def test_way_of_sending(client: httpx.Client, job: str, path: str, headers: dict[str, str], status: int) -> None:
    """A body is sent as JSON and as it is; a compressed one is not unpacked, however it may call itself."""
    body = b'{"scenario": "counter"}'
    for content in (body, gzip.compress(body)) if status == 415 else (body,):
        response = client.post(path.format(job=job), content=content, headers={**JSON, **headers})
        assert status == response.status_code
        assert status != 415 or "application/json" in response.json()["detail"]
    if "Content-Encoding" in headers and status == 415:
        assert "identity" == response.headers["accept-encoding"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"scenario": "counter", **{f"f{number}": 1 for number in range(20_000)}}, "19,980 more"),
        ({"scenario": "custom", "program": [5] * 64}, "program"),
        ({"scenario": "s" * 200_000}, "scenario"),
        ({"scenario": "counter", "shape": "y" * 200_000}, "shape"),
    ],
)
def test_many_or_long_mistakes_are_told_shortly(client: httpx.Client, body: Any, told: str) -> None:
    """Of many mistakes the first are told, and none is repeated at its full length."""
    response = client.post(JOBS, json=body)
    content = strict_json(response.content)
    assert 422 == response.status_code
    assert len(content["errors"]) <= MOST_TOLD
    assert told in content["detail"]
    assert len(response.content) < 50_000


def test_many_mistakes_in_many_cells_cost_little(client: httpx.Client) -> None:
    """An experiment whose every cell is wrong in ten thousand ways is refused as fast as any other."""
    body = {
        "scenario": "counter",
        "vary": {"threads": [*range(1, 200)]},
        **{f"f{number}": 1 for number in range(10_000)},
    }
    begun = time.monotonic()
    assert 422 == client.post(EXPERIMENTS, json=body).status_code
    assert time.monotonic() - begun < 10  # 0.02 s here, and over a minute if every cell is looked at


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/v1/try/counter?threads=" + "[" * 5_000, "threads"),
        ("/v1/try/counter?threads=" + "9" * 5_000, "threads"),
        ("/v1/try/counter?threads=NaN", "threads"),
        ("/v1/try/counter?label=%00", "label"),
        ("/v1/try/counter?timeout_s=1e999", "timeout_s"),
        ("/v1/try/counter?%ff=1", "%EF%BF%BD"),
        ("/v1/jobs?label=%00", "label"),
        ("/v1/jobs?scenario=%00", "scenario"),
        ("/v1/jobs?label=" + "x" * 201, "label"),
        ("/v1/jobs?cursor=%00", "cursor"),
        ("/v1/jobs?limit=" + "9" * 5_000, "limit"),
        ("/v1/jobs?limit=1e1", "limit"),
        ("/v1/jobs/%00", "job_id"),
        ("/v1/jobs/%00/events", "job_id"),
        ("/v1/jobs/" + "x" * 65, "job_id"),
        ("/v1/experiments/%00", "experiment_id"),
        ("/v1/experiments?cursor=x", "cursor"),
    ],
)
def test_part_of_an_address_is_refused_by_its_name(client: httpx.Client, path: str, parameter: str) -> None:
    """What cannot be in an address is 422 and names the parameter."""
    response = client.get(path)
    assert 422 == response.status_code
    assert parameter in {error.get("parameter") for error in response.json()["errors"]}


@pytest.mark.parametrize("path", ["/v1/jobs/%ff", "/v1/jobs/%ed%a0%80", "/v1/scenarios/%00", "/problems/%00", "/%00"])
def test_address_that_nothing_has(client: httpx.Client, path: str) -> None:
    """Bytes that are no text, or no name of anything, lead nowhere."""
    assert 404 == client.get(path).status_code
