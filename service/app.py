"""Puts the service together: the one place that knows every concrete class.

Who uses it: `cli` to serve, tests to call without a network. Settings are read here once and handed down as plain
values. Start and end are the lifespan's: open the store, start the runner and what forgets old jobs; on the way out,
the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from ulid import LaxMonotonicPolicy, ULIDGenerator

from service import __version__, catalog
from service.api import (
    atomicity,
    events,
    experiments,
    guard,
    jobs,
    metrics,
    middleware,
    openapi,
    pages,
    pictures,
    planner,
    problems,
    scenarios,
    system,
)
from service.api.access import JobAccess
from service.api.requests import RequestLimits, RequestUnion
from service.errors import ThreadlabError
from service.executors.base import JobExecutor, Kept
from service.executors.interpreters import Interpreters
from service.executors.local import LocalExecutor, LocalLimits
from service.experimenter import Experimenter
from service.observer import Observer, nobody
from service.retention import Retention
from service.runner import Runner, RunnerLimits
from service.settings import Settings
from service.stores import make_store

__all__ = ["create_app", "local_executor"]


def create_app(
    settings: Settings, executor: JobExecutor | None = None, found: catalog.Catalog | None = None
) -> FastAPI:
    """Return the service as an ASGI app.

    `app.state.drain()` takes no more jobs and lets the running ones end; a server calls it when it is told to stop,
    since requests that wait for a job would else be waited for. The end of the lifespan calls it in any case.
    `app.state.refusal` is why the lifespan did not begin, where that is an error of ours, and else None.

    Args:
        executor: what runs jobs; by default children on this machine.
        found: what can be run; by default all scenarios on this machine.
    """
    requests = RequestUnion(found or catalog.find(), _request_limits(settings))
    found = requests.catalog
    counted = metrics.Metrics()
    store = make_store(settings.database_url, counted.observe)
    executor = executor or local_executor(found, settings, counted.observe)
    runner = Runner(store, executor, found, _runner_limits(settings), observe=counted.observe)
    counted.watch(runner)
    new_job_id = _new_ids("job")  # one for all jobs: what is posted sorts among the runs of an experiment
    experimenter = Experimenter(runner, store, found, new_job_id, max_queued=settings.max_queued_experiments)
    retention = Retention(store, None if settings.retention_s == "never" else settings.retention_s)
    access = JobAccess(runner, store, settings.max_wait_s, settings.retry_after_s)
    intake = jobs.Intake(access, found, requests, executor, new_job_id)
    limits = planner.ExperimentLimits(max_cells=settings.max_cells, max_repeats=settings.max_repeats)
    experiment_planner = planner.ExperimentPlanner(found, requests, executor, limits, _new_ids("exp"))

    def drain() -> None:
        experimenter.close()
        runner.close(settings.shutdown_grace_s)
        experimenter.join()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(store.open)
            try:
                await asyncio.to_thread(runner.start)
                await asyncio.to_thread(experimenter.start)
                retention.start()
                async with counted.watching_the_loop():
                    yield
            finally:
                await asyncio.to_thread(retention.close)
                await asyncio.to_thread(app.state.drain)
                await asyncio.to_thread(store.close)
        except ThreadlabError as exc:
            app.state.refusal = exc
            raise

    app = _App(
        title="Threadlab",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        max_body_size=settings.max_body_bytes,
    )
    app.state.drain = drain
    app.state.refusal = None
    app.state.settings = settings
    app.state.traffic = counted
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    problems.install(app, requests)
    # The page comes first: FastAPI gets a router ready when a request first passes it, 30 ms here for those below.
    files = pages.assets()
    app.mount(pages.ASSETS, files, name="assets")
    for router in (
        pages.make_router("Threadlab", "/openapi.json", files),
        jobs.make_router(intake),
        events.make_router(access, settings.watcher_patience_s),
        pictures.make_router(access),
        atomicity.make_router(found, intake, executor),
        experiments.make_router(access, experiment_planner, experimenter),
        scenarios.make_router(found, intake, _try_limits(settings)),
        system.make_router(access, executor, _shown_limits(settings)),
        metrics.make_router(access, counted),
    ):
        app.include_router(router)
    openapi.install(app, found)
    return app


class _App(FastAPI):
    """An app whose outermost layer is ours: even an answer to a fault of the service has its request's id."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers around the endpoints."""
        given: Settings = self.state.settings
        inner = super().build_middleware_stack()
        hosts = (given.host, *given.allowed_hosts)
        guarded = guard.Guard(inner, hosts, given.cors_origins, given.body_timeout_s, problems.refused)
        return middleware.RequestContext(guarded, problems.too_large, self.state.traffic)


def local_executor(found: catalog.Catalog, settings: Settings, observe: Observer = nobody) -> LocalExecutor:
    """Return an executor that runs jobs on this machine, not started."""
    return LocalExecutor(
        LocalLimits(
            startup_timeout_s=settings.startup_timeout_s,
            cancel_grace_s=settings.cancel_grace_s,
            kill_timeout_s=settings.kill_timeout_s,
            memory_bytes=settings.child_memory_bytes,
            threads=settings.max_threads,
            open_files=settings.child_open_files,
            file_bytes=settings.child_file_bytes,
            processes=settings.child_processes,
            isolate=settings.child_isolation,
        ),
        Interpreters(given=settings.interpreters, search=settings.find_interpreters),
        kept=[scenario.digest for scenario in found],
        observe=observe,
    )


def _runner_limits(settings: Settings) -> RunnerLimits:
    return RunnerLimits(
        cpu_slots=settings.cpu_slots,
        wait_slots=settings.wait_slots,
        max_queued=settings.max_queued,
        kept=Kept(output_bytes=settings.max_output_bytes, events=settings.max_events),
        retry_after_s=settings.retry_after_s,
    )


def _request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        most={"threads": settings.max_threads, "iterations": settings.max_iterations},
        default_timeout_s=settings.default_timeout_s,
        max_timeout_s=settings.max_timeout_s,
    )


def _try_limits(settings: Settings) -> scenarios.TryLimits:
    return scenarios.TryLimits(
        timeout_s=settings.try_timeout_s, threads=min(settings.try_max_threads, settings.max_threads)
    )


def _shown_limits(settings: Settings) -> dict[str, float]:
    values: dict[str, Any] = settings.model_dump()
    hidden = {"port", "retry_after_s"}
    return {name: value for name, value in values.items() if type(value) in (int, float) and name not in hidden}


def _new_ids(kind: str) -> Callable[[], str]:
    """Ids that sort by time, within one millisecond, too."""
    generator = ULIDGenerator(policy=LaxMonotonicPolicy())

    def new_id() -> str:
        return f"{kind}_{generator.generate()!s}".lower()

    return new_id


def _operation_id(route: APIRoute) -> str:
    return route.name
