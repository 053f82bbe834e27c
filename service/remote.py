"""A job on a server: submitted, followed as it runs, cancelled by Ctrl-C.

Who uses it: the command `threadlab run --url`. It speaks the HTTP face, and tells mistakes as a run here does.
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from service.api import validation_errors
from service.errors import ServiceRefused, ServiceUnreachable
from service.events import JobEvent
from service.executors.base import Sink

__all__ = ["run"]

_TRIES = 30  # to follow a job again whose stream broke off: a busy machine takes its time to start a service
_PAUSE_S = 1.0  # between them
_TIMEOUT = httpx.Timeout(10.0, read=60.0)  # seconds; a stream on which nothing happens has a comment every 15


def run(url: str, body: dict[str, Any], sink: Sink) -> dict[str, Any]:
    """Return the finished job that a body asks for, as the service shows it; Ctrl-C cancels it there.

    Args:
        url: of the service, such as `http://127.0.0.1:8000`.
        body: of `POST /v1/jobs`.
        sink: takes the job's events as they come.

    Raises:
        ServiceUnreachable: nothing answers there, or no more.
        ServiceRefused: it does not accept the request.
    """
    with _translated(url), httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        submit = functools.partial(_asked, client, "POST", "/v1/jobs", json=body, headers=key)
        try:
            job = submit()
            _follow(client, job["links"]["events"], sink)
        except KeyboardInterrupt:
            job = submit()  # the same one, by its key: it may have been accepted without an answer that got here
            client.post(f"{job['links']['self']}/cancel")  # 409: it has just ended, which is as good
        return _asked(client, "GET", job["links"]["self"])


def _asked(client: httpx.Client, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
    response = client.request(method, path, **kwargs)
    _check(response)
    answer: dict[str, Any] = response.json()
    return answer


def _follow(client: httpx.Client, path: str, sink: Sink) -> None:
    """Hand on events until there will be no more, across broken links, each once."""
    last: str | None = None
    tries = _TRIES
    while True:
        headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": last})}
        try:
            with client.stream("GET", path, headers=headers) as response:
                if response.status_code == httpx.codes.NO_CONTENT:
                    return
                if response.is_error:
                    response.read()
                _check(response)
                for event in _events(response.iter_lines()):
                    last, tries = event["id"], _TRIES
                    sink([event])
        except httpx.TransportError:
            tries -= 1
            if not tries:
                raise
            time.sleep(_PAUSE_S)


def _events(lines: Iterable[str]) -> Iterator[JobEvent]:
    """Yield the events of a stream; what has no id is a word of the service to whoever reads, not an event.

    Source: HTML standard, section 9.2.6.
    """
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line:
            fields[name] = value.removeprefix(" ")
            continue
        if "id" in fields and "data" in fields:
            yield json.loads(fields["data"])
        fields = {}


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        problem = response.json()
        said = [f"{problem['title']}: {problem.get('detail') or ''}".rstrip(": ")]
        said += [f"  {line}" for line in validation_errors.in_lines(problem.get("errors", ()))]
    except (ValueError, KeyError, TypeError, AttributeError):  # some other server is there
        said = [f"HTTP {response.status_code}, which is no answer of Threadlab. Is the address right?"]
    if "Retry-After" in response.headers:
        said.append(f"Try again in {response.headers['Retry-After']} s.")
    raise ServiceRefused("\n".join(said))


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as exc:
        raise ServiceUnreachable(f"{url} is no address of a service: write one like http://127.0.0.1:8000.") from exc
    except httpx.HTTPError as exc:
        why = str(exc).rstrip(".") or type(exc).__name__
        raise ServiceUnreachable(f"{url} does not answer: {why}. Is the service running?") from exc
