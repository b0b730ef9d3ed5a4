"""Plan or apply retention: list the old partitions of history, or archive and drop them."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError
from tqdm import tqdm

from ingestion.history.archive import Archive, ArchiveFailed
from ingestion.history.retention.apply import apply
from ingestion.history.retention.plan import Partition, plan
from ingestion.history.retention.tables import RetentionFailed
from ingestion.models import ArchivedPartition

_MIB = 1024 * 1024


class Command(BaseCommand):
    """Plan or apply retention; `import_readings --archived` restores archived history."""

    help = (
        "List the partitions of history that retention would archive and drop (plan), or archive "
        "and drop them (apply). After an interruption, run the same command to continue."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("plan", "apply"))
        parser.add_argument("--yes", action="store_true", help="apply without confirmation")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            planned = plan()
            self._print(planned)
            if options["action"] == "apply" and self._is_wanted(planned, options["yes"]):
                gone = apply(_steps)
                self.stdout.write(f"{len(gone)} partitions dropped")
        except (RetentionFailed, ArchiveFailed) as error:
            raise CommandError(str(error)) from None
        except (OperationalError, InterfaceError) as error:
            raise CommandError(f"The database is not available: {error}") from None
        except KeyboardInterrupt:
            raise CommandError("Stopped; run the same command to continue") from None

    def _print(self, planned: list[Partition]) -> None:
        if not settings.RETENTION_DAYS:
            self.stdout.write("RETENTION_DAYS is 0: history is kept forever")
        for partition in planned:
            self.stdout.write(_line(partition))
        out = ArchivedPartition.objects.filter(is_out=True).order_by("ends_at", "table_name")
        for archived in out:
            what = "only in the archive" if archived.dropped_at else "interrupted, to be dropped"
            self.stdout.write(f"{archived.file}  {archived.readings:,} readings, {what}")

    def _is_wanted(self, planned: list[Partition], is_told: bool) -> bool:
        going = sum(not partition.held_by for partition in planned)
        unfinished = ArchivedPartition.objects.filter(is_out=True, dropped_at=None).exists()
        if is_told or not (going or unfinished):
            return True
        return input(f"Archive and drop {going} partitions? [y/N] ").strip().lower() == "y"


def _line(partition: Partition) -> str:
    span = f"{partition.starts_at:%Y-%m-%d} to {partition.ends_at:%Y-%m-%d}"
    size = f"{partition.size_bytes / _MIB:,.1f} MiB"
    if partition.held_by:
        fate = f"kept: {partition.held_by}"
    elif partition.file:
        fate = f"to {Archive(settings.ARCHIVE_URL).where(partition.file)}"
    else:
        fate = "dropped without archiving"
    readings = "sums" if partition.readings is None else f"{partition.readings:,} readings"
    return f"{partition.table_name}  {span}  {readings}  {size}  {fate}"


def _steps(what: str) -> Callable[[int], object]:
    """Show the progress of a step until the next one replaces it."""
    update: Callable[[int], object] = tqdm(desc=what, unit=" readings", unit_scale=True).update
    return update
