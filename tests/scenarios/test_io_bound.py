"""The scenario `io_bound`: the tutorial's "great for I/O-bound tasks"."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.child.lab import Cancelled, Lab
from service.child.recorder import Recorder
from service.jobs import Report
from service.scenarios import io_bound
from service.scenarios.io_bound import MEASURES, Params

Run = Callable[..., Report]

MODELS = ["sequential", "threads", "pool", "asyncio"]
WORK = ["sleep", "file", "http"]


def result(report: Report) -> Any:
    """The result of a job that has one."""
    assert report.result is not None, report.error
    return report.result


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab for a run in this process, which works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Lab(Recorder(10_000), 60.0)


def test_threads_wait_at_the_same_time_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """Eight sleeps in eight threads take less time than one after the other."""
    seen = result(run_scenario("io_bound", every_python, work="sleep", tasks=8, delay_s=0.03))
    assert (seen["outcome"], seen["grade"]) == ("speedup", "acceptable")
    assert 8 == seen["values"]["at_once"]
    assert 2 <= seen["values"]["threads_used"] <= 8  # one that starts late may find nothing left to do
    assert seen["values"]["sequential_s"] >= 8 * 0.03


def test_one_thread_downloads_all_on_every_interpreter(run_scenario: Run, every_python: str) -> None:
    """An event loop downloads in one thread, and every download has the right bytes."""
    params = {"model": "asyncio", "tasks": 12, "delay_s": 0.005, "size_bytes": 100_000, "reference": False}
    counted = result(run_scenario("io_bound", every_python, **params))["values"]
    assert (1, 8, 0, None) == tuple(counted[name] for name in ("threads_used", "at_once", "wrong", "first_wrong"))


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_does_every_kind_of_work(run_scenario: Run, model: str, work: str) -> None:
    """All tasks are done, by as many threads as the model has, and every measure is a number."""
    seen = result(run_scenario("io_bound", model=model, work=work, threads=3, tasks=7, delay_s=0.01, size_bytes=70_000))
    counted = seen["values"]
    assert (0, 7) == (counted["wrong"], counted["reference_tasks"])
    assert all(isinstance(counted[name], float) for name in MEASURES)
    used = range(1, 4) if model in {"threads", "pool"} else [1]
    assert counted["threads_used"] in used
    assert (1 if model == "sequential" else 3) == counted["at_once"]
    assert not seen["warnings"]


def test_the_numbers_fit_each_other(run_scenario: Run) -> None:
    """Speed-up, efficiency and rate are what the times say they are."""
    counted = result(run_scenario("io_bound", work="sleep", threads=4, tasks=8, delay_s=0.01))["values"]
    assert pytest.approx(counted["sequential_s"] / counted["wall_s"]) == counted["speedup"]
    assert pytest.approx(counted["speedup"] / 4) == counted["efficiency"]
    assert pytest.approx(8 / counted["wall_s"]) == counted["tasks_per_s"]
    assert 0.01 <= counted["per_task_p50_s"] <= counted["per_task_max_s"] <= counted["wall_s"]


def test_one_after_the_other_is_its_own_reference(run_scenario: Run) -> None:
    """Model `sequential` is measured once, and is as fast as itself."""
    seen = result(run_scenario("io_bound", model="sequential", work="sleep", tasks=3, delay_s=0.01))
    assert ("no_speedup", 1.0) == (seen["outcome"], seen["values"]["speedup"])
    assert seen["values"]["sequential_s"] == seen["values"]["wall_s"]


def test_without_a_reference_nothing_is_compared(run_scenario: Run) -> None:
    """Without a reference there is no speed-up to tell."""
    seen = result(run_scenario("io_bound", work="sleep", tasks=3, delay_s=0.0, reference=False))
    assert ("not_compared", "acceptable") == (seen["outcome"], seen["grade"])
    told = ("speedup", "efficiency", "sequential_s", "reference_tasks")
    assert [None, None, None, 0] == [seen["values"][name] for name in told]


def test_a_hundred_connections_are_served_at_once(run_scenario: Run) -> None:
    """The server answers a hundred clients at the same time, each with the right bytes."""
    counted = result(run_scenario("io_bound", threads=100, tasks=100, delay_s=1.0, reference=False))["values"]
    assert (100, 0) == (counted["at_once"], counted["wrong"])
    assert counted["threads_used"] > 50  # as above
    assert counted["wall_s"] < 100 * 1.0


def test_a_long_reference_is_a_sample(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time for the reference is over, the tasks that were done stand for all."""
    monkeypatch.setattr(io_bound, "_REFERENCE_S", 0.0)
    counted = io_bound.run(Params(work="sleep", threads=10, tasks=10, delay_s=0.01), lab)
    assert 1 == counted["reference_tasks"]
    assert counted["sequential_s"] >= 10 * 0.01


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("int(number)", "(int(number) + 1)"),  # another task's bytes
        ("bytes(range(256))", "bytes(256)"),  # as many bytes, but not the right ones
        ("SIZE - 8 - start]", "SIZE - 9 - start]"),  # one byte too few
        ("await asyncio.sleep(float(delay_s))", "raise ConnectionError"),  # no answer at all
    ],
)
def test_wrong_bytes_are_forbidden(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, model: Any, right: str, wrong: str
) -> None:
    """A download that is not what it should be is seen, and forbidden, however quickly it came."""
    assert right in io_bound._SERVER
    monkeypatch.setattr(io_bound, "_SERVER", io_bound._SERVER.replace(right, wrong))
    params = Params(model=model, threads=2, tasks=3, delay_s=0.0, reference=False)
    counted = io_bound.run(params, lab)
    assert ("incomplete", 3) == (counted["outcome"], counted["wrong"])
    assert counted["first_wrong"].startswith("task ")
    assert "forbidden" == io_bound.outcomes(params)["incomplete"][0]


