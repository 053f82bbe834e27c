"""What `/metrics` counts, read as Prometheus reads it and held against what was done."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from service import errors
from service.app import create_app
from service.catalog import Catalog, Scenario
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings
from tests.api.client import Client
from tests.executors.helpers import make_order, write_scenario
from tests.support import wait_until

MakeClient = Callable[..., Client]
Labels = tuple[str, ...]

BODIES = {
    "good": "pass",
    "raising": "raise ValueError('no')",
    "sleeping": "time.sleep(60)",
    "killed": "os.kill(os.getpid(), 15)\ntime.sleep(60)",
    "leaving": "os._exit(3)",
    "babbling": "os.write(3, b'no frame\\n')\ntime.sleep(60)",
}


class Scrape:
    """The samples of one answer."""

    def __init__(self, client: Client) -> None:
        self.text = client.get("/metrics").text
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return a sample."""
        return self.samples[name, frozenset(labels.items())]

    def table(self, name: str, *labels: str) -> dict[Labels, float]:
        """Return all samples of a name that are not 0, by the values of these labels, which are all that it has."""
        found = {}
        for (each, pairs), value in self.samples.items():
            if each == name and value:
                assert set(labels) == set(dict(pairs))
                found[tuple(dict(pairs)[label] for label in labels)] = value
        return found


def scenario(name: str, body: str) -> Scenario:
    """A scenario of the lane `wait` with this body."""
    source = write_scenario(body)
    module = ModuleType(name)
    exec(compile(source, name, "exec", dont_inherit=True), vars(module))
    module.LANE = "wait"  # type: ignore[attr-defined]
    return Scenario(name, name, "a test", name, source, make_order(source).digest, "tests", module, ())


@pytest.fixture
def start(tmp_path: Path, catalog: Catalog) -> Callable[[], Client]:
    """Make a client of a service with a database and children on this machine, where the scenarios above can be run."""
    database_url = f"sqlite:///{tmp_path / 'jobs.db'}"
    settings = Settings(database_url=database_url, find_interpreters=False, shutdown_grace_s=0.0, wait_slots=4)
    found = Catalog([*catalog, *(scenario(name, body) for name, body in BODIES.items())])
    return lambda: Client(create_app(settings, found=found))


@pytest.fixture
def real(start: Callable[[], Client]) -> Iterator[Client]:
    """A client of such a service."""
    with start() as client:
        yield client


def test_ends_of_jobs_and_children_are_counted(real: Client) -> None:
    """Each job is counted once by the state that it ended in, and each child by what ended it."""
    for _ in range(3):
        real.run({"scenario": "good", "label": "the-label-of-a-client"})
    for _ in range(2):
        real.run({"scenario": "raising"})
    for _ in range(2):
        real.run({"scenario": "sleeping", "timeout_s": 0.2})
    for name in ("killed", "leaving", "babbling"):
        real.run({"scenario": name})
    job = real.submit({"scenario": "sleeping"})
    wait_until(lambda: "started" in real.get(f"/v1/jobs/{job['id']}/events").text)
    real.post(f"/v1/jobs/{job['id']}/cancel")
    seen = Scrape(real)
    assert {
        ("good", "wait", "succeeded"): 3,
        ("raising", "wait", "failed"): 2,
        ("sleeping", "wait", "timed_out"): 2,
        ("sleeping", "wait", "cancelled"): 1,
        ("killed", "wait", "lost"): 1,
        ("leaving", "wait", "lost"): 1,
        ("babbling", "wait", "lost"): 1,
    } == seen.table("threadlab_jobs_ended_total", "scenario", "lane", "state")
    accepted = {("good",): 3, ("raising",): 2, ("sleeping",): 3, ("killed",): 1, ("leaving",): 1, ("babbling",): 1}
    assert {(*name, "wait"): number for name, number in accepted.items()} == seen.table(
        "threadlab_jobs_accepted_total", "scenario", "lane"
    )
    assert {
        ("exited", ""): 6,
        ("timed_out", "SIGKILL"): 2,
        ("cancelled", "SIGKILL"): 1,
        ("signal", "SIGTERM"): 1,
        ("broken_protocol", "SIGKILL"): 1,
    } == seen.table("threadlab_children_ended_total", "cause", "signal")
    assert 11 == seen.value("threadlab_children_started_total")
    assert 11 == seen.value("threadlab_child_startup_seconds_count")
    assert 11 == seen.value("threadlab_job_queue_seconds_count", lane="wait")
    assert 1 == seen.value("threadlab_fork_servers_started_total")
    assert {} == seen.table("threadlab_fork_servers_ended_total", "cause")
    assert {} == seen.table("threadlab_jobs_put_back_total", "reason")
    assert "the-label-of-a-client" not in seen.text


