"""Seal partitions of history that are past: pack their index, freeze their rows.

While a partition is written, new readings split pages of its index all the time and leave a third
of them empty. Once it is past, that room is given back; late readings are taken as ever.
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

# Most late readings have come by then.
GRACE: Final = timedelta(days=2)
_TABLES: Final = [model._meta.db_table for model in (MeterReading, VehicleReading)]

_unsealed = Statement(STATEMENTS / "unsealed_partitions.sql")


def seal_past_partitions() -> list[str]:
    """Seal every partition that ended more than `GRACE` ago and is not sealed; return their names.

    No statement waits for it, and it takes no lock that a writer needs; it reads each partition
    twice. Cut short, it begins with the same partition again.
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
    # No later scan has to look at these rows again to keep transaction ids from running out.
    _execute(SQL("VACUUM (FREEZE, ANALYZE) {}").format(table))
    # The mark of a sealed partition, last of all.
    _execute(SQL("ALTER TABLE {} SET (fillfactor = 100)").format(table))


def _execute(statement: Composable) -> None:
    """Run one statement in a transaction of its own, as these have to be; it may take minutes."""
    stopping.check()
    with connection.cursor() as cursor:
        cursor.execute(statement)
