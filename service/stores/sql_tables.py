"""The tables, as the newest revision of `migrations` leaves them; a test holds the two against each other.

Who uses it: the statements in `sql_jobs`, `sql_experiments` and `sql_retention`; `sql_schema`, for new databases.
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["clock_marks", "event_logs", "experiment_runs", "experiments", "jobs", "lives", "metadata"]

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # sorts by time of creation
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("scenario", sa.Text, nullable=False),
    sa.Column("lane", sa.Text, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("rerun_of", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),  # RFC 3339, UTC
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("outcome", sa.Text),  # of the result, as the next one: here a list finds them without reading that
    sa.Column("grade", sa.Text),
    sa.Column("request", sa.Text, nullable=False),  # JSON, as the next four
    sa.Column("python", sa.Text),
    sa.Column("machine", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("idempotency_key", sa.Text, unique=True),
    sa.Column("fingerprint", sa.Text),
    sa.Index("jobs_by_status", "status", "id"),
    sa.Index("jobs_by_scenario", "scenario", "id"),
    sa.Index("jobs_by_label", "label", "id"),
    sa.Index("jobs_by_end", "finished_at", sqlite_where=sa.text("finished_at IS NOT NULL")),
)

lives = sa.Table(
    "lives",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("begun_at", sa.Text, nullable=False),  # RFC 3339, UTC
    sqlite_autoincrement=True,  # a number is never used again, even if its row is gone
)

event_logs = sa.Table(
    "event_logs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("events", sa.LargeBinary, nullable=False),  # a JSON list, deflated: a tenth of its size
)

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # sorts by time of creation
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("label", sa.Text),  # the plan's, to be found by
    sa.Column("plan", sa.Text, nullable=False),  # JSON: what never changes
    sa.Column("created_at", sa.Text, nullable=False),  # RFC 3339, UTC
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("error", sa.Text),  # JSON
    sa.Column("idempotency_key", sa.Text, unique=True),
    sa.Column("fingerprint", sa.Text),
    sa.Index("experiments_by_status", "status", "id"),
    sa.Index("experiments_by_label", "label", "id"),
)

experiment_runs = sa.Table(
    "experiment_runs",
    metadata,
    sa.Column("experiment", sa.Text, primary_key=True),
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("repeat", sa.Integer, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),  # JSON
)

clock_marks = sa.Table(
    "clock_marks",
    metadata,
    sa.Column("seen_at", sa.Text, primary_key=True),  # RFC 3339, UTC
)
