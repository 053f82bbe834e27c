"""What may stand at a place of a request, and which of it is nearest to what stands there.

Who uses it: `problems`. Pure.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["by_context", "closest", "did_you_mean", "keywords", "nearest", "resolve"]


def resolve(schema: Mapping[str, Any], path: list[Any]) -> dict[str, Any]:
    """Return the part of a JSON Schema that speaks of a place in a value; empty where it says nothing."""
    part: Any = schema
    for step in [None, *path]:
        if step is not None:
            part = part.get("items", {}) if isinstance(step, int) else part.get("properties", {}).get(step, {})
        if "anyOf" in part:  # an optional value: what it is when it is there
            part = next((each for each in part["anyOf"] if each.get("type") != "null"), part)
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return dict(part)


def keywords(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a part of a JSON Schema demands of a value."""
    left_out = ("title", "description", "default", "items", "properties", "$defs", "required", "additionalProperties")
    return {name: value for name, value in schema.items() if name not in left_out} or None


def by_context(error: Mapping[str, Any]) -> Any:
    """Return what may stand where one of pydantic's errors was found, as far as the error says."""
    context = error.get("ctx", {})
    if "expected" in context:
        return re.findall(r"'([^']*)'", context["expected"])
    size = {"Dictionary": "Properties"}.get(context["field_type"], "Items") if "field_type" in context else "Length"
    names = {
        "ge": "minimum",
        "le": "maximum",
        "gt": "exclusiveMinimum",
        "lt": "exclusiveMaximum",
        "min_length": f"min{size}",
        "max_length": f"max{size}",
        "pattern": "pattern",
    }
    return {names[name]: value for name, value in context.items() if name in names} or None


def nearest(given: Any, allowed: Any) -> Any:
    """Return the valid value closest to the one given, where that can be said."""
    if isinstance(allowed, list):
        return closest(str(given), allowed)
    if not isinstance(allowed, Mapping):
        return None
    names = allowed.get("enum") or ([allowed["const"]] if "const" in allowed else None)
    if names is not None:
        return closest(str(given), names)
    if allowed.get("type") == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(str(given).lower())
    return _nearest_number(given, allowed) if allowed.get("type") in ("integer", "number", None) else None


def _nearest_number(given: Any, allowed: Mapping[str, Any]) -> float | None:
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return _clamp(number, allowed) if math.isfinite(number) else None


def _clamp(number: float, allowed: Mapping[str, Any]) -> float | None:
    if number < allowed.get("minimum", number):
        number = allowed["minimum"]
    if number > allowed.get("maximum", number):
        number = allowed["maximum"]
    if number <= allowed.get("exclusiveMinimum", number - 1) or number >= allowed.get("exclusiveMaximum", number + 1):
        return None  # there is no nearest number to an open end
    return round(number) if allowed.get("type") == "integer" else number


def closest(given: str, known: Any) -> Any:
    """Return the one that was probably meant."""
    texts = {str(each): each for each in known}
    found = difflib.get_close_matches(given, texts, n=1, cutoff=0.5)
    return texts[found[0]] if found else None


def did_you_mean(meant: str | None) -> str:
    """Return what was probably meant as a sentence to append; nothing where nothing was."""
    return f" Did you mean {meant!r}?" if meant else ""
