"""Headers, cursors and ids of any text: never a fault of the service, whatever else they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.api.answers import Wait, tags
from service.api.jobs import read_cursor, write_cursor
from service.app import create_app
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from tests.api.client import Client, strict_json

# What a server can hand on of a header: latin-1 without control characters but the tab, and without spaces around.
VALUES = st.text(
    st.characters(max_codepoint=255, exclude_categories=("Cc",), include_characters="\t"), max_size=300
).map(str.strip)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=120)  # what UTF-8 can say
PROPERTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def served(check: Callable[..., None], strategy: st.SearchStrategy[Any], *examples: Any) -> None:
    """Check a property of a service with one finished job."""
    app = create_app(Settings(database_url="memory:", max_wait_s=0), ScriptedExecutor())
    with Client(app) as client:
        job = client.submit({"scenario": "counter"})["id"]

        def of_service(value: Any) -> None:
            check(client, f"/v1/jobs/{job}", value)

        for value in examples:
            of_service = example(value)(of_service)
        PROPERTY(given(strategy)(of_service))()


def encoded(**headers: str) -> list[tuple[str, bytes]]:
    """Headers of latin-1 texts."""
    return [(name.replace("_", "-"), value.encode("latin-1")) for name, value in headers.items()]


def test_prefer() -> None:
    """Any `Prefer` is answered; what it says is applied or left out."""

    def check(client: Client, path: str, value: str) -> None:
        response = client.get(path, headers=encoded(Prefer=value))
        assert 200 == response.status_code
        applied = response.headers.get("preference-applied")
        assert applied is None or (re.fullmatch("wait=[0-9]+", applied) and "wait" in value.lower())

    nearly = st.from_regex(r"(wait|respond-async|WAIT)[ =,;\"]{0,3}[0-9]{0,30}[,;]?", fullmatch=True)
    served(check, VALUES | nearly, "wait=99999999999999999999", "wait=\xb2", 'wait="1', "wait=-1", "wait=1e9")


@PROPERTY
@given(st.text())
@example("wait=\N{ARABIC-INDIC DIGIT FIVE}")
def test_any_wait_is_within_the_limit(value: str) -> None:
    """Whatever a client prefers, it is not held longer than the service holds."""
    seconds = Wait.parse(value, 60).seconds
    assert seconds is None or 0 <= seconds <= 60


def test_if_none_match() -> None:
    """Any `If-None-Match` is answered with the job, or with 304 to its very tag."""

    def check(client: Client, path: str, value: str) -> None:
        tag = client.get(path).headers["etag"]
        response = client.get(path, headers=encoded(If_None_Match=value))
        expected = 304 if {"*", tag} & tags(value) else 200
        assert expected == response.status_code
        assert tag == response.headers["etag"]

    served(check, VALUES, "*", "W/*", '"', 'W/"a", *', ",,,", 'W/W/"a"')


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_last_event_id_and_cursor(accept: str) -> None:
    """Any id of an event is answered with what comes after it, or with 422 that names the header or parameter."""

    def check(client: Client, path: str, value: str) -> None:
        for headers, query in (({"Last-Event-ID": value.encode("latin-1")}, ""), ({}, f"?cursor={quote(value)}")):
            response = client.get(f"{path}/events{query}", headers={"Accept": accept, **headers})
            assert response.status_code in {200, 204, 422}
            if response.status_code == 422:
                (error,) = strict_json(response.content)["errors"]
                assert ("Last-Event-ID" if headers else "cursor") == error["header" if headers else "parameter"]

    nearly = st.from_regex(r"[0-9]{0,12}-?[0-9]{0,12}\n?", fullmatch=True).map(str.strip)
    served(check, VALUES | nearly, "1-1", "0-0", "999999999-999999999", "1-1-1", "\xb2-\xb2", "-1-1", "1-" + "9" * 20)


def test_a_bad_cursor_is_told_beside_a_good_header(client: Client) -> None:
    """Each of the two ways to name an event is looked at, though one of them is enough."""
    path = f"/v1/jobs/{client.run({'scenario': 'counter'})['id']}/events"
    response = client.get(path, params={"cursor": "x"}, headers={"Last-Event-ID": "1-1"})
    assert (422, "cursor") == (response.status_code, response.json()["errors"][0]["parameter"])


def test_idempotency_key() -> None:
    """Any key is taken, and gives the same job again, or is 422 that names the header."""

    def check(client: Client, path: str, value: str) -> None:
        first, again = (
            client.post("/v1/jobs", json={"scenario": "counter"}, headers=encoded(Idempotency_Key=value)) for _ in "12"
        )
        assert (first.status_code == 422) == (again.status_code == 422)
        if first.status_code == 422:
            (error,) = strict_json(first.content)["errors"]
            assert "idempotency-key" == error["header"]
        else:
            assert first.json()["id"] == again.json()["id"]
            assert "true" == again.headers["idempotent-replayed"]

    served(check, VALUES | st.text("!~a\x7f", max_size=260), "", "a b", "\xe9", "~" * 255, "~" * 256, "\t")


def test_request_id() -> None:
    """Any id of a request is repeated if it is sane, and else replaced."""

    def check(client: Client, path: str, value: str) -> None:
        given_back = client.get(path, headers=encoded(X_Request_ID=value)).headers["x-request-id"]
        assert given_back == value or re.fullmatch("[0-9a-f]{32}", given_back)
        assert re.fullmatch("[A-Za-z0-9._-]{1,64}", given_back)

    served(check, VALUES | st.text("aZ0._-\n", max_size=70).map(str.strip), "a\xe9", "." * 64, "." * 65, "")


@pytest.mark.parametrize(
    "name",
    [
        *("Accept", "Accept-Encoding", "Accept-Language", "Origin", "Host", "Cookie", "Authorization", "User-Agent"),
        *("Sec-Fetch-Site", "Sec-Fetch-Mode", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"),
        *("Content-Type", "Content-Encoding", "Range", "If-Match", "If-Modified-Since", "Via", "TE", "Traceparent"),
    ],
)
def test_any_other_header(name: str) -> None:
    """Any value of a header that clients send is answered by a good answer or a problem, never by a fault."""

    def check(client: Client, path: str, value: str) -> None:
        headers = {name: value.encode("latin-1")}
        for method, url in (("GET", path), ("GET", f"{path}/events"), ("POST", f"{path}/rerun"), ("GET", "/docs/")):
            response: httpx.Response = client.ask(method, url, headers=headers).result(30)
            assert response.status_code < 500, response.text
            if response.is_redirect:
                assert re.fullmatch(r"http://[A-Za-z0-9.:\[\]-]+/docs", response.headers["location"])

    served(check, VALUES, "", "null", "*", "a\tb", "javascript:", "[::1]", "application/json; charset=\xff")


@PROPERTY
@given(TEXTS)
@example("job_01kabcdefghjkmnpqrstvwxyz0")
def test_cursors_come_back(text: str) -> None:
    """A cursor is read as the id that it was made of, or refused; no other text is one."""
    if re.fullmatch("(job|exp)_[0-9a-hjkmnp-tv-z]{26}", text):
        assert text == read_cursor(write_cursor(text))
    else:
        with pytest.raises(RequestValidationError):
            read_cursor(write_cursor(text))


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/experiments"])
def test_any_cursor(path: str) -> None:
    """Any text is a page, or 422 that names the parameter."""

    def check(client: Client, _: str, value: str) -> None:
        response = client.get(path, params={"cursor": value})
        assert response.status_code in {200, 422}
        if response.status_code == 422:
            assert ["cursor"] == [error["parameter"] for error in json.loads(response.content)["errors"]]

    nearly = st.from_regex("am9iX[A-Za-z0-9_-]{35}=?", fullmatch=True)
    served(check, TEXTS | nearly, "", "\x00", "\U0001f600", write_cursor("job_" + "0" * 26))
