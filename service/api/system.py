"""What can run jobs, the limits in force, and the probes."""

import asyncio
import contextvars
import logging
from collections.abc import Callable
from dataclasses import asdict

from fastapi import APIRouter
from starlette.responses import Response

from service.api.access import JobAccess
from service.api.answers import JsonAnswer, documented
from service.api.schemas import Capacity, Health, InterpreterList
from service.errors import NotReady, ThreadlabError
from service.executors.base import JobExecutor

__all__ = ["make_router"]

_log = logging.getLogger(__name__)

_LOOK_S = 0.8  # Kubernetes gives a probe one second unless it is told otherwise; a part that is well takes milliseconds


class _Part:
    """A part of the service that has to be well. Lives on the event loop.

    At most one look is under way, which all share who ask meanwhile: one that hangs holds one thread, and that is none
    of those on which endpoints wait.

    Args:
        look: raises what is wrong; may block.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._looking: asyncio.Future[str | None] | None = None
        self._last: str | None = None  # what the look before found

    async def ailment(self) -> str | None:
        """Return what is wrong, in time; None if nothing is."""
        looking = self._looking
        if looking is None or looking.done():
            self._last = None if looking is None else looking.result()
            looking = self._looking = self._begin()
        await asyncio.wait((looking,), timeout=_LOOK_S)  # unlike wait_for, it leaves the look alone
        if looking.done():  # this very one: whoever came after its end has begun another
            return looking.result()
        return " ".join(filter(None, (f"It did not answer within {_LOOK_S:g} s.", self._last)))

    def _begin(self) -> asyncio.Future[str | None]:
        """Look, as `to_thread` does, but at once: a loop that is behind is no fault of the part's."""
        within = contextvars.copy_context().run  # the log tells the request's id
        return asyncio.get_running_loop().run_in_executor(None, within, self._found)

    def _found(self) -> str | None:
        try:
            self._look()
        except ThreadlabError as exc:
            return str(exc)
        except Exception:  # noqa: BLE001  whatever it is, the part is unwell
            _log.exception("a part of the service could not be looked at")
            return "It could not be looked at; the service's log says why."
        return None


def make_router(access: JobAccess, executor: JobExecutor, limits: dict[str, float]) -> APIRouter:
    """Return the endpoints that speak of the service itself.

    Args:
        limits: what `/v1/capacity` shows, by the names of the settings.
    """
    router = APIRouter(tags=["system"])
    parts = {"store": _Part(access.store.probe), "executor": _Part(executor.start)}

    @router.get("/v1/interpreters", response_model=InterpreterList, response_class=JsonAnswer, responses=documented())
    async def list_interpreters() -> Response:
        """List the interpreters that were found, the default first, and why some cannot run jobs."""
        found = await access.blocking(executor.interpreters)
        return JsonAnswer({"interpreters": [asdict(each) for each in found]})

    @router.get("/v1/capacity", response_model=Capacity, response_class=JsonAnswer, responses=documented(503))
    async def get_capacity() -> Response:
        """Show how full the lanes are, the limits in force, and what keeps scenarios in on this system."""
        walls = await access.blocking(executor.walls)
        lanes = {lane: asdict(count) for lane, count in access.runner.lanes().items()}
        return JsonAnswer({"lanes": lanes, "limits": limits, "walls": [asdict(wall) for wall in walls]})

    @router.get("/healthz", response_model=Health, response_class=JsonAnswer, responses=documented())
    async def get_health() -> Response:
        """Answer as long as the process does."""
        return JsonAnswer({"status": "ok"})

    @router.get("/readyz", response_model=Health, response_class=JsonAnswer, responses=documented(503))
    async def get_readiness() -> Response:
        """Answer whether jobs can be taken and run: the database takes writes, and a fork server is up.

        A part that does not answer within 0.8 seconds is unwell. What is wrong with which part stands in `parts`.
        """
        ailments = await asyncio.gather(*(part.ailment() for part in parts.values()))
        if any(ailments):
            raise NotReady(dict(zip(parts, ailments, strict=True)))
        return JsonAnswer({"status": "ready"})

    return router
