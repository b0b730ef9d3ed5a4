"""Retention: history that is old enough goes into the archive, and only then out of the database.

The only writer of `ArchivedPartition`. Each step leaves a state from which the next run goes on:
archived and compared with history; taken out, so that figures over its span are refused from the
moment on at which its readings are missing; detached, so that nothing can join it; compared once
more and dropped, in one transaction.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg import errors
from psycopg.sql import SQL, Composed, Identifier

from fleet.stores import stopping
from fleet.stores.statements import Statement
from ingestion.history.archive import BATCH_ROWS, Archive, Progress
from ingestion.models import (
    ArchivedPartition,
    ChangedMeterHour,
    ChangedVehicleHour,
    MeterReading,
    VehicleReading,
)
from ingestion.readings import DeviceKind
from ingestion.sql import STATEMENTS

# History that was brought back would otherwise go again the next night.
BROUGHT_BACK_IS_KEPT: Final = timedelta(days=30)
# Charts and estimates look back so far, and need no check for what is missing.
LEAST_DAYS: Final = 31

# The same key wherever history goes or comes back, so that two processes never do that at once.
_ADVISORY_LOCK: Final = 0x61726368697665  # "archive"
# Who waits for a lock on a table makes others wait: better to let go, and to try again.
_LOCK_WAIT: Final = "1500ms"
_ATTEMPTS: Final = 20
# Sums of one set of floats differ by the order in which they are added.
_SAME_SUM: Final = 1e-9

_past_partitions = Statement(STATEMENTS / "past_partitions.sql")
_how_attached = Statement(STATEMENTS / "how_attached.sql")


class RetentionFailed(Exception):
    """History could not go or come back; the text says why. Nothing is lost."""


class _History(NamedTuple):
    """What retention has to know of one table of history."""

    kind: DeviceKind
    model: type[MeterReading | VehicleReading]
    changed: type[ChangedMeterHour | ChangedVehicleHour]
    energy: str
    in_order: SQL
    keep_registers: SQL

    @property
    def table(self) -> str:
        return self.model._meta.db_table


def _history(
    kind: DeviceKind, model: Any, changed: type[ChangedMeterHour | ChangedVehicleHour], energy: str
) -> _History:
    in_order, keep_registers = (
        SQL((STATEMENTS / f"{name}.sql").read_text())
        for name in (f"archived_{kind}_readings", f"keep_{kind}_registers")
    )
    return _History(kind, model, changed, energy, in_order, keep_registers)


_HISTORY: Final = (
    _history(DeviceKind.METER, MeterReading, ChangedMeterHour, "energy_ac_kwh"),
    _history(DeviceKind.VEHICLE, VehicleReading, ChangedVehicleHour, "energy_dc_kwh"),
)


class Partition(NamedTuple):
    """A partition that is past; of history, with what it holds, or of what is derived from it."""

    parent_name: str
    table_name: str
    starts_at: datetime
    ends_at: datetime
    size_bytes: int
    readings: int | None
    # Where its archive goes; None where nothing has to be kept.
    file: str | None
    # What keeps it from going; empty where nothing does.
    held_by: str

    @property
    def is_history(self) -> bool:
        return any(self.parent_name == of.table for of in _HISTORY)


class _Totals(NamedTuple):
    """What tells whether two looks at a partition have seen the same rows."""

    readings: int
    energy_kwh: float
    last_id: int

    def match(self, others: "_Totals") -> bool:
        same_rows = (self.readings, self.last_id) == (others.readings, others.last_id)
        return same_rows and math.isclose(self.energy_kwh, others.energy_kwh, rel_tol=_SAME_SUM)


# --- Plan -------------------------------------------------------------------------------------


def misconfigured() -> str:
    """Return what is wrong with the settings of retention; empty where nothing is."""
    days, horizon = settings.RETENTION_DAYS, settings.HISTORY_HORIZON_DAYS
    # A partition goes when its end is older than that: none of its readings is accepted any more.
    least = max(LEAST_DAYS, horizon + 1)
    if days == 0:
        return ""
    if days < least:
        return (
            f"RETENTION_DAYS is {days}: it must be 0, or at least {least}, and more than "
            f"HISTORY_HORIZON_DAYS, which is {horizon}"
        )
    return "" if settings.ARCHIVE_URL else "RETENTION_DAYS needs ARCHIVE_URL"


def plan() -> list[Partition]:
    """Return the partitions whose time has come, the oldest first, those of history before sums.

    Counts the readings of each: minutes, where history is long.
    """
    cutoff = _cutoff()
    if cutoff is None:
        return []
    own = [_of_history(row) for row in _past([of.table for of in _HISTORY], cutoff)]
    kept = [partition for partition in own if partition.held_by]
    derived = [_of_sums(row, kept) for row in _past(_derived_tables(), cutoff)]
    return own + derived


def _cutoff() -> datetime | None:
    """Return since when history is kept, None for ever. Errors: `RetentionFailed`."""
    if wrong := misconfigured():
        raise RetentionFailed(wrong)
    days = settings.RETENTION_DAYS
    return timezone.now() - timedelta(days=days) if days else None


def _past(tables: list[str], before: datetime) -> list[Any]:
    return _past_partitions.rows({"tables": tables, "over_before": before})


def _derived_tables() -> list[str]:
    tables = [apps.get_model(label)._meta.db_table for label in settings.PARTITIONED_MODELS]
    return [table for table in tables if table not in {of.table for of in _HISTORY}]


def _of_history(row: Any) -> Partition:
    of = _history_of(row.parent_name)
    totals = _totals(of, row.table_name)
    file = _file_name(row.table_name, totals) if totals.readings else None
    return Partition(
        **row._asdict(), readings=totals.readings, file=file, held_by=_held_by(row.table_name)
    )


def _of_sums(row: Any, kept: list[Partition]) -> Partition:
    overlapping = [
        partition.table_name
        for partition in kept
        if partition.starts_at < row.ends_at and row.starts_at < partition.ends_at
    ]
    held_by = f"sums of {overlapping[0]}" if overlapping else ""
    return Partition(**row._asdict(), readings=None, file=None, held_by=held_by)


def _held_by(table_name: str) -> str:
    since = timezone.now() - BROUGHT_BACK_IS_KEPT
    back = ArchivedPartition.objects.filter(table_name=table_name, brought_back_at__gt=since)
    newest = back.order_by("-brought_back_at").first()
    if newest is None or newest.brought_back_at is None:
        return ""
    until = newest.brought_back_at + BROUGHT_BACK_IS_KEPT
    return f"brought back, kept until {until:%Y-%m-%d}"


def _history_of(parent_name: str) -> _History:
    return next(of for of in _HISTORY if of.table == parent_name)


def _file_name(table_name: str, totals: _Totals) -> str:
    """Return a name that says which rows a file holds: history is never changed, only added to."""
    return f"{table_name}-{totals.readings}-{totals.last_id}.parquet"


def _totals(of: _History, table_name: str) -> _Totals:
    query = SQL(
        "SELECT count(*), coalesce(sum({energy}), 0), coalesce(max(id), 0) FROM {table}"
    ).format(energy=Identifier(of.energy), table=Identifier(table_name))
    with connection.cursor() as cursor:
        cursor.execute(query)
        return _Totals(*cursor.fetchone())


# --- Apply ------------------------------------------------------------------------------------

# Is told what is done next; returns what is told how many rows of it are done.
Steps = Callable[[str], Progress]


def apply(steps: Steps) -> list[str]:
    """Archive and drop what the plan says; return the names of the partitions that went.

    Safe to interrupt anywhere, and to call again. Errors: `RetentionFailed`, `ArchiveFailed`: what
    had gone by then is in the archive, all else is where it was.
    """
    if _cutoff() is None:
        return []
    with at_work():
        gone = [_finished(archived, steps) for archived in _broken_off()]
        for partition in plan():
            stopping.check()
            if not partition.held_by:
                _retire(partition, steps)
                gone.append(partition.table_name)
    return gone


@contextmanager
def at_work() -> Iterator[None]:
    """Be the only one to take history out or to bring it back. Errors: `RetentionFailed`."""
    # In a transaction of its own: that holds behind a pooler too, and what is done meanwhile is
    # committed step by step.
    own = connection.copy()
    own.set_autocommit(False)
    try:
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
            if not cursor.fetchone()[0]:
                raise RetentionFailed("Another process is archiving history or bringing it back")
            yield
    finally:
        own.rollback()
        own.set_autocommit(True)
        own.close()


def _broken_off() -> list[ArchivedPartition]:
    """Return what an earlier run had taken out and not dropped."""
    out = ArchivedPartition.objects.filter(is_out=True, dropped_at=None)
    return list(out.order_by("ends_at", "table_name"))


def _retire(partition: Partition, steps: Steps) -> None:
    if not partition.readings:
        _drop_without_archive(partition)
        return
    of = _history_of(partition.parent_name)
    archived = _archived(of, partition.table_name, partition.starts_at, partition.ends_at, steps)
    _take_out(of, archived)
    _drop_archived(of, archived, steps)


def _finished(archived: ArchivedPartition, steps: Steps) -> str:
    """Drop what an earlier run had taken out, having compared it with its archive once more."""
    of = next(of for of in _HISTORY if of.kind == archived.kind)
    _drop_archived(of, _archived_again(of, archived, steps), steps)
    return archived.table_name


def _archived(
    of: _History, table_name: str, starts_at: datetime, ends_at: datetime, steps: Steps
) -> ArchivedPartition:
    """Return the archive of a partition: written, unless it is there, and compared with it."""
    totals = _totals(of, table_name)
    archive, file = Archive(settings.ARCHIVE_URL), _file_name(table_name, totals)
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


def _archived_again(of: _History, before: ArchivedPartition, steps: Steps) -> ArchivedPartition:
    """Return the archive of what is taken out, anew where readings have joined since."""
    archived = _archived(of, before.table_name, before.starts_at, before.ends_at, steps)
    if archived.pk != before.pk:
        _take_out(of, archived)
        before.delete()
    return archived


def _rows(of: _History, table_name: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the deliveries of a partition in a fixed order, from a cursor on the server."""
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        connection.connection.cursor("retention") as cursor,
    ):
        cursor.execute(of.in_order.format(table=Identifier(table_name)))
        while rows := cursor.fetchmany(BATCH_ROWS):
            stopping.check()
            yield rows