def test_commits_and_reads_are_counted(real: Client) -> None:
    """Every write is in one commit, and a read of a finished job is one read."""
    commits = "threadlab_store_commit_seconds_count"
    wait_until(lambda: Scrape(real).value(commits))  # the look at the clock with which retention begins
    before = Scrape(real)
    job = real.run({"scenario": "good"})
    between = Scrape(real)
    for _ in range(5):
        real.get(f"/v1/jobs/{job['id']}")
    after = Scrape(real)
    writes = "threadlab_store_commit_writes_sum"
    assert 3 == between.value(writes) - before.value(writes)  # accepted, running, ended
    assert 1 <= between.value(commits) - before.value(commits) <= 3
    assert 0 == after.value("threadlab_store_commit_failures_total")
    reads = "threadlab_store_read_seconds_count"
    assert 5 == after.value(reads) - between.value(reads)
    assert 0 < after.value("threadlab_store_read_seconds_sum") < 60


def test_jobs_taken_up_again_are_counted(start: Callable[[], Client]) -> None:
    """A job that an earlier service left is counted as taken up, not as accepted, and ends like any other."""
    with start() as first:
        job = first.submit({"scenario": "sleeping", "timeout_s": 0.5})
        wait_until(lambda: first.state(job) == "running")
    with start() as second:
        second.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})
        seen = Scrape(second)
    assert {("sleeping", "wait"): 1} == seen.table("threadlab_jobs_taken_up_total", "scenario", "lane")
    assert {} == seen.table("threadlab_jobs_accepted_total", "scenario", "lane")
    ended = {("sleeping", "wait", "timed_out"): 1}
    assert ended == seen.table("threadlab_jobs_ended_total", "scenario", "lane", "state")


def test_lanes_are_told_as_they_are(make_client: MakeClient, gate: Any, holding: ScriptedExecutor) -> None:
    """How many jobs wait and run, the slots, the age of the oldest that waits, and how many were refused."""
    client = make_client(holding, max_queued=2)
    for _ in range(3):
        client.submit({"scenario": "counter"})
        wait_until(lambda: client.get("/v1/capacity").json()["lanes"]["cpu"]["running"] == 1)
    assert 503 == client.post("/v1/jobs", json={"scenario": "counter"}).status_code
    seen = Scrape(client)
    assert {("cpu",): 2} == seen.table("threadlab_jobs_queued", "lane")
    assert {("cpu",): 1} == seen.table("threadlab_jobs_running", "lane")
    assert {("cpu",): 1, ("wait",): 1000} == seen.table("threadlab_lane_slots", "lane")
    assert {("queue_full",): 1} == seen.table("threadlab_jobs_refused_total", "reason")
    age = seen.value("threadlab_queue_oldest_seconds", lane="cpu")
    assert 0 < age < 60
    assert Scrape(client).value("threadlab_queue_oldest_seconds", lane="cpu") > age
    gate.set()
    wait_until(lambda: Scrape(client).table("threadlab_queue_oldest_seconds", "lane") == {})
    assert 0 == Scrape(client).value("threadlab_queue_oldest_seconds", lane="cpu")


def test_jobs_put_back_are_counted(make_client: MakeClient) -> None:
    """A run that could not be made is counted each time the job goes back."""
    refusals = iter([errors.ForkFailed("No more."), errors.ForkServerDied("It ended.")])

    class Stumbling(ScriptedExecutor):
        def run(self, *args: Any) -> Any:
            for refusal in refusals:
                raise refusal
            return super().run(*args)

    client = make_client(Stumbling())
    assert 3 == client.run({"scenario": "daemon"})["attempt"]
    assert {("not_run",): 2} == Scrape(client).table("threadlab_jobs_put_back_total", "reason")


def test_requests_are_counted_by_template(client: Client) -> None:
    """An address is told by its template, and what a client makes up is told as one and the same."""
    job = client.run({"scenario": "daemon"})
    for _ in range(2):
        client.get(f"/v1/jobs/{job['id']}")
    client.get("/v1/jobs/job_that_is_not_there")
    client.get("/an/address/of-a-client")
    client.request("FROB", "/healthz")
    client.request("FROB", "/another/address")
    client.get("/healthz", headers={"Host": "evil.example"})
    seen = Scrape(client)
    assert {
        ("POST", "/v1/jobs", "200"): 1,
        ("GET", "/v1/jobs/{job_id}", "200"): 2,
        ("GET", "/v1/jobs/{job_id}", "404"): 1,
        ("GET", "none", "404"): 1,
        ("other", "/healthz", "405"): 1,
        ("other", "none", "404"): 1,
        ("GET", "none", "421"): 1,
    } == seen.table("threadlab_http_requests_total", "method", "route", "status")
    assert 3 == seen.value("threadlab_http_request_seconds_count", method="GET", route="/v1/jobs/{job_id}")
    for word in ("of-a-client", "FROB", job["id"], "evil"):
        assert word not in seen.text


