"""`/metrics`: what the service does, counted, for Prometheus and what reads its format.

    runner, executors, stores ── facts ──▶ Metrics ◀── answers ── middleware
                                              │ at a scrape: how full the lanes are, asked of the runner
                                              ▼
                                          /metrics

Who uses it: `app` makes one for each service. The registry is its own, nothing here is global, and no other module
knows prometheus_client. No label has a value that a client can invent: scenarios are those that the catalog accepted,
routes are templates, methods that HTTP does not define are one value.

Cost: a fact takes 0.5 to 5 µs on the thread that tells it, a whole job 20 µs, a scrape some milliseconds.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, get_args

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.requests import Request
from starlette.responses import Response

from service import observer
from service.api.access import JobAccess
from service.api.answers import documented
from service.api.middleware import Exchange
from service.runner import Runner

__all__ = ["Metrics", "make_router"]

_LOOK_S = 0.25  # between two looks at the loop: four wake-ups a second cost 0.06 % of a core, measured
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_STREAMS = ("/v1/jobs/{job_id}/events", "/v1/jobs/{job_id}/output")

# From what is too fast to matter to what is an accident, in seconds.
_MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAITS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
_WRITES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """Everything that is counted.

    Thread safety: all methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._jobs = _Jobs(self.registry)
        self._children = _Children(self.registry)
        self._database = _Database(self.registry)
        self._http = _Http(self.registry)
        self._lag = Histogram(
            "threadlab_event_loop_lag_seconds",
            f"How late the event loop woke who slept for {_LOOK_S:g} s.",
            registry=self.registry,
            buckets=_MOMENTS,
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def observe(self, fact: observer.Fact, /) -> None:
        """Count a fact."""
        match fact:
            case observer.JobFact():
                self._jobs.count(fact)
            case observer.ProcessFact():
                self._children.count(fact)
            case observer.StoreFact():
                self._database.count(fact)

    def begins(self, exchange: Exchange) -> None:
        """Count an answer."""
        self._http.begins(exchange)

    def ends(self, exchange: Exchange) -> None:
        """Count a watcher no more."""
        self._http.ends(exchange)

    def watch(self, runner: Runner) -> None:
        """Ask this runner at each scrape how full the lanes are."""
        self.registry.register(_Lanes(runner))

    @asynccontextmanager
    async def watching_the_loop(self) -> AsyncIterator[None]:
        """Measure the lag of the event loop during the block."""
        watch = asyncio.create_task(self._watch_loop())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _watch_loop(self) -> None:
        time = asyncio.get_running_loop().time
        while True:
            due = time() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self._lag.observe(max(0.0, time() - due))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return everything in the format that a header `Accept` prefers, and the media type of that."""
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # the library compares a version that is no number with one that is
            encode, media_type = choose_encoder("")
        return encode(self.registry), media_type


class _Jobs:
    """What becomes of jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        each: dict[str, Any] = {"registry": registry, "labelnames": ["scenario", "lane"]}
        self._accepted = Counter("threadlab_jobs_accepted_total", "New jobs that are on disk.", **each)
        self._taken_up = Counter(
            "threadlab_jobs_taken_up_total", "Jobs that an earlier service had accepted and not finished.", **each
        )
        self._ended = Counter(
            "threadlab_jobs_ended_total",
            "Jobs whose end is on disk, by the state that they ended in.",
            ["scenario", "lane", "state"],
            registry=registry,
        )
        self._refused = Counter(
            "threadlab_jobs_refused_total", "Jobs that were not taken.", ["reason"], registry=registry
        )
        self._put_back = Counter(
            "threadlab_jobs_put_back_total",
            "Runs after which a job waits again: it could not be run this time, or the service was stopped.",
            ["reason"],
            registry=registry,
        )
        self._queued = Histogram(
            "threadlab_job_queue_seconds",
            "How long jobs that ran to an end had waited, from accepted to taken up.",
            ["lane"],
            registry=registry,
            buckets=_WAITS,
        )
        _begin(self._refused, observer.RefusalReason)
        _begin(self._put_back, observer.PutBackReason)

    def count(self, fact: observer.JobFact) -> None:
        """Count what became of a job."""
        job = fact.job
        match fact:
            case observer.JobAccepted():
                self._accepted.labels(job.scenario, job.lane).inc()
            case observer.JobTakenUp():
                self._taken_up.labels(job.scenario, job.lane).inc()
            case observer.JobRefused(reason=reason):
                self._refused.labels(reason).inc()
            case observer.JobPutBack(reason=reason):
                self._put_back.labels(reason).inc()
            case observer.JobEnded():
                self._ended.labels(job.scenario, job.lane, job.status.value).inc()
                queued_s = job.result and job.result["timings"]["queued_s"]
                if queued_s is not None:
                    self._queued.labels(job.lane).observe(queued_s)


class _Children:
    """Children and the fork servers that they come from."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "threadlab_children_started_total", "Children that a fork server was asked for.", registry=registry
        )
        self._ended = Counter(
            "threadlab_children_ended_total",
            "Children that are gone, or never came to be, by cause; `signal` is the one that ended it, ours or not.",
            ["cause", "signal"],
            registry=registry,
        )
        self._startup = Histogram(
            "threadlab_child_startup_seconds",
            "From asking for a child to the start of its scenario.",
            registry=registry,
            buckets=_MOMENTS,
        )
        self._servers_started = Counter(
            "threadlab_fork_servers_started_total", "Fork servers that have come up.", registry=registry
        )
        self._servers_ended = Counter(
            "threadlab_fork_servers_ended_total",
            "Fork servers that are gone: they died, were unwell and ended, or were closed with the service.",
            ["cause"],
            registry=registry,
        )
        _begin(self._servers_ended, observer.ServerCause)

    def count(self, fact: observer.ProcessFact) -> None:
        """Count a start or an end."""
        match fact:
            case observer.ChildStarted():
                self._started.inc()
            case observer.ChildEnded(cause=cause, signal=signal, startup_s=startup_s):
                self._ended.labels(cause, signal or "").inc()
                if startup_s is not None:
                    self._startup.observe(startup_s)
            case observer.ForkServerStarted():
                self._servers_started.inc()
            case observer.ForkServerEnded(cause=cause):
                self._servers_ended.labels(cause).inc()


class _Database:
    """Commits and reads; nothing where jobs are kept in memory."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._commit = Histogram(
            "threadlab_store_commit_seconds",
            "How long transactions took, the sync of the disk included.",
            registry=registry,
            buckets=_MOMENTS,
        )
        self._writes = Histogram(
            "threadlab_store_commit_writes",
            "How many writes shared a transaction.",
            registry=registry,
            buckets=_WRITES,
        )
        self._failures = Counter(
            "threadlab_store_commit_failures_total", "Transactions that wrote nothing.", registry=registry
        )
        self._read = Histogram(
            "threadlab_store_read_seconds",
            "How long reads held a connection.",
            registry=registry,
            buckets=_MOMENTS,
        )

    def count(self, fact: observer.StoreFact) -> None:
        """Count a commit or a read."""
        match fact:
            case observer.ReadDone():
                self._read.observe(fact.took_s)
            case observer.Committed(writes=writes, failed=failed):
                self._commit.observe(fact.took_s)
                self._writes.observe(writes)
                self._failures.inc(failed)