@transaction.atomic
def _take_out(of: _History, archived: ArchivedPartition) -> None:
    """Let figures over the span be refused from now on; keep what the next ones start from."""
    _execute(of.keep_registers.format(table=Identifier(archived.table_name)))
    archived.is_out = True
    archived.save(update_fields=["is_out"])


def _drop_archived(of: _History, archived: ArchivedPartition, steps: Steps) -> None:
    _detach(of.table, archived.table_name)
    if not _drop_unchanged(of, archived):
        archived = _archived_again(of, archived, steps)
        if not _drop_unchanged(of, archived):
            raise RetentionFailed(f"{archived.table_name} changes though nothing can join it")


def _detach(parent_name: str, table_name: str) -> None:
    """Make a partition a table by itself, while others go on writing to all of them."""
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
    raise RetentionFailed(f"{table_name} is in use by a transaction that does not end: try later")


@contextmanager
def _unless_locked() -> Iterator[None]:
    """Wait for locks for a moment only, outside of a transaction, and let it go if that fails."""
    _execute(SQL("SET lock_timeout = {}").format(_LOCK_WAIT))
    try:
        yield
    except OperationalError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable):
            raise
    finally:
        _execute(SQL("RESET lock_timeout"))


@transaction.atomic
def _drop_unchanged(of: _History, archived: ArchivedPartition) -> bool:
    """Drop a detached partition if it holds just what its archive does, and tell whether it did."""
    table = Identifier(archived.table_name)
    _execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
    totals = _totals(of, archived.table_name)
    if not totals.match(_Totals(archived.readings, archived.energy_kwh, archived.last_id)):
        return False
    if Archive(settings.ARCHIVE_URL).rows(archived.file) != totals.readings:
        return False
    _execute(SQL("DROP TABLE {}").format(table))
    span = {"hour__gte": archived.starts_at, "hour__lt": archived.ends_at}
    of.changed.objects.filter(**span).delete()  # there is nothing to sum up any more
    archived.dropped_at = timezone.now()
    archived.save(update_fields=["dropped_at"])
    return True


