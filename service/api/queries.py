"""What a query string may hold beside what its parameters' types say: each name once, and none that nobody reads.

Who uses it: the endpoints that read query strings. FastAPI takes the last of several values, and pydantic can refuse an
unknown name but not say which names there are.
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.requests import Request

from service.api import suggest

__all__ = ["mistake", "only", "repeated"]


def only(model: type[BaseModel]) -> Any:
    """Return the dependency of an endpoint that reads the fields of this model from its query string, and no others.

    The dependency raises:
        RequestValidationError: a name is none of the model's fields, or is given several times and is no list.
    """
    known = list(model.model_fields)
    lists = {name for name, field in model.model_fields.items() if typing.get_origin(field.annotation) is list}

    async def check(request: Request) -> None:  # async: FastAPI would send it to a thread
        found = [*repeated(request.query_params, lists), *_unknown(request.query_params, known)]
        if found:
            raise RequestValidationError(found)

    return Depends(check)


def repeated(query: QueryParams, lists: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """Return a mistake for each name that is given several times.

    Args:
        lists: names that may be.
    """
    for name, count in Counter(name for name, _ in query.multi_items()).items():
        if count > 1 and name not in lists:
            yield mistake("repeated", name, query[name], f"Give {name} once.")


def _unknown(query: QueryParams, known: list[str]) -> Iterator[dict[str, Any]]:
    for name in query:
        if name not in known:
            nearest = suggest.closest(name, known)
            text = f"There is no parameter {name[:100]!r} here.{suggest.did_you_mean(nearest)}"
            yield mistake("unknown", name, name, text, known)


def mistake(kind: str, name: str, value: Any, text: str, known: Iterable[str] = ()) -> dict[str, Any]:
    """Return what is wrong with a parameter, as pydantic would tell it.

    Args:
        known: what would be right, where that can be listed.
    """
    expected = ", ".join(f"'{each}'" for each in known)
    return {
        "type": kind,
        "loc": ("query", name),
        "msg": text,
        "input": value,
        **({"ctx": {"expected": expected}} if expected else {}),
    }
