"""What is answered where something is wrong."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Problem"]


class FieldProblem(BaseModel):
    """One thing that is wrong with a request; where it stands, what is allowed there, and the nearest valid value."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    pointer: str | None = None
    """RFC 6901 pointer into the body, as a URI fragment."""
    parameter: str | None = None
    """Name of a query or path parameter."""
    header: str | None = None
    allowed: Any = None
    """A list of names, or JSON Schema keywords."""
    nearest: Any = None
    """The valid value closest to what was given."""


class PartHealth(BaseModel):
    """How one part of the service is."""

    name: Literal["store", "executor"]
    ready: bool
    reason: str | None
    """Why it is not."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(BaseModel):
    """An error, after RFC 9457."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """A page that says what this kind of problem means and what to do."""
    title: str
    status: int
    detail: str
    request_id: str | None = None
    """The same as in the header `X-Request-ID` and in the service's log."""
    errors: list[FieldProblem] | None = None
    parts: list[PartHealth] | None = None
    """Of a service that is not ready: all its parts, those that are well included."""
