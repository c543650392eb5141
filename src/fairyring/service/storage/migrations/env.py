"""What alembic runs: migrations on the connection, and in the transaction, that `migrating.py` gives it."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
