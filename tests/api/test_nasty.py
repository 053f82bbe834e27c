"""Whatever a client names something by stays text, in whatever is made of it."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from service import logs
from service.child.wire import PROTOCOL, Frame
from service.executors.base import Order
from service.executors.scripted import ScriptedExecutor, success
from service.experiments import csv_text
from tests.api.client import Client, strict_json
from tests.core.experiment_runs import experiment, of_value
from tests.nasty import NASTY
from tests.support import wait_until

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {
    *("svg", "title", "desc", "style", "defs", "pattern", "g", "rect", "path", "line", "polyline", "polygon"),
    *("circle", "text", "tspan", "clipPath"),
}
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")  # OWASP, CSV Injection
USAGE = {"cpu_ns": 1, "voluntary_switches": 1, "involuntary_switches": 1}
BEGIN = {"daemon": False, "ident": 1, "native_id": 2, "active_threads": 2, "usage": USAGE}
END = {"ident": 1, "usage": USAGE, "core_wait_ns": 1, "locks": None}

MakeClient = Callable[..., Client]


def everywhere(_: Order) -> list[Frame]:
    """The frames of a child whose threads, locks, notes and lines are all called by nasty texts."""
    ready, started, result, bye = success("done", **{name: name for name in NASTY})
    said: list[Frame] = []
    for number, name in enumerate(NASTY, start=1):
        at = number * 1000
        events: list[Any] = [
            [at, name, number, "start", BEGIN],
            [at + 1, name, number, "wait", name],
            [at + 2, name, number, "acquire", name],
            [at + 3, name, number, "note", name],
            [at + 4, name, number, "release", name],
            [at + 900, name, number, "end", END],
        ]
        said += [
            {"type": "events", "events": events},
            {"type": "output", "lines": [[at + 5, name, number, name.replace("\n", " ")]]},
        ]
    result |= {"meaning": NASTY[0], "outcome": NASTY[1]}
    return [{**ready, "protocol": PROTOCOL}, started, *said, result, {**bye, "warnings": NASTY}]


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    """A client of a service whose jobs are full of nasty texts."""
    return make_client(ScriptedExecutor(everywhere))


@pytest.fixture
def path(client: Client) -> str:
    """The address of a finished job."""
    return "/v1/jobs/" + str(client.run({"scenario": "counter", "trace": "locks", "label": NASTY[0]})["id"])


def legal(text: str) -> str:
    """A text as XML can hold it."""
    forbidden = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(forbidden, "\N{REPLACEMENT CHARACTER}", text)


def drawn(response: httpx.Response) -> ET.Element:
    """A picture, of which no text has become a part."""
    picture = ET.fromstring(response.text)
    assert {each.tag.removeprefix(SVG) for each in picture.iter()} <= DRAWN
    for each in picture.iter():
        assert not [name for name in each.attrib if name.startswith("on") or "href" in name]
    return picture


def blocks(stream: str) -> list[dict[str, str]]:
    """The events of a stream, cut where the HTML standard cuts: at CR, LF and both."""
    found: list[dict[str, str]] = [{}]
    for line in re.split("\r\n|\r|\n", stream):
        name, _, value = line.partition(":")
        if not line:
            found.append({})
        elif name:
            assert name not in found[-1], "a field twice: a text has become a line"
            found[-1][name] = value.removeprefix(" ")
    return [each for each in found if each]


def test_in_the_stream_of_events(client: Client, path: str) -> None:
    """A text is within the data of its event and begins no line, whatever line ends it holds."""
    page = client.get(f"{path}/events").json()["events"]
    told = blocks(client.get(f"{path}/events", headers={"Accept": "text/event-stream"}).text)
    assert page == [strict_json(each["data"]) for each in told]
    assert [event["id"] for event in page] == [each["id"] for each in told]
    assert NASTY == [event["text"] for event in page if event["type"] == "note"]
    assert NASTY == [event["lock"] for event in page if event["type"] == "acquire"]
    assert NASTY == [event["thread"] for event in page if event["type"] == "start"]


def test_in_the_picture_of_a_job(client: Client, path: str) -> None:
    """Names and locks are text of the picture."""
    response = client.get(f"{path}/timeline.svg")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    shown = " ".join(filter(None, drawn(response).itertext()))
    for name in NASTY:
        assert re.sub(r"\s+", " ", legal(name))[:10].strip() in re.sub(r"\s+", " ", shown), name


def test_in_the_trace(client: Client, path: str) -> None:
    """Names are values of the trace's JSON."""
    events = strict_json(client.get(f"{path}/trace.json").content)["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert NASTY == names[-len(NASTY) :]
    assert {f"hold {name}" for name in NASTY} <= {event["name"] for event in events}


def test_in_the_answer_and_in_the_output(client: Client, path: str) -> None:
    """The job repeats what it was told, and the output is its lines and no page."""
    result = client.get(path).json()["result"]
    assert NASTY == [row["name"] for row in result["threads"]]
    assert dict(zip(NASTY, NASTY, strict=True)) == result["values"]
    response = client.get(f"{path}/output")
    assert [name.replace("\n", " ") for name in NASTY] == response.text.split("\n")[:-1]
    assert ("text/plain; charset=utf-8", "nosniff") == (
        response.headers["content-type"],
        response.headers["x-content-type-options"],
    )


@pytest.mark.parametrize("name", NASTY)
def test_as_a_label(client: Client, name: str) -> None:
    """A label comes back as it was, can be looked for, and is in no header."""
    response = client.post("/v1/jobs", json={"scenario": "counter", "label": name}, headers={"Prefer": "wait=30"})
    assert name == response.json()["label"]
    (found,) = client.get("/v1/jobs", params={"label": name}).json()["jobs"]
    assert response.json()["id"] == found["id"]
    for part in ("timeline.svg", "trace.json", "events", "output"):
        answer = client.get(f"/v1/jobs/{found['id']}/{part}")
        assert not [value for value in answer.headers.values() if name in value]


def test_in_an_experiment(client: Client) -> None:
    """A value that was varied stays one cell of the table, computes nothing there, and is text in the picture."""
    names = [name for name in NASTY if len(name) <= 50 and not CONTROL.search(name)]  # others are no thread's name
    body = {"scenario": "named_workers", "vary": {"name": names}, "repeats": 1, "measure": "wall_s", "label": NASTY[0]}
    response = client.post("/v1/experiments", json=body, headers={"Prefer": "wait=60"})
    assert 200 == response.status_code, response.text
    path = response.json()["links"]["self"]
    table = client.get(f"{path}/table.csv")
    assert names == [_as_text(row["name"]) for row in csv.DictReader(io.StringIO(table.text, newline=""))]
    assert f'attachment; filename="{response.json()["id"]}.csv"' == table.headers["content-disposition"]
    drawn(client.get(f"{path}/chart.svg"))


@pytest.mark.parametrize("name", NASTY)
def test_in_a_table(name: str) -> None:
    """Any text is one cell and no formula, as a value and as the name of a field; a number stays a number."""
    analysis = experiment({name.replace(",", ";"): [name, -5, "-5"]}, lambda _, repeat: of_value(1.0)(repeat))
    head, *rows = csv.reader(io.StringIO(csv_text(analysis), newline=""))
    assert name.replace(",", ";").strip() == _as_text(head[0]).strip()
    assert [name, "-5", "-5"] == [_as_text(row[0]) for row in rows]


def _as_text(cell: str) -> str:
    """What a cell says to a spreadsheet that takes what begins like a formula for one, unless it is a number."""
    assert not cell.startswith(FORMULA) or re.fullmatch(r"[+-]?[0-9.]+", cell), f"a formula: {cell!r}"
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


@pytest.mark.parametrize("name", NASTY)
def test_in_an_address(client: Client, name: str) -> None:
    """A name of nothing is a problem, which repeats it as text of JSON and redirects nowhere."""
    for url in (f"/v1/jobs/{_quoted(name)}", f"/v1/scenarios/{_quoted(name)}", f"/problems/{_quoted(name)}"):
        response = client.ask("GET", url).result(30)
        assert response.status_code in {404, 405, 422}, url
        assert "application/problem+json" == response.headers["content-type"]
        assert strict_json(response.content)["status"] == response.status_code


def _quoted(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in name.encode())


@pytest.mark.parametrize("name", NASTY)
def test_in_the_log(client: Client, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a client asked for is one line of the log, in both of its formats."""
    with caplog.at_level(logging.INFO, "service.access"):
        client.ask("GET", f"/v1/jobs/{_quoted(name)}").result(30)
        wait_until(lambda: caplog.records)
    (record,) = [each for each in caplog.records if each.name == "service.access"]
    for handler in (logs._text_handler(), logs._json_handler()):
        assert handler.formatter is not None
        line = handler.formatter.format(record)
        assert [line] == line.splitlines()
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line) or line.startswith("{")
    assert f"GET /v1/jobs/{name}" == json.loads(line)["message"]