def test_watchers_are_counted_while_they_watch(held: Client, gate: Any) -> None:
    """Who follows a job's events or output is counted as long as that lasts; a page of events is no watching."""
    job = held.submit({"scenario": "daemon"})
    stream = {"Accept": "text/event-stream"}
    watching = [held.ask("GET", f"/v1/jobs/{job['id']}/events", headers=stream) for _ in range(2)]
    watching.append(held.ask("GET", f"/v1/jobs/{job['id']}/output"))
    held.get(f"/v1/jobs/{job['id']}/events")
    expected = {("/v1/jobs/{job_id}/events",): 2, ("/v1/jobs/{job_id}/output",): 1}
    wait_until(lambda: Scrape(held).table("threadlab_watchers", "route") == expected)
    gate.set()
    assert [200, 200, 200] == [each.result(30).status_code for each in watching]
    wait_until(lambda: Scrape(held).table("threadlab_watchers", "route") == {})


def test_lag_of_the_event_loop_is_measured(client: Client) -> None:
    """A loop that is held up is seen to have been late, by as much."""
    held_s = 0.6
    wait_until(lambda: Scrape(client).value("threadlab_event_loop_lag_seconds_count") >= 1)
    before = Scrape(client).value("threadlab_event_loop_lag_seconds_sum")
    client._loop.call_soon_threadsafe(time.sleep, held_s)
    wait_until(lambda: Scrape(client).value("threadlab_event_loop_lag_seconds_sum") - before > held_s / 2)


def test_the_process_is_told(client: Client) -> None:
    """Memory, descriptors and garbage collection are there under the names that the library gives them."""
    gc.collect()
    seen = Scrape(client)
    assert seen.value("process_resident_memory_bytes") > 1_000_000
    assert seen.value("process_open_fds") > 3
    assert seen.value("python_gc_collections_total", generation="2") >= 1


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
    ],
)
def test_the_format_is_the_one_that_is_accepted(client: Client, accept: str, media_type: str) -> None:
    """Who accepts OpenMetrics gets it, who says nothing the older text, and both can be parsed."""
    response = client.get("/metrics", headers={"Accept": accept})
    assert (200, media_type) == (response.status_code, response.headers["content-type"])
    parse = parse_openmetrics if "openmetrics" in media_type else text_string_to_metric_families
    assert "threadlab_jobs_running" in {family.name for family in parse(response.text)}


@pytest.mark.parametrize("version", ["x", "", "1.0.0b", "99.x", "2.0.0"])
def test_a_version_that_is_none_is_no_fault_of_ours(client: Client, version: str) -> None:
    """A client's nonsense is answered in a format that there is."""
    for media_type in ("application/openmetrics-text", "text/plain"):
        response = client.get("/metrics", headers={"Accept": f"{media_type};version={version}"})
        assert 200 == response.status_code
        assert "threadlab_jobs_running" in response.text


def test_names_and_texts_follow_the_conventions(client: Client) -> None:
    """Every metric of ours has a text, counters end in `_total`, times are in seconds."""
    client.run({"scenario": "daemon"})
    families = {family.name: family for family in parse_openmetrics(_openmetrics(client))}
    ours = {name: family for name, family in families.items() if name.startswith("threadlab_")}
    assert len(ours) > 20
    for name, family in ours.items():
        assert family.documentation.endswith("."), name
        assert family.type in {"counter", "gauge", "histogram"}, name
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_writes")), name
    assert not [name for name in ours if "milli" in name or name.endswith("_s")]


def _openmetrics(client: Client) -> str:
    return client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text


def test_services_do_not_share_what_they_count(make_client: MakeClient) -> None:
    """Two services in one process count for themselves, and nothing is in the library's own registry."""
    first, second = make_client(), make_client()
    first.run({"scenario": "daemon"})
    assert 1 == len(Scrape(first).table("threadlab_jobs_accepted_total", "scenario", "lane"))
    assert 0 == len(Scrape(second).table("threadlab_jobs_accepted_total", "scenario", "lane"))
    assert [] == [family.name for family in REGISTRY.collect() if family.name.startswith("threadlab")]


def test_a_stranger_s_page_may_not_read_it(client: Client) -> None:
    """The border holds here as everywhere."""
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert 403 == client.get("/metrics", headers=foreign).status_code
