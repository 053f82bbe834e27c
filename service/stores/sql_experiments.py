"""The tables of experiments and of their runs, and the statements about them.

Who uses it: `sql`, which owns the connections and the writer. Each function works in the transaction that it is given.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.errors import ExperimentNotFound, IdempotencyConflict, IllegalExperimentMove
from service.experiments import Measure, NotCovered, Run
from service.experiments.experiment import Experiment, ExperimentState
from service.stores.base import AddedExperiment, Idempotency

__all__ = ["add", "add_run", "delete", "find", "metadata", "move", "page", "runs", "unfinished"]

metadata = sa.MetaData()

_experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # sorts by time of creation
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),  # JSON: what never changes
    sa.Column("created_at", sa.Text, nullable=False),  # RFC 3339, UTC
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("error", sa.Text),  # JSON
    sa.Column("idempotency_key", sa.Text, unique=True),
    sa.Column("fingerprint", sa.Text),
    sa.Index("experiments_by_status", "status", "id"),
)

_runs = sa.Table(
    "experiment_runs",
    metadata,
    sa.Column("experiment", sa.Text, primary_key=True),
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("repeat", sa.Integer, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),  # JSON
)

_FINAL = [state.value for state in ExperimentState if state not in (ExperimentState.QUEUED, ExperimentState.RUNNING)]
_PLANNED = ("scenario", "vary", "fixed", "repeats", "seed", "measure", "machine", "baseline", "label", "not_covered")
_TIMES = ("created_at", "started_at", "finished_at")


def add(connection: Connection, experiment: Experiment, idempotency: Idempotency | None) -> AddedExperiment:
    """Remember a new experiment, or find the one that has its key already."""
    if idempotency is not None:
        known = sa.select(_experiments).where(_experiments.c.idempotency_key == idempotency.key)
        row = connection.execute(known).mappings().one_or_none()
        if row is not None and row["fingerprint"] != idempotency.fingerprint:
            raise IdempotencyConflict(idempotency.key, row["id"])
        if row is not None:
            return AddedExperiment(_experiment(row), replayed=True)
    key, fingerprint = (idempotency.key, idempotency.fingerprint) if idempotency else (None, None)
    facts = asdict(experiment)
    row_values = {"id": experiment.id, "plan": json.dumps({name: facts[name] for name in _PLANNED})}
    connection.execute(
        sa.insert(_experiments).values(
            **row_values, **_changing(experiment), idempotency_key=key, fingerprint=fingerprint
        )
    )
    return AddedExperiment(experiment)


def move(connection: Connection, before: ExperimentState, experiment: Experiment) -> None:
    """Replace an experiment, if it is still in that state."""
    here = (_experiments.c.id == experiment.id) & (_experiments.c.status == before.value)
    if connection.execute(sa.update(_experiments).where(here).values(**_changing(experiment))).rowcount != 1:
        now = find(connection, experiment.id)
        raise IllegalExperimentMove(f"The experiment {now.id} is {now.status}, not {before}.")


def add_run(connection: Connection, experiment_id: str, run: Run) -> None:
    """Remember what a run showed, in place of what was remembered of it."""
    place = {"experiment": experiment_id, "cell": run.cell, "repeat": run.repeat}
    connection.execute(sa.delete(_runs).where(*(_runs.c[name] == value for name, value in place.items())))
    connection.execute(sa.insert(_runs).values(**place, run=json.dumps(asdict(run))))


def delete(connection: Connection, experiment_id: str) -> None:
    """Forget a finished experiment and its runs."""
    here = (_experiments.c.id == experiment_id) & _experiments.c.status.in_(_FINAL)
    if connection.execute(sa.delete(_experiments).where(here)).rowcount != 1:
        find(connection, experiment_id)
        raise IllegalExperimentMove(f"Only a finished experiment can be deleted; {experiment_id} is not: cancel it.")
    connection.execute(sa.delete(_runs).where(_runs.c.experiment == experiment_id))


def find(connection: Connection, experiment_id: str) -> Experiment:
    """Return an experiment.

    Raises:
        ExperimentNotFound: there is none.
    """
    statement = sa.select(_experiments).where(_experiments.c.id == experiment_id)
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise ExperimentNotFound(experiment_id)
    return _experiment(row)


def runs(connection: Connection, experiment_id: str) -> list[Run]:
    """Return the runs of an experiment, those of a cell in order of repeat."""
    statement = sa.select(_runs.c.run).where(_runs.c.experiment == experiment_id).order_by(_runs.c.cell, _runs.c.repeat)
    return [Run(**json.loads(text)) for text in connection.execute(statement).scalars()]


def page(connection: Connection, limit: int, before: str | None) -> list[Experiment]:
    """Return experiments, newest first."""
    statement = sa.select(_experiments).order_by(_experiments.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_experiments.c.id < before)
    return [_experiment(row) for row in connection.execute(statement).mappings()]


def unfinished(connection: Connection) -> list[Experiment]:
    """Return all that are queued or running, oldest first."""
    statement = sa.select(_experiments).where(_experiments.c.status.not_in(_FINAL)).order_by(_experiments.c.id)
    return [_experiment(row) for row in connection.execute(statement).mappings()]


def _changing(experiment: Experiment) -> dict[str, Any]:
    times = {name: getattr(experiment, name) for name in _TIMES}
    return {
        "status": experiment.status.value,
        "error": None if experiment.error is None else json.dumps(experiment.error),
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }


def _experiment(row: sa.RowMapping) -> Experiment:
    plan = json.loads(row["plan"])
    plan["measure"] = Measure(**plan["measure"])
    plan["not_covered"] = tuple(NotCovered(**each) for each in plan["not_covered"])
    times: dict[str, Any] = {name: None if row[name] is None else datetime.fromisoformat(row[name]) for name in _TIMES}
    error = None if row["error"] is None else json.loads(row["error"])
    return Experiment(id=row["id"], status=ExperimentState(row["status"]), error=error, **plan, **times)
