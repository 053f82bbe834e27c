"""What a body of JSON may hold, whatever it is for: texts that every store can keep, and no depths.

Who uses it: every group of endpoints that reads bodies, as `APIRouter(route_class=JsonRoute)`, and `jobs` for what a
query string stands for. What passes here can be walked by recursion, written as JSON again, and stored in any database.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["MOST_TOLD", "NO_NUL", "JsonRoute", "faults", "load"]

NO_NUL = r"^[^\x00]*$"
"""A pattern of texts that every database can look for."""

_MOST_LEVELS = 32  # of lists and objects in each other: four times the deepest request there is
MOST_TOLD = 20  # mistakes in one answer

_UNFIT = re.compile(r"[\x00\ud800-\udfff]")  # PostgreSQL has no text with NUL, and UTF-8 none with half a character

_Fault = dict[str, Any]  # as pydantic's: type, loc, msg, input


class _Twice(dict[str, Any]):
    """An object of which JSON named a member twice, so that readers may differ on what it says."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]


class JsonRoute(APIRoute):
    """A route that refuses a body which is no JSON, or which nobody could keep."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler with another way to read a body."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


class _JsonRequest(Request):
    async def json(self) -> Any:
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise HTTPException(415, f"The body is sent as {coding:.20}", {"Accept-Encoding": "identity"})
        try:
            value = load((await self.body()).decode("utf-8-sig"))
        except UnicodeDecodeError as exc:
            raise _invalid(f"It is not UTF-8, at byte {exc.start}") from exc
        found = [{**each, "loc": ("body", *each["loc"])} for each in faults(value)]
        if found:
            raise RequestValidationError(found, body=value)
        return value


def load(text: str) -> Any:
    """Return the value that a text of JSON holds.

    Raises:
        json.JSONDecodeError: it holds none.
        RequestValidationError: it holds one that is too large for Python to read.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except RecursionError as exc:
        raise _invalid(f"It is nested deeper than {_MOST_LEVELS} levels") from exc
    except ValueError as exc:  # Python reads no number of more than 4,300 digits
        raise _invalid("It holds a number of thousands of digits") from exc


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Twice(pairs)


def _invalid(text: str) -> RequestValidationError:
    return RequestValidationError([{"type": "unreadable", "loc": ("body",), "msg": text, "input": None}])


def faults(value: Any) -> list[_Fault]:
    """Return what in a JSON value nobody could keep, as pydantic tells its errors; of many the first ones."""
    found: list[_Fault] = []
    for text, place in _walk(value):
        found.append({"type": "unfit", "loc": place, "msg": text, "input": None})
        if len(found) == MOST_TOLD:
            break
    return found


def _walk(value: Any) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Yield what is wrong and where, without recursion: the value may be as deep as it likes."""
    left: list[tuple[Any, tuple[str | int, ...]]] = [(value, ())]
    while left:
        value, place = left.pop()
        if isinstance(value, str) and _UNFIT.search(value):
            yield "Text must not hold U+0000 or half of a surrogate pair", place
        elif isinstance(value, (dict, list)) and len(place) >= _MOST_LEVELS:
            yield f"It is nested deeper than {_MOST_LEVELS} levels", place
        elif isinstance(value, list):
            left += [(each, (*place, index)) for index, each in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            if any(map(_UNFIT.search, value)):
                yield "A name must not hold U+0000 or half of a surrogate pair", place
                continue
            if isinstance(value, _Twice):
                yield from (("It stands there twice", (*place, name)) for name in value.names)
            left += [(each, (*place, name)) for name, each in reversed(value.items())]
