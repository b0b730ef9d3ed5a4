"""Find the history that is only in the archive, and restore it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.utils import timezone

from ingestion.history.retention.apply import at_work, broken_off
from ingestion.history.retention.tables import HISTORY, RetentionFailed
from ingestion.models import ArchivedPartition


def gone_until(starts_at: datetime, ends_at: datetime) -> datetime | None:
    """Return the end of the last partition in [starts_at, ends_at) that is only in the archive."""
    out = ArchivedPartition.objects.filter(is_out=True)
    last = out.filter(starts_at__lt=ends_at, ends_at__gt=starts_at).order_by("ends_at").last()
    return last.ends_at if last else None


@contextmanager
def bringing_back() -> Iterator[None]:
    """Keep retention from running. Errors: `RetentionFailed`, also if a run is unfinished."""
    with at_work():
        if broken_off():
            raise RetentionFailed("`retention apply` was interrupted; run it again first")
        yield


def bring_back(file: str) -> None:
    """Allow figures over the period of `file` again; a file not in the archive changes nothing.

    Errors: `RetentionFailed`, if history has fewer readings of the period than the archive.
    """
    archived = ArchivedPartition.objects.filter(file=file, is_out=True).first()
    if archived is None:
        return
    of = next(of for of in HISTORY if of.kind == archived.kind)
    span = {"measured_at__gte": archived.starts_at, "measured_at__lt": archived.ends_at}
    readings = of.model.objects.filter(**span).count()
    if readings < archived.readings:
        raise RetentionFailed(
            f"{file} has {archived.readings:,} readings, but history has {readings:,} of its period"
        )
    archived.is_out, archived.brought_back_at = False, timezone.now()
    archived.save(update_fields=["is_out", "brought_back_at"])
