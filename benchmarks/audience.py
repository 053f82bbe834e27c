"""Watchers in a process of their own: what `watchers` measures must not be theirs.

They run at the lowest priority, read as fast as they get a core, and take nothing apart: each counts its events. A line
is printed when all have had their first event, and at the end how many events each watcher had, the fewest and most.

    python -m benchmarks.audience PORT COUNT JOB...
"""

from __future__ import annotations

import asyncio
import os
import sys

_PIECE_BYTES = 262_144
_MARK = b"\ndata: "  # once in each event
_AT_ONCE = 50  # connections that are being made; more would stand in line anyway


class _Watcher:
    """One connection that follows one job to its end."""

    def __init__(self, port: int, job_id: str) -> None:
        self._port = port
        self._job_id = job_id
        self.events = 0
        self.has_begun = asyncio.Event()

    async def watch(self, room: asyncio.Semaphore) -> None:
        """Read until the service closes the stream."""
        async with room:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            request = f"GET /v1/jobs/{self._job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            writer.write(f"{request}Accept: text/event-stream\r\n\r\n".encode())
            left = await self._read(reader, b"")
        while left is not None:
            left = await self._read(reader, left)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, left: bytes) -> bytes | None:
        """Count the events of one piece; return its end, in which half a mark may be, or None after the last."""
        piece = await reader.read(_PIECE_BYTES)
        data = left + piece
        self.events += data.count(_MARK)
        if self.events:
            self.has_begun.set()
        return data[1 - len(_MARK) :] if piece else None


async def _watch(port: int, count: int, jobs: list[str]) -> None:
    watchers = [_Watcher(port, jobs[number % len(jobs)]) for number in range(count)]
    room = asyncio.Semaphore(_AT_ONCE)
    watching = asyncio.gather(*(each.watch(room) for each in watchers))
    await asyncio.gather(*(each.has_begun.wait() for each in watchers))
    print("watching", flush=True)
    await watching
    counts = [each.events for each in watchers]
    print(min(counts), max(counts), flush=True)


if __name__ == "__main__":
    os.nice(19)
    asyncio.run(_watch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
