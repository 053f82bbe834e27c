"""What is told of a job in the moment in which it ends, and what that costs of a job that told much."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from service import app, story
from service.events import EventLog
from service.jobs import Job, JobState
from service.stores.memory import MemoryStore
from tests.api.conftest import MakeClient
from tests.stores.helpers import T0, make_report, running_job


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


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_the_place_of_an_event_is_found_among_many(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    """Who goes on after an event of 20,000 has a few ids read for it, by the thread on which all requests wait."""
    store, job = MemoryStore(), running_job()
    told = [{"id": f"1-{number}", "type": "note", "text": "☃"} for number in range(1, 20_001)]
    store.add(job).result()
    store.move(JobState.RUNNING, job.finish(make_report(), T0), EventLog(1, told)).result()
    monkeypatch.setattr(app, "make_store", lambda *_: store)
    client = make_client()
    read: list[str] = []
    read_id = story.read_id

    def counted(text: str) -> story.EventId:
        read.append(text)
        return read_id(text)

    monkeypatch.setattr(story, "read_id", counted)
    headers = {"Accept": accept, "Last-Event-ID": "1-19990"}
    answer = client.get(f"/v1/jobs/{job.id}/events", headers=headers).text
    assert [False, True, True] == [f'"1-{number}"' in answer for number in (19_990, 19_991, 20_001)]
    assert len(read) < 30
