"""Watching a job over HTTP: the stream, the page and the output of a real server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import wait_until
from tests.system.server import Server

SLOW = {"scenario": "named_workers", "threads": 2, "delay_s": 30.0}
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started."""
    with Server(tmp_path) as server:
        yield server


def blocks(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The fields of each event of a stream; comments are left out."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def stream(server: Server, job_id: str, after: str | None = None, most: int | None = None) -> list[dict[str, Any]]:
    """Read a stream to its end, or so many events of it."""
    headers = {**STREAM, **({"Last-Event-ID": after} if after else {})}
    found: list[dict[str, Any]] = []
    with server.client() as client, client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert "text/event-stream" in response.headers["content-type"]
        for fields in blocks(response):
            event = json.loads(fields["data"])
            assert (event["id"], event["type"]) == (fields["id"], fields["event"])
            found.append(event)
            if len(found) == most:
                break
    return found


def page(server: Server, job_id: str, **query: str | int) -> dict[str, Any]:
    """A page of events."""
    answer = server.ask("GET", f"/v1/jobs/{job_id}/events", params=query)
    assert 200 == answer.status_code, answer.text
    return dict(answer.json())


def test_the_whole_story(server: Server) -> None:
    """The stream tells states, threads, locks and lines; the page tells the same, and so does every later stream."""
    server.start()
    job = server.run({"scenario": "counter", "threads": 3, "iterations": 5, "lock": True, "trace": "locks"})
    told = stream(server, job["id"])
    kinds = [event["type"] for event in told]
    assert ["state", "state", "started"] == kinds[:3]
    assert (3, 3, 15, 15) == tuple(map(kinds.count, ("start", "end", "acquire", "release")))
    assert kinds.count("output") == len(job["result"]["output"])
    assert ("queued", "running", "succeeded") == tuple(event["status"] for event in told if event["type"] == "state")
    assert (job["result"]["outcome"], job["result"]["meaning"]) == (told[-1]["outcome"], told[-1]["meaning"])
    assert {"events": told, "next_cursor": None} == page(server, job["id"])
    assert [1, 2, 3] == [row["number"] for row in job["result"]["threads"]]
    assert {15} == {sum(row["lock_acquires"] for row in job["result"]["threads"])}
    assert ("locks", 0) == (job["result"]["trace"]["mode"], job["result"]["trace"]["dropped"])
    assert job["result"]["trace"]["cost_s"] > 0


def test_it_is_told_while_it_happens(server: Server) -> None:
    """A watcher sees the threads of a job start while they run, and then its end."""
    server.start()
    job_id = server.submit(SLOW)
    seen = stream(server, job_id, most=5)
    assert ["state", "state", "started", "start"] == [event["type"] for event in seen][:4]
    assert "running" == server.job(job_id)["status"]
    rest: list[dict[str, Any]] = []
    watcher = threading.Thread(target=lambda: rest.extend(stream(server, job_id, after=seen[-1]["id"])))
    watcher.start()
    assert 200 == server.ask("POST", f"/v1/jobs/{job_id}/cancel").status_code
    watcher.join(30)
    assert ("state", "cancelled") == (rest[-1]["type"], rest[-1]["status"])
    assert page(server, job_id)["events"] == seen + rest


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_watcher_goes_on_after_a_restart(server: Server, kill: bool) -> None:
    """Over a restart ids go on growing: nothing comes twice, and what the next attempt tells follows."""
    server.start()
    job_id = server.submit(SLOW)
    before = stream(server, job_id, most=5)
    server.kill() if kill else server.stop()
    server.start()

    def begun_again() -> bool:
        return "started" in {event["type"] for event in page(server, job_id, cursor=before[-1]["id"])["events"]}

    wait_until(begun_again)
    assert 200 == server.ask("POST", f"/v1/jobs/{job_id}/cancel").status_code
    after = stream(server, job_id, after=before[-1]["id"])
    ids = [tuple(map(int, event["id"].split("-"))) for event in before + after]
    assert sorted(set(ids)) == ids
    states = [event["status"] for event in after if event["type"] == "state"]
    assert ["queued", "running", "cancelled"] == states[-3:]
    assert after[-1]["attempt"] in {1, 2}  # a first start less than 50 ms before a kill may not have been written
    answer = server.ask("GET", f"/v1/jobs/{job_id}/events", headers={**STREAM, "Last-Event-ID": after[-1]["id"]})
    assert (204, b"") == (answer.status_code, answer.content)


def test_resuming_anywhere(server: Server) -> None:
    """Whichever event a watcher had last, the stream and the page go on with the next one."""
    server.start()
    job_id = server.run({"scenario": "interleaving", "delay_s": 0.01})["id"]
    whole = page(server, job_id)["events"]
    for number, event in enumerate(whole[:-1]):
        assert whole[number + 1 :] == stream(server, job_id, after=event["id"])
        assert whole[number + 1 :] == page(server, job_id, cursor=event["id"])["events"]
    pages, cursor = [], None
    while True:
        part = page(server, job_id, limit=3, **({"cursor": cursor} if cursor else {}))
        pages += part["events"]
        cursor = part["next_cursor"]
        if cursor is None:
            break
    assert whole == pages


@pytest.mark.parametrize("what", ["events", "output"])
def test_head_of_a_stream_does_not_wait_for_its_end(server: Server, what: str) -> None:
    """The headers of a stream can be had while its job runs, and the connection goes on."""
    server.start()
    job_id = server.submit(SLOW)
    with server.client(timeout_s=20.0) as client:
        for _ in range(2):
            head = client.head(f"/v1/jobs/{job_id}/{what}", headers=STREAM if what == "events" else {})
            assert (200, b"") == (head.status_code, head.content)
            assert ("text/event-stream" if what == "events" else "text/plain") in head.headers["content-type"]
        wait_until(lambda: not server.counted("threadlab_watchers"))
    server.ask("POST", f"/v1/jobs/{job_id}/cancel")


def test_what_is_no_event(server: Server) -> None:
    """An id that is none is a 422 that says so; a job that is none is a 404."""
    server.start()
    job_id = server.run({"scenario": "interleaving", "delay_s": 0.0})["id"]
    bad = server.ask("GET", f"/v1/jobs/{job_id}/events", headers={**STREAM, "Last-Event-ID": "x"})
    assert (422, "Not an event's id") == (bad.status_code, bad.json()["errors"][0]["detail"][:17])
    assert 422 == server.ask("GET", f"/v1/jobs/{job_id}/events", params={"cursor": "1"}).status_code
    for path in ("events", "output"):
        assert 404 == server.ask("GET", f"/v1/jobs/job_none/{path}").status_code


def test_output_comes_line_by_line(server: Server) -> None:
    """The lines of a lesson are there while it runs; after it the same text is there at once."""
    server.start()
    job_id = server.submit({"scenario": "interleaving", "delay_s": 0.5})
    with server.client() as client, client.stream("GET", f"/v1/jobs/{job_id}/output") as response:
        lines = response.iter_lines()
        first = next(lines)
        assert "running" == server.job(job_id)["status"]
        text = [first, *lines]
    job = server.job(job_id, wait_s=20)
    assert [line["line"] for line in job["result"]["output"]] == text
    again = server.ask("GET", f"/v1/jobs/{job_id}/output")
    assert text == again.text.splitlines()
    assert again.headers["content-type"].startswith("text/plain")


def test_a_watcher_who_does_not_read_is_let_go(server: Server) -> None:
    """Who stops reading holds nobody up: the job goes on, and the connection is ended with a reason in the log."""
    server.start(THREADLAB_WATCHER_PATIENCE_S="0.3")
    job_id = server.submit({"scenario": "counter", "threads": 4, "iterations": 20_000, "lock": True, "trace": "locks"})
    place = urlsplit(server.url)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((place.hostname or "", place.port or 0))
        request = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: text/event-stream\r\n\r\n"
        deaf.sendall(request.encode())
        job = server.job(job_id, wait_s=60)
        assert "succeeded" == job["status"]
        assert 20_000 + 2 * 4 == job["result"]["trace"]["events"]
        wait_until(lambda: "a watcher did not read" in server.log)
    assert 20_000 <= len(stream(server, job_id))


def test_pictures_and_links(server: Server) -> None:
    """Every link of a job opens: the picture is SVG that runs nothing, the trace is what Perfetto reads."""
    server.start()
    job = server.run({"scenario": "counter", "threads": 3, "iterations": 50, "lock": True, "trace": "locks"})
    for name, path in job["links"].items():
        assert 200 == server.ask("GET", path).status_code, name
    drawn = server.ask("GET", job["links"]["timeline"])
    assert ("image/svg+xml", True) == (drawn.headers["content-type"], "<title" in drawn.text)
    assert "default-src 'none'" in drawn.headers["content-security-policy"]
    made = server.ask("GET", job["links"]["trace"]).json()["traceEvents"]
    assert {"M", "X", "C"} <= {each["ph"] for each in made}
    for name in ("timeline.svg", "trace.json"):
        assert 404 == server.ask("GET", f"/v1/jobs/job_none/{name}").status_code
