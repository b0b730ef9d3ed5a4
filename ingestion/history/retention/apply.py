"""Archive the partitions of the plan, compare them with the archive, and drop them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg import errors
from psycopg.sql import SQL, Composed, Identifier

from fleet.stores import stopping
from fleet.stores.statements import Statement
from ingestion.history.archive import BATCH_ROWS, Archive, Progress
from ingestion.history.deliveries import select_deliveries
from ingestion.history.retention.plan import Partition, cutoff, plan
from ingestion.history.retention.tables import (
    HISTORY,
    History,
    RetentionFailed,
    Totals,
    file_name,
    history_of,
    totals_of,
)
from ingestion.models import ArchivedPartition
from ingestion.sql import STATEMENTS

# The same key wherever history is archived or restored, so that two processes never do so at once.
_ADVISORY_LOCK: Final = 0x61726368697665  # "archive"
# Waiting for a lock on a table makes others wait, so it is better to give up and retry.
_LOCK_WAIT: Final = "1500ms"
_ATTEMPTS: Final = 20

_how_attached = Statement(STATEMENTS / "how_attached.sql")

# Called with the name of the next step; returns a function to call with the rows it has processed.
Steps = Callable[[str], Progress]


def apply(steps: Steps) -> list[str]:
    """Archive and drop the partitions of the plan; return the names of those dropped.

    Safe to interrupt anywhere, and to call again. Errors: `RetentionFailed`, `ArchiveFailed`: the
    partitions dropped by then are in the archive, and all others are unchanged.
    """
    if cutoff() is None:
        return []
    with at_work():
        gone = [_finished(archived, steps) for archived in broken_off()]
        for partition in plan():
            stopping.check()
            if not partition.held_by:
                _retire(partition, steps)
                gone.append(partition.table_name)
    return gone


@contextmanager
def at_work() -> Iterator[None]:
    """Be the only process that archives or restores history. Errors: `RetentionFailed`."""
    # The lock has its own transaction: this works behind a pooler too, and the work meanwhile is
    # committed step by step.
    own = connection.copy()
    own.set_autocommit(False)
    try:
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
            if not cursor.fetchone()[0]:
                raise RetentionFailed(
                    "Another process is archiving or restoring history; retry later"
                )
            yield
    finally:
        own.rollback()
        own.set_autocommit(True)
        own.close()


def broken_off() -> list[ArchivedPartition]:
    """Return the partitions that an earlier run took out and did not drop."""
    out = ArchivedPartition.objects.filter(is_out=True, dropped_at=None)
    return list(out.order_by("ends_at", "table_name"))


def _retire(partition: Partition, steps: Steps) -> None:
    if not partition.readings:
        _drop_without_archive(partition)
        return
    of = history_of(partition.parent_name)
    archived = _archived(of, partition.table_name, partition.starts_at, partition.ends_at, steps)
    _take_out(of, archived)
    _drop_archived(of, archived, steps)


def _finished(archived: ArchivedPartition, steps: Steps) -> str:
    """Compare what an earlier run took out with its archive again, and drop it."""
    of = next(of for of in HISTORY if of.kind == archived.kind)
    _drop_archived(of, _archived_again(of, archived, steps), steps)
    return archived.table_name


def _archived(
    of: History, table_name: str, starts_at: datetime, ends_at: datetime, steps: Steps
) -> ArchivedPartition:
    """Return the archive of a partition: written if it is missing, and compared with it."""
    totals = totals_of(of, table_name)
    archive, file = Archive(settings.ARCHIVE_URL), file_name(table_name, totals)
    if not archive.is_whole(file):
        archive.write(file, of.kind, _rows(of, table_name), steps(f"archive {table_name}"))
    archive.require_equal(file, of.kind, _rows(of, table_name), steps(f"compare {table_name}"))
    archived: ArchivedPartition
    archived, _ = ArchivedPartition.objects.update_or_create(
        file=file,
        defaults={
            "kind": of.kind,
            "table_name": table_name,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "archived_at": timezone.now(),
            **totals._asdict(),
        },
    )
    return archived


def _archived_again(of: History, before: ArchivedPartition, steps: Steps) -> ArchivedPartition:
    """Return the archive of what is taken out, a new one if readings were added since."""
    archived = _archived(of, before.table_name, before.starts_at, before.ends_at, steps)
    if archived.pk != before.pk:
        _take_out(of, archived)
        before.delete()
    return archived


def _rows(of: History, table_name: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the deliveries of a partition in a fixed order, from a server-side cursor."""
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        connection.connection.cursor("retention") as cursor,
    ):
        cursor.execute(select_deliveries("archived_readings.sql", of.kind, table_name))
        while rows := cursor.fetchmany(BATCH_ROWS):
            stopping.check()
            yield rows


