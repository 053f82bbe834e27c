"""Fixtures: clients of the service in this process, and a real server for what must run for real."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service import app
from service.api.requests import RequestLimits, RequestUnion
from service.app import create_app
from service.catalog import Catalog
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from tests.api.client import Client
from tests.system.server import Server

MakeClient = Callable[..., Client]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.upper().startswith("THREADLAB_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _requests_made_once(catalog: Catalog) -> Iterator[None]:
    """Make the requests of the whole catalog once for the same limits: two thirds of what an app costs a test."""
    made: dict[str, RequestUnion] = {}

    def make(found: Catalog, limits: RequestLimits) -> RequestUnion:
        if found is not catalog:
            return RequestUnion(found, limits)
        if str(limits) not in made:
            made[str(limits)] = RequestUnion(found, limits)
        return made[str(limits)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "RequestUnion", make)
        yield


@pytest.fixture
def executor() -> ScriptedExecutor:
    """Runs every job at once, to a good end, without a process."""
    return ScriptedExecutor()


@pytest.fixture
def make_client(executor: ScriptedExecutor, catalog: Catalog) -> Iterator[MakeClient]:
    """Make a client of a service with other settings, another executor, or other scenarios."""
    with contextlib.ExitStack() as stack:

        def make(executor: ScriptedExecutor = executor, found: Catalog = catalog, **settings: Any) -> Client:
            known = {"database_url": "memory:", "shutdown_grace_s": 0.0, **settings}
            return stack.enter_context(Client(create_app(Settings(**known), executor, found)))

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    """A client of a service whose jobs end at once."""
    return make_client()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What jobs of `held` wait for before they end."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def holding(gate: threading.Event) -> ScriptedExecutor:
    """Keeps jobs running until `gate` is set."""
    return ScriptedExecutor(held=gate)


@pytest.fixture
def held(make_client: MakeClient, holding: ScriptedExecutor) -> Client:
    """A client of a service whose jobs run until `gate` is set."""
    return make_client(holding)


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with a database of its own."""
    with Server(tmp_path_factory.mktemp("live")) as server:
        server.start()
        yield server
