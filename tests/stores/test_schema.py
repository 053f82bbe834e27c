"""Databases of every earlier schema open and lose nothing; a newer one, or another program's, is left alone.

The files in `databases` are dumps of what the service itself has made at five commits, killed while it worked: 8927bea
(jobs only; the schema of 02a477c), f6ca8ac (experiments), 83114f5 (event logs and lives), c685798 (retention), 5b87c17
(experiments that have labels).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.errors import StoreUnavailable
from service.experiments.experiment import ExperimentState
from service.jobs import JobState
from service.stores import sql_schema, sql_tables
from service.stores.base import Added, Idempotency, JobQuery
from service.stores.sql import SqlStore
from tests.stores.helpers import RESULT_S, make_job

_ROOT = Path(__file__).parents[2]
_DATABASES = Path(__file__).parent / "databases"
_REVISIONS = {"jobs": "0001", "experiments": "0002", "events": "0003", "retention": "0004", "marks": "0004"}

# For each number that it is told, opens a database in a process of its own, which dies before that statement of the
# upgrade, or before a commit; tells how that ended.
_DYING = """
import itertools, os, signal, sys
import alembic.command
import sqlalchemy as sa
from service.stores.sql import SqlStore

_COUNTED = ("CREATE", "ALTER", "DROP", "INSERT INTO alembic", "INSERT INTO jobs", "INSERT INTO experiments", "UPDATE")

