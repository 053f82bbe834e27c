"""What a job told, event by event."""

from pydantic import BaseModel, ConfigDict

from service.api.schemas.base import Answer
from service.events import EventType

__all__ = ["EventPage"]


class EventView(BaseModel):
    """One event; which fields it has besides depends on its type.

    - `state`: `at`, `status`, `attempt`, `reason`; the last one also `outcome`, `grade`, `meaning`.
    - `started`: `at_s`, `active_threads`; the scenario begins, and `at_s` counts from here.
    - `start`: `daemon`, `ident`, `native_id`, `active_threads`. `end`: `cpu_s`.
    - `wait`, `acquire`, `release`, `give_up`: `lock`; with `trace: locks`.
    - `note`: `text`. `progress`: `done`, `of`. `output`: `line`.

    All but the first two have `at_s`, `thread` and `number`, the thread's own number in its job; 0 is the main thread.
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    id: str
    """Grows with each event and is never used again."""
    type: EventType


class EventPage(Answer):
    """Events, in the order in which they were told."""

    events: list[EventView]
    next_cursor: str | None
    """Give this as `cursor` for what comes after; null if nothing will."""
