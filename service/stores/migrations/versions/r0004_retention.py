"""What pruning needs: jobs in the order of their ends, and when the service looked at the clock."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index and the table."""
    op.create_index("jobs_by_end", "jobs", ["finished_at"], sqlite_where=sa.text("finished_at IS NOT NULL"))
    op.create_table("clock_marks", sa.Column("seen_at", sa.Text, primary_key=True))