class _Http:
    """Requests and their answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "threadlab_http_requests_total",
            "Requests by method, template of their address and status; `none`: no such address, or nobody to answer.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._waited = Histogram(
            "threadlab_http_request_seconds",
            "From a request's headers to its answer's, the time that `Prefer: wait` asks for included.",
            ["method", "route"],
            registry=registry,
            buckets=_MOMENTS,
        )
        self._watchers = Gauge(
            "threadlab_watchers", "Clients to whom a job's events or output are sent.", ["route"], registry=registry
        )
        for route in _STREAMS:
            self._watchers.labels(route)

    def begins(self, exchange: Exchange) -> None:
        """Count an answer."""
        method = exchange.method if exchange.method in _METHODS else "other"
        route = exchange.route or "none"
        self._requests.labels(method, route, exchange.status or "none").inc()
        self._waited.labels(method, route).observe(exchange.waited_s)
        if _is_stream(exchange):
            self._watchers.labels(route).inc()

    def ends(self, exchange: Exchange) -> None:
        """Count a watcher no more."""
        if _is_stream(exchange):
            self._watchers.labels(exchange.route).dec()


class _Lanes:
    """How full the lanes are, asked at each scrape: what the runner knows anyway is not counted a second time."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        queued = GaugeMetricFamily("threadlab_jobs_queued", "Jobs that wait.", labels=["lane"])
        running = GaugeMetricFamily("threadlab_jobs_running", "Jobs that run.", labels=["lane"])
        slots = GaugeMetricFamily("threadlab_lane_slots", "Jobs that can run at once.", labels=["lane"])
        oldest = GaugeMetricFamily(
            "threadlab_queue_oldest_seconds", "Age of the oldest job that waits; 0 where none does.", labels=["lane"]
        )
        for lane, count in self._runner.lanes().items():
            queued.add_metric([lane], count.queued)
            running.add_metric([lane], count.running)
            slots.add_metric([lane], count.slots)
        for lane, age_s in self._runner.oldest_s().items():
            oldest.add_metric([lane], age_s)
        return queued, running, slots, oldest


def _begin(counter: Counter, values: Any) -> None:
    """Let a counter begin at 0 for each value of a Literal: an increase from nothing is none to Prometheus."""
    for value in get_args(values):
        counter.labels(value)


def _is_stream(exchange: Exchange) -> bool:
    return exchange.streams and exchange.route in _STREAMS


def make_router(access: JobAccess, counted: Metrics) -> APIRouter:
    """Return the endpoint that Prometheus asks."""
    router = APIRouter(tags=["system"])
    text = {"schema": {"type": "string"}}
    answer = {
        "description": "Prometheus's text format, or OpenMetrics for who accepts that.",
        "content": {"text/plain": text, "application/openmetrics-text": text},
    }

    @router.get("/metrics", response_class=Response, responses={200: answer, **documented()})
    async def get_metrics(request: Request) -> Response:
        """What the service does, counted: jobs, lanes, children, database, HTTP, event loop, the process itself."""
        body, media_type = await access.blocking(counted.exposition, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type})

    return router
