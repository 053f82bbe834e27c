"""A column by which experiments are found again."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_KEPT = "id, status, plan, created_at, started_at, finished_at, error, idempotency_key, fingerprint"


def upgrade() -> None:
    """Make the table anew: SQLite adds columns behind all constraints, where a new database would not have it."""
    op.drop_index("experiments_by_status")
    op.rename_table("experiments", "experiments_before")
    op.create_table(
        "experiments",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text),
        sa.Column("finished_at", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("idempotency_key", sa.Text, unique=True),
        sa.Column("fingerprint", sa.Text),
    )
    label = "CASE WHEN json_valid(plan) THEN json_extract(plan, '$.label') END"  # a damaged row stays what it is
    op.execute(f"INSERT INTO experiments (label, {_KEPT}) SELECT {label}, {_KEPT} FROM experiments_before")  # noqa: S608  texts of our own
    op.drop_table("experiments_before")
    op.create_index("experiments_by_status", "experiments", ["status", "id"])
    op.create_index("experiments_by_label", "experiments", ["label", "id"])
