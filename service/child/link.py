"""The child's end of a job's socket.

Who uses it: `loop`, in the child.
"""

from __future__ import annotations

import os
from typing import List

from service.child import calls, wire

__all__ = ["Link"]

_RECEIVE_BYTES = 65_536


class Link:
    """The socket, by its number: a socket object would cost a fresh process 0.1 ms."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._frames = wire.FrameBuffer()

    def send(self, data: bytes) -> None:
        """Send encoded frames; blocks while the service does not read, and only then gives up the GIL."""
        data = data[calls.send(self.descriptor, data) :]
        while data:
            data = data[os.write(self.descriptor, data) :]

    def receive(self) -> List[wire.Frame]:
        """Return the frames of the next read.

        Raises:
            EOFError: the service is gone.
        """
        data = os.read(self.descriptor, _RECEIVE_BYTES)
        if not data:
            raise EOFError
        return list(self._frames.feed(data))
