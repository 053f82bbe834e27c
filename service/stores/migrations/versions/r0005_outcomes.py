"""What was observed beside each job's state, so that a list of jobs need not read what their runs told.

The table is made anew and not altered: SQLite puts a new column at the end of a row, and whoever reads it there walks
over all pages of the result before it. Rows go from the one table to the other within SQLite, one by one.

Source: sqlite.org/fileformat2.html, "Cell Payload Overflow Pages".
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_INDICES = ("jobs_by_status", "jobs_by_scenario", "jobs_by_label", "jobs_by_end")
_FILL = """
    INSERT INTO jobs
    SELECT id, status, scenario, lane, label, rerun_of, attempt, created_at, started_at, finished_at,
        CASE WHEN json_valid(result) THEN json_extract(result, '$.outcome') END,
        CASE WHEN json_valid(result) THEN json_extract(result, '$.grade') END,
        request, python, machine, result, error, idempotency_key, fingerprint
    FROM jobs_before
"""  # a result that cannot be read must not keep the others from being brought forward


def upgrade() -> None:
    """Put the two columns before the large ones, and fill them from the results that are there."""
    for index in _INDICES:
        op.drop_index(index, "jobs")
    op.rename_table("jobs", "jobs_before")
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("scenario", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("rerun_of", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text),
        sa.Column("finished_at", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("grade", sa.Text),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("python", sa.Text),
        sa.Column("machine", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("idempotency_key", sa.Text, unique=True),
        sa.Column("fingerprint", sa.Text),
    )
    op.execute(_FILL)
    op.drop_table("jobs_before")
    op.create_index("jobs_by_status", "jobs", ["status", "id"])
    op.create_index("jobs_by_scenario", "jobs", ["scenario", "id"])
    op.create_index("jobs_by_label", "jobs", ["label", "id"])
    op.create_index("jobs_by_end", "jobs", ["finished_at"], sqlite_where=sa.text("finished_at IS NOT NULL"))
