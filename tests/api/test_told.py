"""What is told of a job in the moment in which it ends."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from service import app
from service.jobs import Job, JobState
from service.stores.memory import MemoryStore
from tests.api.conftest import MakeClient


class _LateStore(MemoryStore):
    """Tells of an end only when it may, though everybody can read it already: as between a commit and its callback."""

    def __init__(self) -> None:
        super().__init__()
        self.may_tell = threading.Event()

    def move(self, before: JobState, job: Job, *args: Any, **kwargs: Any) -> Future[None]:
        """Move at once; tell later."""
        moved = super().move(before, job, *args, **kwargs)
        if not job.finished:
            return moved
        told: Future[None] = Future()

        def tell() -> None:
            self.may_tell.wait(60)
            told.set_result(moved.result())

        threading.Thread(target=tell).start()
        return told


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_who_sees_that_it_has_ended_sees_its_end(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    """As soon as a job is shown as finished its events are complete, the last one with the same id as later."""
    store = _LateStore()
    monkeypatch.setattr(app, "make_store", lambda *_: store)
    client = make_client()
    path = f"/v1/jobs/{client.post('/v1/jobs', json={'scenario': 'daemon'}).json()['id']}"
    try:
        while client.get(path).json()["status"] != "succeeded":
            pass
        early = client.get(f"{path}/events", headers={"Accept": accept}).text
    finally:
        store.may_tell.set()
    assert '"succeeded"' in early
    client.get(path, headers={"Prefer": "wait=20"})
    assert early == client.get(f"{path}/events", headers={"Accept": accept}).text
