"""Jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table of jobs."""
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
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("python", sa.Text),
        sa.Column("machine", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("idempotency_key", sa.Text, unique=True),
        sa.Column("fingerprint", sa.Text),
    )
    op.create_index("jobs_by_status", "jobs", ["status", "id"])
    op.create_index("jobs_by_scenario", "jobs", ["scenario", "id"])
    op.create_index("jobs_by_label", "jobs", ["label", "id"])
