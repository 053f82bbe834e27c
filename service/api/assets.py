"""Files for browsers, each read and compressed once and then sent from memory.

Who uses it: `pages`. A page asks for some twenty small files at once, often of a service that has just started. Reading
and compressing one for each request took 2 ms, on the cores on which the browser was starting.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from service.api.answers import tags

__all__ = ["Assets", "File"]

_SMALL_BYTES = 65_536  # is read and compressed within some milliseconds
_LEAST_BYTES = 500  # what is smaller fits into one packet anyway


class _Form(NamedTuple):
    """A file as it is sent, plain or compressed, and the headers that say so."""

    body: bytes
    headers: dict[str, str]


class File:
    """A file of ours, which does not change while the service runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kind, _ = mimetypes.guess_type(path.name)
        self._media_type = kind or "application/octet-stream"
        self._forms: tuple[_Form, _Form] | None = None
        self.is_small = path.stat().st_size <= _SMALL_BYTES

    def keep(self) -> tuple[_Form, _Form]:
        """Return its forms, for clients that cannot unpack it and for those that can; the first call reads it."""
        if self._forms is None:
            plain = self._path.read_bytes()
            packed = gzip.compress(plain, mtime=0) if len(plain) >= _LEAST_BYTES else plain
            digest = hashlib.sha256(plain).hexdigest()[:32]
            alone = _Form(plain, _headers(digest))
            self._forms = alone, alone if len(packed) >= len(plain) else _Form(packed, _headers(digest, "gzip"))
        return self._forms

    def answer(self, given: Headers, more: Mapping[str, str] | None = None) -> Response:
        """Return the file, or that the client has it.

        Args:
            given: headers of the request.
            more: headers of the answer.
        """
        form = self.keep()["gzip" in given.get("accept-encoding", "")]
        headers = {**form.headers, **(more or {})}
        if headers["ETag"] in tags(given.get("if-none-match", "")):
            unchanged = NotModifiedResponse(Headers(headers))  # keeps but few of them
            unchanged.headers.update(more or {})  # a browser takes what a 304 says for the page that it has
            return unchanged
        return Response(form.body, media_type=self._media_type, headers=headers)


def _headers(digest: str, encoding: str | None = None) -> dict[str, str]:
    """A browser keeps it and asks about it each time. Compressed it is another thing, and has another ETag."""
    known = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if encoding is None:
        return {**known, "ETag": f'"{digest}"'}
    return {**known, "ETag": f'"{digest}-{encoding}"', "Content-Encoding": encoding}


class Assets(StaticFiles):
    """Serves the files that are in a folder now.

    Small ones are read now, so that the first page of a service that has just started waits for none; the others when
    they are first asked for, on a thread.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        self.files = {path.relative_to(folder).as_posix(): File(path) for path in paths}
        for file in self.files.values():
            if file.is_small:
                file.keep()

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, by its path within the folder."""
        file = self.files.get(path) if scope["method"] in ("GET", "HEAD") else None
        if file is None:
            return await super().get_response(path, scope)  # it says why not
        if not file.is_small:
            await run_in_threadpool(file.keep)
        return file.answer(Headers(scope=scope))
