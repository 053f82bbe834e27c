"""Which revision of the schema a database has, and the way from there to the newest.

Who uses it: `sql_database`, at each start. The version is read by a plain statement; Alembic, whose import takes longer
than all else here, is loaded only where there is something to do. Databases of before there were revisions have no
version: their tables tell it.

All of it happens in the one transaction that it is given: SQLite's DDL is transactional, so that whoever is killed in
between leaves the database as it was.

Source: sqlite.org/lang_transaction.html; SQLAlchemy's chapter on SQLite, "Transactional DDL"; Alembic's cookbook,
"Sharing a Connection".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.errors import StoreUnavailable
from service.stores import sql_tables

__all__ = ["FOLDER", "NEWEST", "REVISIONS", "bring_forward", "revision"]

_log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "migrations"
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")  # those of the folder, which a test holds it to
NEWEST = REVISIONS[-1]

_BEFORE_REVISIONS: Mapping[str, frozenset[str]] = {  # the tables by which a database without a version is known
    "0003": frozenset({"jobs", "experiments", "experiment_runs", "lives", "event_logs"}),
    "0002": frozenset({"jobs", "experiments", "experiment_runs"}),
    "0001": frozenset({"jobs"}),
}

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_VERSION = "SELECT version_num FROM alembic_version"
_MAKE_VERSION = (  # as Alembic makes it
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def revision(connection: Connection) -> str | None:
    """Return the revision of a database, or None for one without any table.

    Raises:
        StoreUnavailable: it is of a newer Threadlab, or no database of Threadlab.
    """
    tables = set(connection.exec_driver_sql(_TABLES).scalars())
    if "alembic_version" in tables:
        found = connection.exec_driver_sql(_VERSION).scalar_one_or_none()
    else:
        found = next((name for name, needed in _BEFORE_REVISIONS.items() if needed <= tables), None)
        if found is None and not tables:
            return None
    if found is None or "jobs" not in tables:
        raise StoreUnavailable(
            f"This is a database of another program, with the tables {', '.join(sorted(tables))}: name another file in "
            "THREADLAB_DATABASE_URL."
        )
    if found not in REVISIONS:
        raise StoreUnavailable(
            f"The database is of a newer Threadlab: its schema is {found!r}, and this one knows {NEWEST!r}. "
            "Start the newer one, or name another file in THREADLAB_DATABASE_URL."
        )
    return str(found)


def bring_forward(connection: Connection, found: str | None) -> None:
    """Make the schema the newest one, in the transaction that is given.

    Args:
        found: what `revision` returned.
    """
    if found is None:
        sql_tables.metadata.create_all(connection)
        connection.exec_driver_sql(_MAKE_VERSION)
        connection.execute(sa.text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST})
    elif found != NEWEST:
        _migrate(connection, found)
        _log.info("the database was brought forward", extra={"from": found, "to": NEWEST})


def _migrate(connection: Connection, found: str) -> None:
    from alembic import command  # noqa: PLC0415  costs a start 0.16 s, and hardly any start needs it
    from alembic.config import Config  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)  # we say it in a line of our own
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.stamp(config, found)
    command.upgrade(config, NEWEST)
