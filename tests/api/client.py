"""A client of the service in this process, without a network, that holds every answer against the OpenAPI document."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import httpx
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from service.app import create_app
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings

__all__ = ["Client", "Contract", "contract", "strict_json"]

_ANSWER_S = 60.0  # far beyond what any answer takes, the held ones included

_ANY_OPERATION = {403, 405, 408, 421, 500}  # can be the answer of any address, and is a problem like the others


class Client:
    """Serves an app on an event loop of its own, lifespan included, and asks it from any thread.

    An exception inside the app is answered as a server would answer it, instead of being raised in the test.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._up: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="test-client")

    async def _serve(self) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("127.0.0.1", 50_000))
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://threadlab.localhost", timeout=_ANSWER_S
            ) as http:
                self._http = http
                async with self.app.router.lifespan_context(self.app):  # ends first: it answers until the very end
                    self._up.set_result(None)
                    await self._leave.wait()
        except BaseException as exc:
            if self._up.done():
                raise
            self._up.set_exception(exc)

    def __enter__(self) -> Client:
        self._thread.start()
        try:
            self._up.result(_ANSWER_S)
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the app's lifespan, as the end of the service does. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leave.set)
            self._thread.join()

    def ask(self, method: str, url: str, **kwargs: Any) -> Future[httpx.Response]:
        """Send a request and return what will be its answer."""
        return asyncio.run_coroutine_threadsafe(self._http.request(method, url, **kwargs), self._loop)

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        """Return the answer to a request, which is one that the document promises."""
        response = self.ask(method, url, **kwargs).result(_ANSWER_S)
        contract().check(response)
        return response

    def get(self, url: str, **kwargs: Any) -> httpx.Response:
        """Return the answer to a GET."""
        return self.request("GET", url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> httpx.Response:
        """Return the answer to a POST."""
        return self.request("POST", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> httpx.Response:
        """Return the answer to a DELETE."""
        return self.request("DELETE", url, **kwargs)

    def run(self, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Return the finished job that a body asks for."""
        response = self.post("/v1/jobs", json=body, headers={"Prefer": "wait=30", **headers})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def submit(self, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Return the accepted job that a body asks for."""
        response = self.post("/v1/jobs", json=body, headers=headers)
        assert response.status_code == 202, response.text
        return dict(response.json())

    def state(self, job: dict[str, Any]) -> str:
        """Return where a job stands now."""
        return str(self.get(f"/v1/jobs/{job['id']}").json()["status"])


class Contract:
    """What an OpenAPI document promises of answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._paths = [
            (re.compile(re.sub(r"\\{[^/]+?\\}", "[^/]+", re.escape(path))), operations)
            for path, operations in document["paths"].items()
        ]

    def check(self, response: httpx.Response) -> None:
        """Fail if the document does not know of such an answer to such a request."""
        answers = self._answers(response.request)
        status, media_type = response.status_code, response.headers.get("content-type", "").partition(";")[0]
        if answers is None or status in _ANY_OPERATION:
            return
        where = f"{response.request.method} {response.request.url.path}: {status} {response.text[:500]}"
        assert str(status) in answers, f"not documented: {where}"
        content = answers[str(status)].get("content", {})
        if not content:
            assert response.content == b"", f"documented without a body: {where}"
            return
        assert media_type in content, f"not documented as {media_type}: {where}"
        if media_type.endswith("json"):
            self.validate(content[media_type]["schema"], strict_json(response.content), where)

    def validate(self, schema: dict[str, Any], value: Any, where: str = "") -> None:
        """Fail if a value does not match a schema that may refer to the document."""
        whole = {**schema, "components": self._document["components"]}
        errors = list(Draft202012Validator(whole).iter_errors(value))
        assert errors == [], f"{where}: {errors[0].json_path}: {errors[0].message}"

    def _answers(self, request: httpx.Request) -> dict[str, Any] | None:
        for pattern, operations in self._paths:
            if pattern.fullmatch(request.url.path) and request.method.lower() in operations:
                return dict(operations[request.method.lower()]["responses"])
        return None


@functools.cache
def contract() -> Contract:
    """Return what the service's document promises; no setting changes anything about answers."""
    return Contract(create_app(Settings(database_url="memory:"), ScriptedExecutor()).openapi())


def strict_json(text: bytes | str) -> Any:
    """Return the value that a JSON text holds; NaN and Infinity are no JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON: {text!r:.500}")

    return json.loads(text, parse_constant=refuse)
