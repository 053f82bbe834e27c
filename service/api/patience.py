"""A protocol of uvicorn's that waits for the headers of a request for so long and no longer.

Who uses it: `cli`, as uvicorn's `http`. uvicorn closes a connection that is idle between two requests, but would wait
for ever for the first, or for the rest of its headers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["protocol"]

if TYPE_CHECKING:
    from asyncio import TimerHandle


def protocol(headers_timeout_s: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a limit on the seconds from a connection, or a first byte, to the last header."""

    class Patience(HttpToolsProtocol):
        _waiting: TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_headers()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_headers()

        def on_headers_complete(self) -> None:
            self._got_headers()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._got_headers()
            super().connection_lost(exc)

        def _await_headers(self) -> None:
            if self._waiting is None:  # else the time runs since the connection
                self._waiting = self.loop.call_later(headers_timeout_s, self.transport.close)

        def _got_headers(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return Patience
