"""Change tables that devices write to, in a migration."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from psycopg import errors
from psycopg.sql import SQL, Identifier

# Whoever waits for such a lock makes every later statement on the table wait behind it.
_LOCK_WAIT: Final = "1s"
_PAUSE_SECONDS: Final = 2.0


class WhileDevicesWrite(SeparateDatabaseAndState):
    """Operations that change `tables`, which stay locked for the statements alone.

    While a long transaction uses one of them, it tries again and again, and devices write between
    the attempts. Name the tables in the order in which writers lock them. The migration has no
    operations after it: the lock is held until the migration's end.
    """

    def __init__(self, tables: Sequence[str], operations: Sequence[Operation]) -> None:
        super().__init__(database_operations=operations, state_operations=operations)
        self.tables = tables

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        # Django takes much longer to render its models than PostgreSQL to change the tables.
        states = [from_state]
        for operation in self.database_operations:
            states.append(states[-1].clone())
            operation.state_forwards(app_label, states[-1])
        for state in states:
            _ = state.apps
        while not _is_locked(schema_editor.connection, self.tables):
            time.sleep(_PAUSE_SECONDS)
        for operation, step in zip(self.database_operations, pairwise(states), strict=True):
            operation.database_forwards(app_label, schema_editor, *step)


def _is_locked(connection: BaseDatabaseWrapper, tables: Sequence[str]) -> bool:
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
