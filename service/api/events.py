"""What a job tells, as it tells it: events as a stream or page by page, and its output as text.

    lane's thread ── tell ──▶ Feed ── one wake-up of the loop, however many watch ──▶ Audience ──▶ each watcher's stream

A watcher has a place in the feed and nothing else: who reads slowly falls behind, who does not read at all is let go,
and the job knows of neither. What is sent is encoded once for all.

No `from __future__ import annotations` here: FastAPI reads the signatures of endpoints made in a function.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Annotated, Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Header, Query
from fastapi.exceptions import RequestValidationError
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Send

from service import story
from service.api import queries
from service.api.access import JobAccess
from service.api.answers import JsonAnswer, documented
from service.api.jobs import JobId
from service.api.schemas import EventPage
from service.events import JobEvent
from service.hub import Feed
from service.jobs import Job
from service.story import EventId

__all__ = ["make_router"]

_log = logging.getLogger(__name__)

_MOST_EVENTS = 1_000  # on a page: 150 kB, roughly
_CHUNK = 256  # events sent at once, some 40 kB: what a watcher that is let go has not read stays small
_KEEPALIVE_S = 15.0  # what the HTML standard advises, because proxies drop connections on which nothing comes
_EVENT_ID = r"^[0-9]{1,9}-[0-9]{1,9}$"
_LAST_WORD_S = 5.0  # for a watcher that is let go to read why

Encoder = Callable[[JobEvent], bytes]

LastEventId = Annotated[
    str | None,
    Header(
        description="The id of the last event you have: what comes after it is sent.",
        json_schema_extra={"pattern": _EVENT_ID},  # held by `_after`, whose words say more than a pattern
    ),
]


class EventQuery(BaseModel):
    """Which of a job's events to tell."""

    cursor: str | None = Field(
        None,
        description="The same, for who cannot set a header; `next_cursor` of the page before.",
        json_schema_extra={"pattern": _EVENT_ID},
    )
    limit: int = Field(_MOST_EVENTS, ge=1, le=_MOST_EVENTS, description="Events on a page.")


class _Audience:
    """Everybody who watches a feed, and what was encoded for them. Lives on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._called = False  # whether a wake-up is under way
        self._watchers: set[asyncio.Event] = set()
        self._encoded: dict[Encoder, list[bytes]] = {}  # of the feed's events, from the first

    def call(self) -> None:
        """Wake all, soon; called by whoever tells, on its thread."""
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._called = False
        for watcher in self._watchers:
            watcher.set()

    @contextmanager
    def watching(self, feed: Feed) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is more."""
        news = asyncio.Event()
        self._watchers.add(news)
        if len(self._watchers) == 1:
            feed.listen(self.call)
        try:
            yield news
        finally:
            self._watchers.discard(news)
            if not self._watchers:
                feed.forget(self.call)

    def piece(self, feed: Feed, first: int, encode: Encoder) -> tuple[bytes, int]:
        """Return some events from the place `first` on, encoded once for all, and the place after them."""
        encoded = self._encoded.setdefault(encode, [])
        after = min(first + _CHUNK, len(feed.events))
        encoded += map(encode, feed.events[len(encoded) : after])
        return b"".join(encoded[first:after]), after


