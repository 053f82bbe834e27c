"""What can run jobs, the limits in force, and the probes."""

from dataclasses import asdict

from fastapi import APIRouter
from starlette.responses import Response

from service.api.answers import Desk, JsonAnswer, documented
from service.api.schemas import Capacity, Health, InterpreterList
from service.executors.base import JobExecutor
from service.stores.base import JobQuery

__all__ = ["make_router"]


def make_router(desk: Desk, executor: JobExecutor, limits: dict[str, float]) -> APIRouter:
    """Return the endpoints that speak of the service itself.

    Args:
        limits: what `/v1/capacity` shows, by the names of the settings.
    """
    router = APIRouter(tags=["system"])

    @router.get("/v1/interpreters", response_model=InterpreterList, response_class=JsonAnswer, responses=documented())
    async def list_interpreters() -> Response:
        """List the interpreters that were found, the default first, and why some cannot run jobs."""
        found = await desk.blocking(executor.interpreters)
        return JsonAnswer({"interpreters": [asdict(each) for each in found]})

    @router.get("/v1/capacity", response_model=Capacity, response_class=JsonAnswer, responses=documented(503))
    async def get_capacity() -> Response:
        """Show how full the lanes are, the limits in force, and what keeps scenarios in on this system."""
        walls = await desk.blocking(executor.walls)
        lanes = {lane: asdict(count) for lane, count in desk.runner.lanes().items()}
        return JsonAnswer({"lanes": lanes, "limits": limits, "walls": [asdict(wall) for wall in walls]})

    @router.get("/healthz", response_model=Health, response_class=JsonAnswer, responses=documented())
    async def get_health() -> Response:
        """Answer as long as the process does."""
        return JsonAnswer({"status": "ok"})

    @router.get("/readyz", response_model=Health, response_class=JsonAnswer, responses=documented(503))
    async def get_readiness() -> Response:
        """Answer whether jobs can be taken and run: the database answers, and a fork server is up."""
        await desk.blocking(desk.store.page, JobQuery(limit=1))
        await desk.blocking(executor.start)
        return JsonAnswer({"status": "ready"})

    return router
