"""What a connection may cost, and what is no request: always an answer in the one shape, or an end.

These tests write bytes to a real server.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.api.client import contract
from tests.support import wait_until
from tests.system.server import Server

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"
JOB = b'{"scenario": "counter", "iterations": 10}'

SECURE = {"x-request-id", "x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"}


class Answer:
    """An answer as it came over the wire."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    """A connection to the server."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        yield connection


def sent(server: Server, *pieces: bytes) -> bytes:
    """All that the server answers to some bytes until it closes the connection."""
    received = []
    with connected(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while piece := connection.recv(65_536):
                received.append(piece)
        except ConnectionError:  # it hung up while we were sending
            pass
    return b"".join(received)


def answered(server: Server, *pieces: bytes) -> Answer:
    """The one answer to some bytes."""
    raw = sent(server, *pieces)
    assert raw, "there was no answer"
    return Answer(raw)


def get(path: bytes, *headers: bytes) -> bytes:
    """A request."""
    return b"GET %b HTTP/1.1\r\n%b%b%b\r\n" % (path, HOST, CLOSE, b"".join(headers))


def post(body: bytes, *headers: bytes) -> bytes:
    """A submission."""
    return b"POST /v1/jobs HTTP/1.1\r\n%b%b%b\r\n%b" % (HOST, JSON, b"".join(headers), body)


def memory_kb(server: Server) -> int:
    """The most memory that the server ever had."""
    (line,) = [each for each in Path(f"/proc/{server.pid}/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1])


class TestHead:
    @pytest.mark.parametrize(
        ("request_bytes", "status", "slug"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00", 400, "not-http"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not-http"),
            (b"NONSENSE / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "not-http"),
            (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "not-http"),
            (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "not-http"),
            (get(b"/v1/jobs/\xff"), 400, "not-http"),
            (get(b"/v1/jobs/a\x00b"), 400, "not-http"),
            (get(b"/healthz", b"X-A: b\r\n c\r\n"), 400, "not-http"),
            (post(b"abcd", b"Content-Length: -4\r\n"), 400, "not-http"),
            (post(b"abcd", b"Content-Length: 3\r\nContent-Length: 4\r\n"), 400, "not-http"),
            (post(b"0\r\n\r\n", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "not-http"),
            (post(b"", b"Content-Length: " + b"9" * 30 + b"\r\n"), 400, "not-http"),
            (post(b"zz\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"), 400, "not-http"),
            (post(JOB, b"Transfer-Encoding: xchunked\r\n"), 400, "not-http"),
            (b"GET http://me:secret@localhost/healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400, "not-http"),
            (b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n", 400, "unclear-host"),
            (get(b"/healthz", b"Host: 127.0.0.1\r\n"), 400, "unclear-host"),
            (get(b"/healthz", b"Host: evil.example\r\n"), 421, "unknown-host"),
            (b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 421, "unknown-host"),
            (get(b"/v1/jobs/" + b"a" * 20_000), 414, "long-address"),
            (get(b"/v1/jobs?label=" + b"a" * 20_000), 414, "long-address"),
            (get(b"/healthz", b"X-A: " + b"a" * 70_000 + b"\r\n"), 431, "large-headers"),
            (get(b"/healthz", *(b"X-%d: a\r\n" % number for number in range(99))), 431, "large-headers"),
        ],
    )
    def test_that_is_no_good_is_a_problem(
        self, live_server: Server, request_bytes: bytes, status: int, slug: str
    ) -> None:
        """What cannot become a request is answered in the shape of all errors, with the headers of all answers."""
        answer = answered(live_server, request_bytes)
        content = json.loads(answer.body)
        contract().validate({"$ref": "#/components/schemas/Problem"}, content)
        page = urlsplit(content["type"]).path
        assert (status, f"/problems/{slug}", status) == (answer.status, page, content["status"])
        assert set(answer.headers) >= SECURE
        assert answer.headers["x-request-id"] == content["request_id"]
        assert str(len(answer.body)) == answer.headers["content-length"]
        assert live_server.ask("GET", page).status_code == 200
        wait_until(lambda: content["request_id"] in live_server.log)

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET /healthz HTTP/1.0\r\n\r\n",
            b"GET http://localhost:8000/healthz HTTP/1.1\r\n" + CLOSE + b"Host: evil.example\r\n\r\n",
            b"GET http://[::1]:8000/healthz HTTP/1.1\r\n" + CLOSE + b"\r\n",
            get(b"/healthz", *(b"X-%d: a\r\n" % number for number in range(98))),
            get(b"/healthz", b"X-A: " + b"a" * 60_000 + b"\r\n"),
            get(b"/healthz?" + b"a" * 16_000),
        ],
    )
    def test_within_the_limits_is_a_request(self, live_server: Server, request_bytes: bytes) -> None:
        """The largest head that is allowed, HTTP/1.0 without a host, and a whole address that names us are answered."""
        assert 200 == answered(live_server, request_bytes).status

    @pytest.mark.parametrize("behind", [b"}", b"garbage\r\n\r\n", b"\x00\x01", b"GET / HTTP/9.9\r\n\r\n"])
    def test_what_follows_a_request_costs_the_connection_and_not_the_answer(
        self, live_server: Server, behind: bytes
    ) -> None:
        """Whoever counts a body one short, say, hears of the job that was accepted, and then the end."""
        length = b"Prefer: wait=10\r\nContent-Length: %d\r\n" % len(JOB)
        raw = sent(live_server, post(JOB, length) + behind)
        assert [b"200"] == [part.split()[0] for part in raw.split(b"HTTP/1.1 ")[1:]]
        assert b'"status":"succeeded"' in raw

    def test_costs_no_memory(self, live_server: Server) -> None:
        """Headers without an end, in any part of a request, are cut off, and nothing of them is kept."""
        endless = b"a" * 30_000_000
        many = b"".join(b"X-%d: aaaaaaaaaaaaaaaa\r\n" % number for number in range(500_000))
        chunked = post(b"2\r\n{}\r\n0\r\n", b"Transfer-Encoding: chunked\r\n")
        live_server.ask("GET", "/openapi.json")
        before = memory_kb(live_server)
        for pieces in (
            (b"GET /", endless),
            (b"GET / HTTP/1.1\r\nX-A: ", endless),
            (b"GET / HTTP/1.1\r\n", endless),
            (b"GET / HTTP/1.1\r\n" + HOST, many),
            (chunked, many),
            (chunked, b"X-A: ", endless),
            (post(b"1;", b"Transfer-Encoding: chunked\r\n"), endless),
        ):
            raw = sent(live_server, *pieces)
            assert not raw or Answer(raw).status in {400, 414, 422, 431}
        assert memory_kb(live_server) - before < 10_000
        assert 200 == live_server.ask("GET", "/healthz").status_code


class TestUpgrade:
    def test_to_websocket_is_left_out(self, live_server: Server) -> None:
        """Nothing here speaks WebSocket: such a request is answered as what it is, and by the rules of all."""
        asks = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        lines = HOST + asks + b"Sec-WebSocket-Key: AAAA\r\n\r\n"
        answer = answered(live_server, b"GET /healthz HTTP/1.1\r\n" + lines)
        assert 200 == answer.status
        assert set(answer.headers) >= SECURE
        foreign = b"Origin: http://evil.example\r\n" + lines
        assert 403 == answered(live_server, b"GET /v1/jobs HTTP/1.1\r\n" + foreign).status

    def test_of_many_requests_in_a_row(self, live_server: Server) -> None:
        """However many requests on a connection wish to upgrade, each is answered, and then the next one is read."""
        wish = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        raw = sent(live_server, wish * 3_000 + get(b"/healthz"))
        assert [b"200"] * 3_001 == [part.split()[0] for part in raw.split(b"HTTP/1.1 ")[1:]]

    def test_to_http_2_does_not_lose_the_body(self, live_server: Server) -> None:
        """What `curl --http2` posts is read, and so is the next request on the connection."""
        asks = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
        length = b"Content-Length: %d\r\n" % len(JOB)
        raw = sent(live_server, post(JOB[:5], asks, length), JOB[5:] + get(b"/readyz"))
        assert [b"202", b"200"] == [part.split()[0] for part in raw.split(b"HTTP/1.1 ")[1:]]
        assert b'{"status":"ready"}' in raw


class TestBody:
    def test_that_is_not_wanted_is_not_read_for_ever(self, tmp_path: Path) -> None:
        """Who goes on sending after the answer is cut off."""
        with Server(tmp_path, THREADLAB_BODY_TIMEOUT_S="0.5") as server:
            server.start()
            with connected(server) as connection:
                connection.sendall(post(b"", b"Content-Length: 1000000000000\r\n"))
                assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")

                def hung_up() -> bool:
                    try:
                        connection.sendall(b" " * 65_536)
                    except ConnectionError:
                        return True
                    return False

                wait_until(hung_up, 15)
            assert 200 == server.ask("GET", "/healthz").status_code

    def test_that_is_left_out_is_asked_for(self, live_server: Server) -> None:
        """A client that waits for `100 Continue` gets it, or the refusal at once."""
        with connected(live_server) as connection:
            head = post(b"", b"Expect: 100-continue\r\n", CLOSE, b"Content-Length: %d\r\n" % len(JOB))
            connection.sendall(head)
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == connection.recv(65_536)
            connection.sendall(JOB)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 202 ")
        with connected(live_server) as connection:
            connection.sendall(post(b"", b"Expect: 100-continue\r\nContent-Length: 10000000\r\n"))
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")

    def test_that_does_not_come_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        """A service that is told to stop waits a moment for a body that is on its way, whatever the timeout is."""
        with Server(tmp_path, THREADLAB_BODY_TIMEOUT_S="300") as server:
            server.start()
            with connected(server) as connection:
                connection.sendall(post(JOB[:5], b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(JOB)))
                assert b"HTTP/1.1 100 Continue\r\n\r\n" == connection.recv(65_536)  # now the body is waited for
                server.signal(signal.SIGTERM)
                assert server.wait(45) in {0, -signal.SIGTERM}


class TestReader:
    def test_who_does_not_read_is_let_go(self, tmp_path: Path) -> None:
        """A client that takes nothing of its answer loses its connection."""
        with Server(tmp_path, THREADLAB_BODY_TIMEOUT_S="0.3", THREADLAB_WATCHER_PATIENCE_S="3") as server:
            server.start()
            descriptors = Path(f"/proc/{server.pid}/fd")
            answered(server, get(b"/healthz"))  # and that connection is closed: it is not among those before
            before = len(list(descriptors.iterdir()))
            with ExitStack() as stack:
                connections = [stack.enter_context(connected(server)) for _ in range(5)]
                for connection in connections:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    connection.sendall(get(b"/assets/vendor/redoc/redoc.standalone.js") * 20)
                wait_until(lambda: len(list(descriptors.iterdir())) >= before + 5)
                wait_until(lambda: len(list(descriptors.iterdir())) <= before + 2, 30)

    def test_who_does_not_read_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        """A service that is told to stop waits a moment for a client to take its answer, and no longer."""
        with Server(tmp_path) as server:
            server.start()
            with connected(server) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(get(b"/assets/vendor/redoc/redoc.standalone.js").replace(CLOSE, b"") * 3)
                wait_until(lambda: connection.recv(1))
                server.signal(signal.SIGTERM)
                assert server.wait(45) in {0, -signal.SIGTERM}


class TestCrowd:
    def test_one_too_many_is_refused(self, tmp_path: Path) -> None:
        """A connection beyond the limit is answered 503 at once; when another has gone, there is room again."""
        with Server(tmp_path, THREADLAB_MAX_CONNECTIONS="3") as server:
            server.start()
            with ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(connected(server))
                answer = answered(server)
                assert (503, "1") == (answer.status, answer.headers["retry-after"])
                assert "/problems/crowded" == json.loads(answer.body)["type"]
                assert set(answer.headers) >= SECURE
            wait_until(lambda: server.ask("GET", "/healthz").status_code == 200)

    def test_does_not_take_the_descriptors_of_jobs(self, tmp_path: Path) -> None:
        """With few descriptors and more clients than those, jobs run on, new ones run, and all is well afterwards."""
        with Server(tmp_path, THREADLAB_FIND_INTERPRETERS="false") as server:
            process = server.launch()
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))
            wait_until(lambda: "listens on" in server.log, 30)
            assert 19 == server.ask("GET", "/v1/capacity").json()["lanes"]["wait"]["slots"]
            with server.client() as client, ExitStack() as stack:
                jobs = []

                def submit(delay_s: float) -> None:
                    body = {"scenario": "named_workers", "threads": 2, "delay_s": delay_s}
                    answer = client.post("/v1/jobs", json=body)
                    assert answer.status_code == 202, answer.text
                    jobs.append(answer.json()["id"])

                for _ in range(10):
                    submit(1.0)
                for _ in range(300):
                    stack.enter_context(connected(server))
                for _ in range(20):
                    submit(0.1)
                stack.close()
                for job_id in jobs:
                    job = client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=60"}).json()
                    assert ("succeeded", 1) == (job["status"], job["attempt"])
