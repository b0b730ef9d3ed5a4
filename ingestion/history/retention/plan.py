"""Plan retention: which partitions are old enough, and why one is kept nevertheless."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.conf import settings
from django.utils import timezone

from fleet.stores.statements import Statement
from ingestion.history.retention.tables import (
    HISTORY,
    RetentionFailed,
    file_name,
    history_of,
    totals_of,
)
from ingestion.models import ArchivedPartition
from ingestion.sql import STATEMENTS

# Otherwise, restored history would be archived again the next night.
BROUGHT_BACK_IS_KEPT: Final = timedelta(days=30)
# Charts and estimates look back this far, and don't check for missing history.
LEAST_DAYS: Final = 31

_past_partitions = Statement(STATEMENTS / "past_partitions.sql")


class Partition(NamedTuple):
    """A past partition: of history, with its number of readings, or of sums derived from it."""

    parent_name: str
    table_name: str
    starts_at: datetime
    ends_at: datetime
    size_bytes: int
    readings: int | None
    # The name of its archive file; None if there is nothing to archive.
    file: str | None
    # Why it is kept; empty if it is not.
    held_by: str


def misconfigured() -> str:
    """Return what is wrong with the settings of retention; empty if nothing is."""
    days, horizon = settings.RETENTION_DAYS, settings.HISTORY_HORIZON_DAYS
    # A partition is archived once its end is older than this: it accepts no more readings by then.
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
    """Return the partitions that are old enough, oldest first, those of history before sums.

    Counts the readings of each: minutes, where history is long.
    """
    before = cutoff()
    if before is None:
        return []
    own = [_of_history(row) for row in _past([of.table for of in HISTORY], before)]
    kept = [partition for partition in own if partition.held_by]
    derived = [_of_sums(row, kept) for row in _past(_derived_tables(), before)]
    return own + derived


def cutoff() -> datetime | None:
    """Return since when history is kept; None means forever. Errors: `RetentionFailed`."""
    if wrong := misconfigured():
        raise RetentionFailed(wrong)
    days = settings.RETENTION_DAYS
    return timezone.now() - timedelta(days=days) if days else None


def _past(tables: list[str], before: datetime) -> list[Any]:
    return _past_partitions.rows({"tables": tables, "over_before": before})


def _derived_tables() -> list[str]:
    tables = [apps.get_model(label)._meta.db_table for label in settings.PARTITIONED_MODELS]
    return [table for table in tables if table not in {of.table for of in HISTORY}]


def _of_history(row: Any) -> Partition:
    of = history_of(row.parent_name)
    totals = totals_of(of, row.table_name)
    file = file_name(row.table_name, totals) if totals.readings else None
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
    return f"restored, until {until:%Y-%m-%d}"