class _Stream:
    """One watcher's way through a job's events.

    Args:
        before: what was told when nobody listened, in order.
        feed: what is told now; None if there will be no more.
        after: what the watcher has already.
    """

    def __init__(self, before: Sequence[JobEvent], feed: Feed | None, audience: _Audience, after: EventId) -> None:
        self._before = before[_place_after(before, after) :]
        self._feed = feed
        self._audience = audience
        epoch, number = after
        self._place = number if feed is not None and epoch == feed.epoch else 0  # ids of a feed count from 1

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send and there will not be."""
        return not self._before and self._feed is None

    async def read(self, encode: Encoder) -> AsyncGenerator[bytes]:
        """Yield events, encoded, until there will be no more; nothing but b"" where nothing happens for long."""
        for first in range(0, len(self._before), _CHUNK):
            yield b"".join(map(encode, self._before[first : first + _CHUNK]))
        if self._feed is None:
            return
        with self._audience.watching(self._feed) as news:
            while True:
                news.clear()
                closed = self._feed.closed  # before looking: what was told before the end is not missed
                while self._place < len(self._feed.events):
                    piece, self._place = self._audience.piece(self._feed, self._place, encode)
                    if piece:
                        yield piece
                if closed:
                    return
                try:
                    async with asyncio.timeout(_KEEPALIVE_S):
                        await news.wait()
                except TimeoutError:
                    yield b""


class _Patient(StreamingResponse):
    """A stream that lets go of a client who does not read.

    Args:
        patience_s: how long one piece may take.
        reason: the last word for a client who comes back to reading after that.
        idle: sent where nothing came for long.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes],
        media_type: str,
        *,
        patience_s: float,
        reason: bytes = b"",
        idle: bytes = b"",
    ) -> None:
        super().__init__(content, media_type=media_type, headers=_HEADERS)
        self._content = content
        self._patience_s = patience_s
        self._reason = reason
        self._idle = idle

    async def stream_response(self, send: Send) -> None:
        """Send piece by piece."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        last = b""
        async with aclosing(self._content) as pieces:
            async for piece in pieces:
                body = piece or self._idle
                if body and not await _sent(send, body, self._patience_s, more=True):
                    _log.warning("a watcher did not read and is let go", extra={"patience_s": self._patience_s})
                    last = self._reason
                    break
        await _sent(send, last, _LAST_WORD_S, more=False)


async def _sent(send: Send, body: bytes, patience_s: float, *, more: bool) -> bool:
    """Send a piece; return whether the client took it in time."""
    try:
        async with asyncio.timeout(patience_s):
            await send({"type": "http.response.body", "body": body, "more_body": more})
    except TimeoutError:
        return False
    return True


_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would else collect lines until its buffer is full
}


def make_router(access: JobAccess, patience_s: float) -> APIRouter:
    """Return the endpoints that tell what a job tells.

    Args:
        patience_s: seconds that a watcher may take to read one piece of at most 256 events.
    """
    router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])
    audiences: WeakKeyDictionary[Feed, _Audience] = WeakKeyDictionary()

    async def follow(job_id: str, after: EventId = (0, 0)) -> _Stream:
        before, feed, _ = await access.following(job_id)
        audience = _Audience() if feed is None else audiences.setdefault(feed, _Audience())
        return _Stream(before, feed, audience, after)

    @router.get(
        "/events",
        response_model=EventPage,
        response_class=JsonAnswer,
        responses=_EVENT_ANSWERS,
        dependencies=[queries.only(EventQuery)],
    )
    async def job_events(
        request: Request,
        job_id: JobId,
        query: Annotated[EventQuery, Query()],
        last_event_id: LastEventId = None,
    ) -> Response:
        """What happened, event by event: a page of what there is, or a stream that goes on until the job has ended.

        With `Accept: text/event-stream` these are Server-Sent Events: `id`, `event` (the type) and `data` (the event as
        JSON). Ids grow and are never used again; a stream that was cut is taken up after `Last-Event-ID` without a gap,
        after a restart of the service, too. What an attempt told is kept when it ends: of one that a kill of the
        service cut off nothing is, and the stream goes on with the next attempt.
        """
        by_header, by_cursor = _after("header", "Last-Event-ID", last_event_id), _after("query", "cursor", query.cursor)
        after = by_header or by_cursor or (0, 0)
        if EventSourceResponse.media_type not in request.headers.get("accept", "").lower():
            return _page(*await access.story(job_id), after, query.limit)
        stream = await follow(job_id, after)
        if stream.empty:
            return Response(status_code=204)
        return _Patient(
            stream.read(_as_sse),
            EventSourceResponse.media_type,
            patience_s=patience_s,
            reason=_dropped(patience_s),
            idle=KEEPALIVE_COMMENT,
        )

    @router.get("/output", response_class=PlainTextResponse, responses=documented(404, 422, 503))
    async def job_output(job_id: JobId) -> Response:
        """The lines that the scenario prints, as it prints them, until the job has ended: for `curl -N`."""
        stream = await follow(job_id)
        return _Patient(stream.read(_as_line), "text/plain; charset=utf-8", patience_s=patience_s)

    return router


_EVENT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or the stream.",
        "content": {EventSourceResponse.media_type: {"schema": {"$ref": "#/components/schemas/EventView"}}},
    },
    204: {"description": "Nothing will come after the event that you named: a stream need not be opened again."},
    **documented(404, 422, 503),
}


def _after(place: str, name: str, text: str | None) -> EventId | None:
    if text is None:
        return None
    try:
        return story.read_id(text)
    except ValueError as exc:
        error = {
            "type": "event_id",
            "loc": (place, name),
            "msg": "Not an event's id; they look like `1-17`.",
            "input": text,
        }
        raise RequestValidationError([error]) from exc


def _place_after(events: Sequence[JobEvent], after: EventId) -> int:
    """Return the place of the first event after an id. Ids grow, so that few of them need be read."""
    return bisect_right(events, after, key=lambda event: story.read_id(event["id"]))


def _page(events: Sequence[JobEvent], job: Job, after: EventId, limit: int) -> Response:
    first = _place_after(events, after)
    shown = events[first : first + limit]
    more = first + limit < len(events) or not job.finished
    last = shown[-1]["id"] if shown else "{}-{}".format(*after)
    return JsonAnswer({"events": shown, "next_cursor": last if more else None})


def _as_sse(event: JobEvent) -> bytes:
    return format_sse_event(data_str=to_json(event).decode(), event=event["type"], id=event["id"])


def _as_line(event: JobEvent) -> bytes:
    return f"{event['line']}\n".encode() if event["type"] == "output" else b""


def _dropped(patience_s: float) -> bytes:
    reason = f"What was sent was not read within {patience_s:g} s. Connect again with the last event's id to go on."
    return format_sse_event(data_str=to_json({"reason": reason}).decode(), event="dropped")
