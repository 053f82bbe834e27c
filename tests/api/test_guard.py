"""Who may ask: hosts, sites, and how fast; and what browsers may do with the answers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from service.api.guard import Guard
from service.api.problems import refused
from tests.api.client import Client
from tests.system.server import Server

MakeClient = Callable[..., Client]

FOREIGN = {"Sec-Fetch-Site": "cross-site"}
FOLLOWED = {**FOREIGN, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
PICTURE = {**FOREIGN, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
COUNTER = {"scenario": "counter"}


class TestHost:
    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:8000", "localhost.", "a.localhost:1", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5"],
    )
    def test_own_names_pass(self, client: Client, host: str) -> None:
        """`localhost` and addresses in figures name the service, with a port or without, in any case."""
        assert 200 == client.get("/healthz", headers={"Host": host}).status_code

    @pytest.mark.parametrize(
        "host",
        [
            *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost", "", "::1"),
            *("localhost:x", "<b>.localhost", "a\\.localhost", "a%0d.localhost", "a b.localhost", ".", "..", "[::1"),
        ],
    )
    def test_other_names_are_refused(self, client: Client, host: str) -> None:
        """A name that an attacker lets point here is not ours, and the answer does not repeat it."""
        response = client.get("/healthz", headers={"Host": host})
        assert (421, "/problems/unknown-host") == (response.status_code, response.json()["type"])
        assert 200 == client.get(response.json()["type"]).status_code

    def test_more_names_are_a_setting(self, make_client: MakeClient) -> None:
        """A name that is set passes in any case, and others do not; a star lets all pass."""
        client = make_client(allowed_hosts=("Lab.example",))
        assert 200 == client.get("/healthz", headers={"Host": "lab.EXAMPLE.:80"}).status_code
        assert 421 == client.get("/healthz", headers={"Host": "x.lab.example"}).status_code
        assert 200 == make_client(allowed_hosts=("*",)).get("/healthz", headers={"Host": "x.example"}).status_code


class TestSites:
    @pytest.mark.parametrize(
        "headers",
        [
            FOREIGN,
            FOLLOWED,
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://threadlab.localhost:81"},
        ],
    )
    @pytest.mark.parametrize("call", [("POST", "/v1/jobs"), ("GET", "/v1/try/counter"), ("GET", "/v1/atomicity")])
    def test_no_foreign_page_starts_a_job(self, client: Client, call: tuple[str, str], headers: dict[str, str]) -> None:
        """Neither by a form, nor by a picture, nor by a link."""
        response = client.request(*call, json=COUNTER if call[0] == "POST" else None, headers=headers)
        assert 403 == response.status_code
        assert "paste it into the address bar" in response.json()["detail"]
        assert [] == client.get("/v1/jobs").json()["jobs"]

    @pytest.mark.parametrize(
        "headers",
        [{}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://threadlab.localhost"}],
    )
    def test_people_and_programs_are_not_in_the_way(self, client: Client, headers: dict[str, str]) -> None:
        """Address bars, our own pages, and programs without such headers may do all."""
        assert 200 == client.get("/v1/try/counter", headers=headers).status_code
        assert 202 == client.post("/v1/jobs", json=COUNTER, headers=headers).status_code

    def test_links_and_pictures_work(self, client: Client) -> None:
        """A link from elsewhere opens what starts nothing, another page can show a picture, and no more than that."""
        assert 200 == client.get("/docs", headers=FOLLOWED).status_code
        assert 200 == client.get("/assets/icon.svg", headers=PICTURE).status_code
        assert 403 == client.get("/v1/jobs", headers=PICTURE).status_code
        assert 403 == client.get("/v1/jobs", headers=FOREIGN).status_code

    def test_let_in_by_setting(self, make_client: MakeClient) -> None:
        """A page whose origin is set may ask, and read; another may not, not even by a preflight."""
        client = make_client(cors_origins=("https://course.example",))
        mine = {**FOREIGN, "Origin": "https://course.example"}
        response = client.post("/v1/jobs", json=COUNTER, headers=mine)
        assert (202, mine["Origin"]) == (response.status_code, response.headers["access-control-allow-origin"])
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert 200 == client.request("OPTIONS", "/v1/jobs", headers={**mine, **asks}).status_code
        other = {**FOREIGN, "Origin": "https://evil.example", **asks}
        assert 403 == client.request("OPTIONS", "/v1/jobs", headers=other).status_code

    def test_nobody_is_let_in_by_default(self, client: Client) -> None:
        """No answer names an origin that may read it."""
        assert "access-control-allow-origin" not in client.get("/v1/jobs").headers


class TestHead:
    @pytest.mark.parametrize(
        "path", ["/", "/docs", "/healthz", "/v1/scenarios", "/v1/jobs", "/assets/icon.svg", "/nothing"]
    )
    def test_it_is_answered_like_get_without_a_body(self, client: Client, path: str) -> None:
        """The same status and headers, the length of what GET would have sent included."""
        got, head = client.get(path), client.request("HEAD", path)
        assert got.status_code == head.status_code
        own = {"x-request-id", "date"}
        assert {each: got.headers[each] for each in set(got.headers) - own} == {
            each: head.headers[each] for each in set(head.headers) - own
        }
        assert b"" == head.content

    def test_it_starts_no_job(self, client: Client) -> None:
        """Where a GET would, HEAD is no method."""
        response = client.request("HEAD", "/v1/try/counter")
        assert (405, "GET") == (response.status_code, response.headers["allow"])
        assert [] == client.get("/v1/jobs").json()["jobs"]

    def test_a_condition_holds_for_it(self, client: Client) -> None:
        """`If-None-Match` is answered by 304, as for GET."""
        path = f"/v1/jobs/{client.run({'scenario': 'counter'})['id']}"
        tag = client.request("HEAD", path).headers["etag"]
        assert 304 == client.request("HEAD", path, headers={"If-None-Match": tag}).status_code


class TestHeaders:
    @pytest.mark.parametrize("path", ["/docs", "/v1/jobs", "/nothing", "/assets/icon.svg"])
    def test_no_answer_can_be_framed_or_sniffed(self, client: Client, path: str) -> None:
        """Every answer keeps itself to its own site; only pictures may be shown elsewhere."""
        headers = client.get(path).headers
        assert ("nosniff", "DENY", "same-origin", "same-origin") == tuple(
            headers[name]
            for name in (
                "x-content-type-options",
                "x-frame-options",
                "referrer-policy",
                "cross-origin-opener-policy",
            )
        )
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        readers = "cross-origin" if path.endswith(".svg") else "same-origin"
        assert readers == headers["cross-origin-resource-policy"]

    def test_who_has_it_keeps_its_policy(self, client: Client) -> None:
        """A 304 changes nothing of what a browser was told with the content: it says the page's own policy, or none."""
        policy = client.get("/").headers["content-security-policy"]
        job = client.run({"scenario": "counter"})["id"]
        for path, expected in (("/", policy), ("/assets/icon.svg", None), (f"/v1/jobs/{job}", None)):
            again = client.get(path, headers={"If-None-Match": client.get(path).headers["etag"]})
            assert (304, expected) == (again.status_code, again.headers.get("content-security-policy"))
            assert "cross-origin-resource-policy" not in again.headers
            assert "nosniff" == again.headers["x-content-type-options"]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/healthz", 200),
            ("HEAD", "/healthz", 200),
            ("HEAD", "/nothing", 404),
            ("HEAD", "/v1/try/counter", 405),
            ("TRACE", "/healthz", 405),
            ("GET", "/", 200),
            ("GET", "/docs/", 307),
            ("POST", "/v1/jobs/", 307),
            ("GET", "/assets", 307),
            ("GET", "/nothing", 404),
            ("GET", "//evil.example/", 404),
            ("GET", "//evil.example/v1/jobs/", 404),
            ("GET", "/assets//evil.example", 404),
            ("PUT", "/v1/jobs", 405),
            ("OPTIONS", "/v1/jobs", 405),
            ("POST", "/v1/jobs", 422),
            ("DELETE", "/v1/jobs/job_1", 404),
            ("GET", "/v1/try/counter", 200),
            ("GET", "/assets/page/main.js", 200),
            ("GET", "/openapi.json", 200),
        ],
    )
    def test_every_answer_is_guarded(self, client: Client, method: str, path: str, status: int) -> None:
        """Good answers, errors, redirects and files have the headers; nothing leads to another host or allows one."""
        response = client.ask(method, f"http://threadlab.localhost{path}").result(30)
        assert status == response.status_code
        headers = response.headers
        assert ("nosniff", "DENY") == (headers["x-content-type-options"], headers["x-frame-options"])
        assert headers["content-security-policy"]
        assert headers["x-request-id"]
        assert "access-control-allow-origin" not in headers
        assert headers.get("location", "/").startswith(("/v1/", "http://threadlab.localhost/")) or status != 307

    def test_a_body_too_large_and_a_stream_are_guarded(self, client: Client) -> None:
        """So have answers that are made far outside, or piece by piece."""
        job = client.run({"scenario": "counter"})["id"]
        too_large = client.post("/v1/jobs", content=b" " * 300_000, headers={"Content-Type": "application/json"})
        stream = client.get(f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"})
        assert (413, 200) == (too_large.status_code, stream.status_code)
        for response in (too_large, stream, client.get(f"/v1/jobs/{job}/output")):
            assert "default-src 'none'; frame-ancestors 'none'" == response.headers["content-security-policy"]
            assert "nosniff" == response.headers["x-content-type-options"]

    def test_data_loads_nothing(self, client: Client) -> None:
        """JSON that is opened as a page can load nothing; a refusal has the headers, too."""
        for headers in ({}, FOREIGN):
            found = client.get("/v1/jobs", headers=headers).headers["content-security-policy"]
            assert "default-src 'none'; frame-ancestors 'none'" == found


class TestSlowSenders:
    def test_a_body_that_does_not_come_is_cut_off(self) -> None:
        """After its time a body is given up, and what reads it is told so."""
        assert (408, "close") == asyncio.run(_read_slowly())

    def test_real_connections_are_cut_off(self, tmp_path: Path) -> None:
        """Connections that send nothing, half a header, or half a body end, the last with an answer."""
        with Server(tmp_path, THREADLAB_HEADERS_TIMEOUT_S="0.3", THREADLAB_BODY_TIMEOUT_S="0.3") as server:
            server.start()
            begun = time.monotonic()
            head = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            assert b"" == _until_closed(server, b"")
            assert b"" == _until_closed(server, head)
            answer = _until_closed(server, head + b"Content-Length: 100\r\n\r\n{")
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"/problems/too-slow" in answer
            assert time.monotonic() - begun < 15
            assert 200 == server.ask("GET", "/healthz").status_code


async def _read_slowly() -> tuple[int, str]:
    """How an app is told that its client sends too slowly."""

    async def receive() -> dict[str, Any]:
        return dict(await asyncio.get_running_loop().create_future())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/jobs"}
    scope["headers"] = [(b"host", b"localhost")]
    try:
        await Guard(app, (), (), 0.01, refused)(scope, receive, send)
    except HTTPException as exc:
        return exc.status_code, (exc.headers or {})["Connection"]
    raise AssertionError("it was not cut off")


def _until_closed(server: Server, sent: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65_536), b""))
