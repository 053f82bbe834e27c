"""What Alembic runs for each of its commands: the revisions in this folder, on a connection that it is given.

Who uses it: `service.stores.sql_schema` at a start, and a test that compares the result with the tables. The
transaction is the caller's: nothing is committed here.
"""

from alembic import context

from service.stores import sql_tables

context.configure(connection=context.config.attributes["connection"], target_metadata=sql_tables.metadata)
context.run_migrations()