def test_a_file_with_other_bytes_is_seen() -> None:
    """What is read back is checked: a file of the right length and another content is not let through."""
    with pytest.raises(ValueError, match="100 bytes with checksum"):
        io_bound.Content(100).read_all(7, io.BytesIO(bytes(100)).read)


def test_where_no_server_starts_it_is_unavailable(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without loopback sockets is no failure of the job: the answer says so, and has no numbers."""
    monkeypatch.setattr(io_bound, "_SERVER", "raise SystemExit('no sockets here')")
    counted = io_bound.run(Params(), lab)
    assert {"outcome": "unavailable", **dict.fromkeys(MEASURES)} == counted
    assert ["No http: The server did not start; its output says why."] == lab.warnings


def test_where_no_file_can_be_written_it_is_unavailable(lab: Lab, tmp_path: Path) -> None:
    """The same holds for files."""
    tmp_path.rmdir()
    assert "unavailable" == io_bound.run(Params(work="file"), lab)["outcome"]


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("model", MODELS)
def test_a_cancelled_job_leaves_its_tasks_undone(lab: Lab, model: Any, work: Any) -> None:
    """Every model stops when the job is cancelled, and its server is gone."""
    lab.cancel()
    with pytest.raises(Cancelled):
        io_bound.run(Params(model=model, work=work, reference=False, delay_s=5.0), lab)


def test_no_file_is_left(lab: Lab, tmp_path: Path) -> None:
    """Each file is removed when it was read back."""
    io_bound.run(Params(work="file", threads=2, tasks=5), lab)
    assert [] == list(tmp_path.iterdir())


def test_the_server_ends_with_whoever_started_it() -> None:
    """When its stdin closes, because its parent ended it or died, the server is gone."""
    command = [sys.executable, "-I", "-S", "-c", io_bound._SERVER, "100"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        assert int(server.stdout.readline()) > 0
        server.stdin.close()
        assert 0 == server.wait(20.0)


def test_files_have_room() -> None:
    """So many files of such a size at once that they could fill the disk are refused, in words that help."""
    with pytest.raises(ValueError, match=r"32 files of 16777216 bytes .* take fewer threads"):
        Params(work="file", threads=256, size_bytes=16_777_216)
    assert Params(work="file", model="sequential", threads=256, size_bytes=16_777_216)
    assert Params(work="http", threads=256, size_bytes=16_777_216)


@pytest.mark.parametrize(
    ("speedup", "outcome", "grade"),
    [
        (7.9, "speedup", "acceptable"),
        (1.1, "no_speedup", "interesting"),
        (0.9, "no_speedup", "interesting"),
        (0.5, "slowdown", "interesting"),
    ],
)
def test_outcomes(speedup: float, outcome: str, grade: str) -> None:
    """What takes noticeably longer or shorter is called so."""
    assert outcome == io_bound.judge(speedup)
    assert grade == io_bound.outcomes(Params())[outcome][0]


@pytest.mark.parametrize(
    ("params", "no_speedup", "slowdown"),
    [
        ({}, "Try a longer delay_s.", "Try a longer delay_s, or fewer threads."),
        ({"model": "asyncio"}, "Try a longer delay_s.", "Try a longer delay_s."),
        ({"work": "file"}, "Try a larger size_bytes.", "Try a larger size_bytes, or fewer threads."),
        ({"work": "file", "model": "asyncio"}, "held up the whole loop", "held up the whole loop"),
        ({"threads": 1}, "Take two threads and tasks, or more.", "Take two threads and tasks, or more."),
        ({"tasks": 1, "model": "pool"}, "Take two threads and tasks, or more.", "Take two threads and tasks, or more."),
    ],
)
def test_the_advice_fits_the_work(params: dict[str, Any], no_speedup: str, slowdown: str) -> None:
    """Files know no delay and an event loop no threads; where nothing can overlap, it is said why."""
    said = {name: meaning for name, (_, meaning) in io_bound.outcomes(Params(**params)).items()}
    assert no_speedup in said["no_speedup"]
    assert slowdown in said["slowdown"]
    assert ("overlapped" in said["speedup"]) == ("Try" in no_speedup)