def _drop_without_archive(partition: Partition) -> None:
    """Drop a partition of sums, or one of history without a reading."""
    parent, table = Identifier(partition.parent_name), Identifier(partition.table_name)
    for _ in range(_ATTEMPTS):
        with _unless_locked(), transaction.atomic():
            # In the order in which a writer takes them.
            _execute(SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(parent))
            _execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
            if partition.readings is not None and _is_filled(table):
                return  # somebody has written to it just now: the next run archives it
            _execute(SQL("DROP TABLE {}").format(table))
            return
    raise RetentionFailed(f"{partition.table_name} is in use all the time: try later")


def _is_filled(table: Identifier) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(SQL("SELECT EXISTS (SELECT FROM {})").format(table))
        return bool(cursor.fetchone()[0])


def _execute(statement: Composed | SQL) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


# --- What has gone ----------------------------------------------------------------------------


def gone_until(starts_at: datetime, ends_at: datetime) -> datetime | None:
    """Return the end of the last span of [starts_at, ends_at) that is in the archive alone."""
    out = ArchivedPartition.objects.filter(is_out=True)
    last = out.filter(starts_at__lt=ends_at, ends_at__gt=starts_at).order_by("ends_at").last()
    return last.ends_at if last else None


@contextmanager
def bringing_back() -> Iterator[None]:
    """Let nothing go meanwhile. Errors: `RetentionFailed`, also where a run has broken off."""
    with at_work():
        if _broken_off():
            raise RetentionFailed("`retention apply` broke off: let it finish first")
        yield


def bring_back(file: str) -> None:
    """Let figures be made again of what `file` held; a file that is not of ours changes nothing.

    Errors: `RetentionFailed`, where history holds fewer readings of the span than the archive.
    """
    archived = ArchivedPartition.objects.filter(file=file, is_out=True).first()
    if archived is None:
        return
    of = next(of for of in _HISTORY if of.kind == archived.kind)
    span = {"measured_at__gte": archived.starts_at, "measured_at__lt": archived.ends_at}
    readings = of.model.objects.filter(**span).count()
    if readings < archived.readings:
        raise RetentionFailed(
            f"{file} held {archived.readings:,} readings, and history has {readings:,} of its span"
        )
    archived.is_out, archived.brought_back_at = False, timezone.now()
    archived.save(update_fields=["is_out", "brought_back_at"])
