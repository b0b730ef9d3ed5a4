"""Run the statements of `.sql` files, prepared once per connection unless it is a pooler's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
from django.db import connections
from psycopg.rows import namedtuple_row

from fleet.stores import replica

Result = TypeVar("Result", bound=NamedTuple)


def from_row(result: type[Result], row: Any, **others: Any) -> Result:
    """Return a row as a `result`: its columns go to the fields of the same name.

    `others` are fields that have no column. A column without a field is ignored; a field without a
    value takes its default. Errors: `TypeError` where it has none.
    """
    create: Callable[..., Result] = result
    names = [name for name in result._fields if name in row._fields]
    return create(**{name: getattr(row, name) for name in names}, **others)


def _compact(sql: str) -> str:
    """Return `sql` without comment lines and indentation.

    psycopg caches the parsed form of a statement only if the statement is shorter than 4 KB.
    """
    lines = (line.strip() for line in sql.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


class Statement:
    """One `.sql` file: a single statement with named parameters.

    Bypasses Django's cursor, which binds on the client, so that PostgreSQL would plan the statement
    again each time. It still takes part in Django's transactions. Through a pooler nothing is
    prepared: see `energy_engine.postgres.databases`.
    """

    def __init__(self, file: Path) -> None:
        # The comment shows its source in pg_stat_activity and in PostgreSQL's log.
        self._sql = f"/* {'/'.join(file.parts[-3:])} */ {_compact(file.read_text())}"

    def rows(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Run the statement; return its rows as named tuples, in the statement's order.

        Errors: those of `django.db.utils`, with the driver's as their cause.
        """
        connection = connections[replica.database()]
        connection.ensure_connection()
        with (
            connection.wrap_database_errors,
            psycopg.Cursor(connection.connection, row_factory=namedtuple_row) as cursor,
        ):
            return cursor.execute(self._sql, parameters, prepare=True).fetchall()