@transaction.atomic
def _take_out(of: History, archived: ArchivedPartition) -> None:
    """Refuse figures over the period from now on; keep the registers that later ones start from."""
    _execute(of.keep_registers.format(table=Identifier(archived.table_name)))
    archived.is_out = True
    archived.save(update_fields=["is_out"])


def _drop_archived(of: History, archived: ArchivedPartition, steps: Steps) -> None:
    _detach(of.table, archived.table_name)
    if not _drop_unchanged(of, archived):
        archived = _archived_again(of, archived, steps)
        if not _drop_unchanged(of, archived):
            raise RetentionFailed(f"{archived.table_name} changes although it is detached")


def _detach(parent_name: str, table_name: str) -> None:
    """Detach a partition, while other processes continue to write to the table."""
    for _ in range(_ATTEMPTS):
        state = _how_attached.rows({"parent_name": parent_name, "table_name": table_name})
        if not state:
            return
        how = SQL("FINALIZE") if state[0].is_pending else SQL("CONCURRENTLY")
        statement = SQL("ALTER TABLE {parent} DETACH PARTITION {table} {how}").format(
            parent=Identifier(parent_name), table=Identifier(table_name), how=how
        )
        with _unless_locked():
            _execute(statement)
    raise RetentionFailed(f"{table_name} is in use by a long-running transaction; retry later")


@contextmanager
def _unless_locked() -> Iterator[None]:
    """Wait for locks only briefly, outside of a transaction, and ignore a timeout."""
    _execute(SQL("SET lock_timeout = {}").format(_LOCK_WAIT))
    try:
        yield
    except OperationalError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable):
            raise
    finally:
        _execute(SQL("RESET lock_timeout"))


@transaction.atomic
def _drop_unchanged(of: History, archived: ArchivedPartition) -> bool:
    """Drop a detached partition if it is the same as its archive; return whether it was dropped."""
    table = Identifier(archived.table_name)
    _execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
    totals = totals_of(of, archived.table_name)
    if not totals.match(Totals(archived.readings, archived.energy_kwh, archived.last_id)):
        return False
    if Archive(settings.ARCHIVE_URL).rows(archived.file) != totals.readings:
        return False
    _execute(SQL("DROP TABLE {}").format(table))
    span = {"hour__gte": archived.starts_at, "hour__lt": archived.ends_at}
    of.changed.objects.filter(**span).delete()  # there is nothing left to roll up
    archived.dropped_at = timezone.now()
    archived.save(update_fields=["dropped_at"])
    return True


def _drop_without_archive(partition: Partition) -> None:
    """Drop a partition of sums, or one of history without readings."""
    parent, table = Identifier(partition.parent_name), Identifier(partition.table_name)
    for _ in range(_ATTEMPTS):
        with _unless_locked(), transaction.atomic():
            # In the same order as a writer locks them.
            _execute(SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(parent))
            _execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
            if partition.readings is not None and _is_filled(table):
                return  # a reading was just written to it: the next run archives it
            _execute(SQL("DROP TABLE {}").format(table))
            return
    raise RetentionFailed(f"{partition.table_name} is always in use; retry later")


def _is_filled(table: Identifier) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(SQL("SELECT EXISTS (SELECT FROM {})").format(table))
        return bool(cursor.fetchone()[0])


def _execute(statement: Composed | SQL) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
