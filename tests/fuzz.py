"""Schemathesis against the whole OpenAPI document: `python -m tests.fuzz --examples 50000`.

It runs the service as its users do, on a socket, but with an executor that plays jobs back: what is tried is the HTTP
face, and no example has to wait for a scenario. All of Schemathesis' checks run, and one of ours: every answer has the
headers that all have, and a refusal says where the mistake stands. The first round has all its phases (the document's
examples, each limit of each schema, random requests, sequences along the links); further ones go on at random, each
from another seed, until there were as many requests as were asked for.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import schemathesis
import uvicorn
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events

from service.api import connections
from service.app import create_app
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from tests.support import wait_until

__all__ = ["Findings", "fuzz"]

_SECURE = ("x-request-id", "x-content-type-options", "x-frame-options", "referrer-policy")
_SECURE_CONTENT = "content-security-policy"  # a 304 leaves what the client has as it is

_REFUSALS = ("400", "403", "404", "405", "409", "413", "414", "415", "422", "431")

# Where a valid request can still be refused, by rules that a JSON Schema has no words for.
_MORE_THAN_SCHEMA = {
    "POST /v1/jobs": "rules between fields, and interpreters that are not here",
    "POST /v1/jobs/{job_id}/rerun": "fields of another scenario",
    "POST /v1/experiments": "rules between fields, within each cell",
    "GET /v1/try/{scenario}": "the parameters of whichever scenario it is",
    "GET /v1/atomicity": "operations and interpreters that are not here",
    "GET /v1/jobs": "a cursor that is none of ours",
    "GET /v1/experiments": "a cursor that is none of ours",
    "GET /v1/jobs/{job_id}/events": "an id that Schemathesis took from another answer, whatever the pattern",
}


@schemathesis.check
def told_in_full(_: Any, response: Any, case: Any) -> None:
    """Every answer has the common headers; what is invalid is told with its place."""
    expected = _SECURE if response.status_code == 304 else (*_SECURE, _SECURE_CONTENT)
    missing = [name for name in expected if name not in response.headers]
    assert not missing, f"without the headers {missing}"
    assert "Traceback" not in response.text
    if response.status_code == 422 and case.method != "HEAD":
        problem = response.json()
        told = problem["type"].endswith("/idempotency-conflict") or problem.get("errors")
        assert told, f"it does not say what is wrong: {problem}"
        assert all({"pointer", "parameter", "header"} & set(error) for error in problem.get("errors") or ())


@dataclass
class Findings:
    """What was tried, and what was wrong."""

    requests: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # by the call and what is wrong: how to see it again

    def add(self, event: events.EngineEvent) -> None:
        """Take in what the engine tells."""
        if isinstance(event, events.ScenarioFinished):
            self.requests += len(event.recorder.interactions)
            for checks in event.recorder.checks.values():
                self._failed(event.recorder.label, [each for each in checks if each.status == Status.FAILURE])
        elif isinstance(event, (events.NonFatalError, events.FatalError)):
            error = event.value if isinstance(event, events.NonFatalError) else event.exception
            self.failures[f"{type(error).__name__} of the engine"] = str(error)

    def _failed(self, label: str, checks: list[Any]) -> None:
        for check in checks:
            info = check.failure_info
            text = f"{info.failure.title}: {info.failure.message}"
            self.failures.setdefault(f"{label}: {check.name}", f"{text}\n{info.code_sample}")


def fuzz(examples: int, seed: int | None = None, each: int = 500) -> Findings:
    """Send at least so many requests, and return what was found.

    Args:
        seed: of the first round; by default a new one.
        each: random requests to an operation in a round.
    """
    seed = random.getrandbits(32) if seed is None else seed
    findings = Findings()
    with _served() as url:
        while findings.requests < examples:
            first = not findings.requests
            print(f"seed {seed}, {findings.requests} of {examples} requests, {len(findings.failures)} failures")
            config = SchemathesisConfig.from_dict(_config(seed, each, first=first))
            schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
            for event in engine.from_schema(schema).execute():
                findings.add(event)
            seed += 1
    return findings


def _config(seed: int, each: int, *, first: bool) -> dict[str, Any]:
    """What Schemathesis is told. Deeper sequences than its own six steps find nothing more here."""
    once = {"enabled": first}
    return {
        "seed": seed,
        "continue-on-failure": True,
        "generation": {"max-examples": each, "database": "none", "no-shrink": True},
        "phases": {"examples": once, "coverage": once},
        "checks": {"negative_data_rejection": {"expected-statuses": [*_REFUSALS]}},
        "operations": [
            {"include-name": name, "checks": {"positive_data_acceptance": {"enabled": False}}}
            for name in _MORE_THAN_SCHEMA
        ],
    }


@contextmanager
def _served() -> Iterator[str]:
    """The service on a socket, in this process; give its address."""
    app = create_app(Settings(database_url="memory:", max_wait_s=1, max_queued=100_000), ScriptedExecutor())
    http = connections.protocol(connections.ConnectionLimits(100, 10.0, 10.0, 10.0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, http=http, ws="none"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), name="fuzzed-service")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), 30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def main() -> None:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description="Send random and nearly valid requests to all operations.")
    parser.add_argument("--examples", type=int, default=50_000, help="how many requests there should be at least")
    parser.add_argument("--seed", type=int, help="of an earlier run that is to be seen again")
    asked = parser.parse_args()
    findings = fuzz(asked.examples, asked.seed)
    for place, text in findings.failures.items():
        print(f"\n{place}\n{text}")
    print(f"{findings.requests} requests, {len(findings.failures)} failures")
    sys.exit(1 if findings.failures else 0)


if __name__ == "__main__":
    main()