def open_and_die(fatal):
    store, numbers = SqlStore(sys.argv[1]), itertools.count(1)
    begun = False

    def count():
        nonlocal begun
        begun = True
        if next(numbers) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def look(connection, cursor, statement, *_):
        if statement.strip().startswith(_COUNTED):
            count()

    sa.event.listen(store._database.writer, "before_cursor_execute", look)
    sa.event.listen(store._database.writer, "commit", lambda _: count() if begun else None)
    store.open()

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        open_and_die(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


# Opens a database, and says by how much more memory it took for that than before, at most.
_GROWING = """
import resource, sys
from service.stores.sql import SqlStore

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before, store = most(), SqlStore(sys.argv[1])
store.open()
store.close()
print(most() - before)
"""


@pytest.fixture(params=_REVISIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of each earlier schema, as a kill has left it."""
    path: Path = tmp_path / f"{request.param}.db"
    _load(request.param, path)
    return path


def _load(name: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript((_DATABASES / f"{name}.sql").read_text("utf-8"))
        database.execute("PRAGMA journal_mode=WAL")


def _rows(path: Path, table: str) -> list[dict[str, Any]]:
    """A table as it is, read without anything of ours."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            return []
        return [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY 1")]


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def _schema(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: re.sub(r"\s", "", text) for name, text in found}


def _opened(path: Path) -> SqlStore:
    store = SqlStore(f"sqlite:///{path}")
    store.open()
    return store


def test_every_job_reads_as_it_was(old: Path) -> None:
    """Each job of an earlier database has every value that it had, in each state there is."""
    before = _rows(old, "jobs")
    with closing(_opened(old)) as store:
        jobs = [store.get(head.id) for head in store.page(JobQuery(limit=1_000))]
    assert {row["id"] for row in before} == {job.id for job in jobs}
    assert {"succeeded", "timed_out", "cancelled", "lost", "running", "queued"} == {job.status.value for job in jobs}
    for row, job in zip(before, reversed(jobs), strict=True):
        for name in ("id", "status", "scenario", "lane", "label", "rerun_of", "attempt"):
            assert row[name] == getattr(job, name)
        for name in ("created_at", "started_at", "finished_at"):
            moment = getattr(job, name)
            assert row[name] == (None if moment is None else moment.isoformat())
        for name in ("request", "python", "machine", "result", "error"):
            assert (None if row[name] is None else json.loads(row[name])) == getattr(job, name)


def test_every_outcome_stands_beside_its_result(old: Path) -> None:
    """A job of an earlier database has its outcome and grade in columns of their own, as one that ends now."""
    expected = {
        row["id"]: json.loads(row["result"] or '{"outcome": null, "grade": null}') for row in _rows(old, "jobs")
    }
    _opened(old).close()
    found = {row["id"]: (row["outcome"], row["grade"]) for row in _rows(old, "jobs")}
    assert {job_id: (result["outcome"], result["grade"]) for job_id, result in expected.items()} == found
    assert {"exact", "stuck", None} <= {outcome for outcome, _ in found.values()}


@pytest.mark.parametrize("result", ['{"outcome"', '["outcome"]', "null", "", '{"values": {}}', b"\xff\xfe", b"\xc3("])
def test_a_result_that_cannot_be_read_keeps_no_database_back(old: Path, result: str | bytes) -> None:
    """An upgrade leaves a broken result as it is, without an outcome; all else is brought forward."""
    with closing(sqlite3.connect(old)) as database:
        ended = [row[0] for row in database.execute("SELECT id FROM jobs WHERE status = 'succeeded' ORDER BY id")]
        database.execute("UPDATE jobs SET result = CAST(? AS TEXT) WHERE id = ?", (result, ended[0]))
        database.commit()
    _opened(old).close()
    query = "SELECT id, CAST(result AS BLOB), outcome, grade FROM jobs ORDER BY id"
    with closing(sqlite3.connect(old)) as database:
        found = {job_id: rest for job_id, *rest in database.execute(query)}
    assert [result.encode() if isinstance(result, str) else result, None, None] == found[ended[0]]
    assert all(found[job_id][1] for job_id in ended[1:])


def test_an_upgrade_takes_the_memory_of_one_result(tmp_path: Path) -> None:
    """However much jobs have told, an upgrade holds no more than one of them at a time."""
    path = tmp_path / "jobs.db"
    _load("retention", path)
    columns = "status, scenario, lane, attempt, created_at, finished_at, request"
    like_another = f"INSERT INTO jobs (id, result, {columns}) SELECT ?, ?, {columns} FROM jobs LIMIT 1"
    with closing(sqlite3.connect(path)) as database:
        for number in range(100):
            result = {"outcome": f"outcome {number}", "grade": "acceptable", "output": "x" * 1_000_000}
            database.execute(like_another, (f"job_large_{number}", json.dumps(result)))
        database.commit()
    assert int(_printed(_GROWING, path, timeout_s=120)) < 60_000  # kB: Alembic takes some 25 MB
    large = [row for row in _rows(path, "jobs") if row["id"].startswith("job_large")]
    assert {f"outcome {number}" for number in range(100)} == {row["outcome"] for row in large}


def test_every_experiment_and_run_reads_as_it_was(old: Path) -> None:
    """Each experiment of an earlier database has its state, its matrix and its runs."""
    experiments, runs = _rows(old, "experiments"), _rows(old, "experiment_runs")
    with closing(_opened(old)) as store:
        found = {each.id: each for each in store.experiments(1_000)}
        assert {row["id"]: row["status"] for row in experiments} == {key: each.status for key, each in found.items()}
        for row in experiments:
            plan = json.loads(row["plan"])
            each = found[row["id"]]
            assert (plan["vary"], plan["repeats"], plan["seed"]) == (each.vary, each.repeats, each.seed)
            assert plan["label"] == each.label
            assert each.label is None or each in store.experiments(1_000, label=each.label)
            expected = sorted((r["cell"], r["repeat"], r["run"]) for r in runs if r["experiment"] == each.id)
            seen = store.runs(each.id)
            assert [(cell, repeat) for cell, repeat, _ in expected] == [(run.cell, run.repeat) for run in seen]
            assert [json.loads(text)["value"] for *_, text in expected] == [run.value for run in seen]
        assert bool(experiments) == any(each.status is ExperimentState.RUNNING for each in found.values())


def test_every_log_reads_as_it_was(old: Path) -> None:
    """What jobs of an earlier database told is told again, and lives are counted on."""
    logs, lives = _rows(old, "event_logs"), _rows(old, "lives")
    with closing(_opened(old)) as store:
        for row in logs:
            kept = {log.epoch: log.events for log in store.logs(row["job_id"])}
            assert json.loads(zlib.decompress(row["events"])) == kept[row["epoch"]]
        assert len(lives) + 1 == store.life
    assert (old.stem in ("events", "retention", "marks")) == bool(logs)


def test_an_earlier_database_goes_on(old: Path) -> None:
    """A database that was brought forward has its keys, takes new jobs, and is opened again without another step."""
    (kept,) = [row for row in _rows(old, "jobs") if row["idempotency_key"] == "first-key"]
    job = make_job()
    with closing(_opened(old)) as store:
        again = store.add(make_job(), Idempotency("first-key", kept["fingerprint"])).result(RESULT_S)
        assert (kept["id"], True) == (again.job.id, again.replayed)
        assert Added(job) == store.add(job).result(RESULT_S)
    with closing(_opened(old)) as store:
        assert (job, JobState.QUEUED) == (store.get(job.id), store.get(job.id).status)
    assert [{"version_num": sql_schema.NEWEST}] == _rows(old, "alembic_version")


def test_an_earlier_database_has_the_schema_of_a_new_one(old: Path, tmp_path: Path) -> None:
    """Whichever way a database has come, tables and indices are the same, and its file can shrink."""
    _opened(old).close()
    new = tmp_path / "new.db"
    _opened(new).close()
    assert _schema(new) == _schema(old)
    for path in (old, new):
        with closing(sqlite3.connect(path)) as database:
            assert [(2,), ("wal",)] == [database.execute(f"PRAGMA {name}").fetchone() for name in _LAYOUT]


_LAYOUT = ("auto_vacuum", "journal_mode")


def test_an_upgrade_that_is_killed_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    """Whichever of its statements a kill comes before, an upgrade has changed nothing; the next one does it all."""
    old = tmp_path / "jobs.db"
    _load("jobs", old)  # which has all upgrades before it
    before, url = _dump(old), f"sqlite:///{old}"
    fatal = 1
    with _dying(url) as dying:
        assert dying.stdin is not None
        assert dying.stdout is not None
        while before == _dump(old):
            print(fatal, file=dying.stdin, flush=True)
            assert -signal.SIGKILL == int(dying.stdout.readline())
            fatal += 1
    assert fatal > 25  # before each statement and the commit; the last was before the commit after that
    assert [{"version_num": sql_schema.NEWEST}] == _rows(old, "alembic_version")
    assert len([line for line in before if line.startswith('INSERT INTO "jobs"')]) == len(_rows(old, "jobs"))


def _printed(program: str, path: Path, *, timeout_s: float) -> str:
    """What a program says that gets the URL of a database, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{path}"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    return done.stdout.strip()


def _dying(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _DYING, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )


def test_a_damaged_experiment_does_not_keep_the_others_from_coming_along(tmp_path: Path) -> None:
    """An experiment whose plan nobody can read stays as it is; the others are found by their labels."""
    path = tmp_path / "jobs.db"
    _load("marks", path)
    with closing(sqlite3.connect(path)) as database:
        (damaged,) = database.execute("SELECT max(id) FROM experiments").fetchone()
        database.execute("UPDATE experiments SET plan = '{' WHERE id = ?", (damaged,))
        database.commit()
    with closing(_opened(path)) as store:
        assert ["mine", "mine"] == [each.label for each in store.experiments(10, label="mine")]
        with pytest.raises(StoreUnavailable, match=damaged):
            store.experiment(damaged)


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    """An upgrade that meets a table of somebody else's making is refused with what the database said."""
    path = tmp_path / "jobs.db"
    _load("experiments", path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE clock_marks (mine TEXT)")
    before = _dump(path)
    with pytest.raises(StoreUnavailable, match=r"could not open .*: table clock_marks already exists"):
        _opened(path)
    assert before == _dump(path)


def test_a_database_of_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    """What a later service has written is not touched by an earlier one, which says what to do."""
    path = tmp_path / "jobs.db"
    _opened(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '0099'")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"of a newer Threadlab: its schema is '0099'.*Start the newer one"):
        _opened(path)
    assert before == path.read_bytes()


@pytest.mark.parametrize("tables", [["diary"], ["diary", "alembic_version"]])
def test_a_database_of_another_program_is_left_alone(tmp_path: Path, tables: list[str]) -> None:
    """A database with other tables than ours is not written to, even if its program uses Alembic, too."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database:
        for table in tables:
            database.execute(f"CREATE TABLE {table} (version_num TEXT)")
        database.execute(f"INSERT INTO {tables[-1]} VALUES ('0001')")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"of another program, with the tables .*diary.*name another file"):
        _opened(path)
    assert before == path.read_bytes()


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    """A file without a byte is like none."""
    path = tmp_path / "jobs.db"
    path.touch()
    _opened(path).close()
    assert [{"version_num": sql_schema.NEWEST}] == _rows(path, "alembic_version")


# The migrations and the tables of the code.


def test_the_revisions_are_those_of_the_folder() -> None:
    """The constants by which a start saves the import of Alembic are what Alembic would say, in one line of descent."""
    scripts = ScriptDirectory(str(sql_schema.FOLDER))
    assert [sql_schema.NEWEST] == scripts.get_heads()
    assert list(sql_schema.REVISIONS) == [each.revision for each in reversed(list(scripts.walk_revisions()))]


def test_the_migrations_end_at_the_tables() -> None:
    """Alembic finds nothing that would have to change after the last revision, however it came to be."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(sql_schema.FOLDER))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        assert [] == compare_metadata(MigrationContext.configure(connection), sql_tables.metadata)
        connection.exec_driver_sql("DROP INDEX jobs_by_end")
        ((kind, index),) = compare_metadata(MigrationContext.configure(connection), sql_tables.metadata)
        assert ("add_index", "jobs_by_end") == (kind, index.name)  # it would have been seen
    engine.dispose()


def test_a_start_without_an_upgrade_does_not_load_alembic(tmp_path: Path) -> None:
    """A new database and one of the newest schema open without the import that costs a start most."""
    program = (
        "import sys; from service.stores import make_store\n"
        "for _ in range(2): store = make_store(sys.argv[1]); store.open(); store.close()\n"
        "print('alembic' in sys.modules)"
    )
    assert "False" == _printed(program, tmp_path / "jobs.db", timeout_s=60)
