"""Seal past partitions of history: pack their index and freeze their rows.

While a partition is being written, new readings keep splitting its index pages and leave a third of
their space empty. Sealing frees that space once the partition is past. It still accepts late
readings.
"""

from datetime import timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone
from psycopg.sql import SQL, Composable, Identifier

from fleet.stores import stopping
from fleet.stores.statements import Statement
from ingestion.models import MeterReading, VehicleReading
from ingestion.sql import STATEMENTS

# Most late readings have arrived by then.
GRACE: Final = timedelta(days=2)
_TABLES: Final = [model._meta.db_table for model in (MeterReading, VehicleReading)]

_unsealed = Statement(STATEMENTS / "unsealed_partitions.sql")


def seal_past_partitions() -> list[str]:
    """Seal every partition that ended more than `GRACE` ago and is not sealed; return their names.

    It blocks no statement and takes no lock that a writer needs; it reads each partition twice.
    After an interruption, it starts with the same partition again.
    """
    partitions = _unsealed.rows({"tables": _TABLES, "over_before": timezone.now() - GRACE})
    for partition in partitions:
        _seal(partition)
    return [partition.table_name for partition in partitions]


def _seal(partition: Any) -> None:
    table, index = Identifier(partition.table_name), Identifier(partition.index_name)
    for unfinished in partition.unfinished_indexes:
        _execute(SQL("DROP INDEX CONCURRENTLY {}").format(Identifier(unfinished)))
    _execute(SQL("ALTER INDEX {} SET (fillfactor = 100)").format(index))
    _execute(SQL("REINDEX INDEX CONCURRENTLY {}").format(index))
    # Frozen rows need no later scan to prevent transaction ids from running out.
    _execute(SQL("VACUUM (FREEZE, ANALYZE) {}").format(table))
    # Marks the partition as sealed, so it comes last.
    _execute(SQL("ALTER TABLE {} SET (fillfactor = 100)").format(table))


def _execute(statement: Composable) -> None:
    """Run one statement in its own transaction, as these require; it may take minutes."""
    stopping.check()
    with connection.cursor() as cursor:
        cursor.execute(statement)
