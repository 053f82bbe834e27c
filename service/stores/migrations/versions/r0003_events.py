"""What jobs tell, and the lives of the service in which they told it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables of lives and of event logs."""
    op.create_table(
        "lives",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("begun_at", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "event_logs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("events", sa.LargeBinary, nullable=False),
    )
