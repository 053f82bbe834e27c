"""The statements about experiments and their runs.

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
from service.experiments.experiment import FINAL_EXPERIMENT_STATES, Experiment, ExperimentState
from service.stores.base import AddedExperiment, Idempotency
from service.stores.faults import readable
from service.stores.sql_tables import experiment_runs as _runs
from service.stores.sql_tables import experiments as _experiments

__all__ = ["add", "add_run", "delete", "find", "move", "page", "runs", "unfinished"]

_FINAL = sorted(FINAL_EXPERIMENT_STATES)
_UNFINISHED = sorted(set(ExperimentState) - FINAL_EXPERIMENT_STATES)
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
    plan = json.dumps({name: facts[name] for name in _PLANNED})
    row_values = {"id": experiment.id, "label": experiment.label, "plan": plan}
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
    texts = connection.execute(statement).scalars().all()
    with readable(f"the runs of {experiment_id}", "Delete the experiment."):
        return [Run(**json.loads(text)) for text in texts]


def page(connection: Connection, limit: int, before: str | None, label: str | None) -> list[Experiment]:
    """Return experiments, newest first."""
    statement = sa.select(_experiments).order_by(_experiments.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(_experiments.c.id < before)
    if label is not None:
        statement = statement.where(_experiments.c.label == label)
    return [_experiment(row) for row in connection.execute(statement).mappings()]


def unfinished(connection: Connection) -> list[Experiment]:
    """Return all that are queued or running, oldest first."""
    statement = sa.select(_experiments).where(_experiments.c.status.in_(_UNFINISHED)).order_by(_experiments.c.id)
    return [_experiment(row) for row in connection.execute(statement).mappings()]


def _changing(experiment: Experiment) -> dict[str, Any]:
    times = {name: getattr(experiment, name) for name in _TIMES}
    return {
        "status": experiment.status.value,
        "error": None if experiment.error is None else json.dumps(experiment.error),
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }


def _experiment(row: sa.RowMapping) -> Experiment:
    remedy = "Delete the experiment."
    if row["status"] not in FINAL_EXPERIMENT_STATES:  # nobody else can
        remedy = "Stop the service, and remove its row from the table `experiments`."
    with readable(str(row["id"]), remedy):
        plan = json.loads(row["plan"])
        plan["measure"] = Measure(**plan["measure"])
        plan["not_covered"] = tuple(NotCovered(**each) for each in plan["not_covered"])
        times: dict[str, Any] = {
            name: None if row[name] is None else datetime.fromisoformat(row[name]) for name in _TIMES
        }
        error = None if row["error"] is None else json.loads(row["error"])
        return Experiment(id=row["id"], status=ExperimentState(row["status"]), error=error, **plan, **times)
