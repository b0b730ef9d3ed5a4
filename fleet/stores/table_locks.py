"""Lock tables that devices write to, for a migration that changes them."""

import time
from typing import Any, Final

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunPython
from psycopg import errors
from psycopg.sql import SQL, Identifier

# Whoever waits for such a lock makes every later statement on the table wait behind it.
_LOCK_WAIT: Final = "1s"
_PAUSE_SECONDS: Final = 2.0


def lock_while_devices_write(*tables: str) -> RunPython:
    """Return the first operation of a migration that changes `tables`: it locks them until the end.

    While a long transaction uses one of them, it tries again and again, and devices write between
    the attempts. Name the tables in the order in which writers lock them.
    """

    def lock(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
        while not _is_locked(schema_editor.connection, tables):
            time.sleep(_PAUSE_SECONDS)

    return RunPython(lock, RunPython.noop)


def _is_locked(connection: BaseDatabaseWrapper, tables: tuple[str, ...]) -> bool:
    """Try to lock all tables; return whether they are."""
    names = SQL(", ").join(map(Identifier, tables))
    try:
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(SQL("SET LOCAL lock_timeout = {}").format(_LOCK_WAIT))
            cursor.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))
    except OperationalError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable):
            raise
        return False
    return True
