"""Thresholds of faults: which are set, and what they would have opened last week."""

from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.utils import timezone

from analytics.alerting.kinds import KINDS
from analytics.models import FaultKind, FaultThresholds
from fleet.models import Site

WEEK: Final = timedelta(days=7)
# Read before it: all 24 hours of the first figure, and what was already open.
_LOOK_BACK: Final = timedelta(hours=24)
# An hour is rolled up some minutes after its end; the newest hours are left out.
_SUMMED_UP_AFTER: Final = timedelta(minutes=10)
_NO_SITE: Final = 0


def default_thresholds() -> FaultThresholds:
    """Return the thresholds for sites without their own, and for devices without a site."""
    return FaultThresholds.objects.filter(site=None).first() or FaultThresholds()


def faults_last_week(thresholds: FaultThresholds) -> dict[FaultKind, int]:
    """Return how many faults `thresholds` would have opened in the last seven days, by kind.

    Counts faults at the site of the thresholds. Thresholds without a site apply to all sites
    without their own, and to all devices without a site. An unsaved instance works too.

    An estimate from the hourly sums: figures at full hours, temperatures averaged by the hour,
    silences by the first and the last reading of an hour. Vehicles without a link, the current
    hour, and faults that people closed are not taken into account.
    """
    now = timezone.now()
    until = (now - _SUMMED_UP_AFTER).replace(minute=0, second=0, microsecond=0)
    span: dict[str, Any] = {
        "first": until - WEEK - _LOOK_BACK,
        "since": until - WEEK,
        "until": until,
        "now": now,
        "site_ids": _site_ids(thresholds),
    }
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Joins and windows over millions of hours, rarely needed: in memory, not on disk.
            cursor.execute("SET LOCAL work_mem = '256MB'")
        estimators = (record.last_week for record in KINDS.values())
        counted = [estimate(span, thresholds) for estimate in dict.fromkeys(estimators) if estimate]
    return {kind: number for counts in counted for kind, number in counts.items()}


def _site_ids(thresholds: FaultThresholds) -> list[int]:
    if thresholds.site_id is not None:
        return [thresholds.site_id]
    without = Site.objects.filter(thresholds=None).values_list("pk", flat=True)
    return [_NO_SITE, *without]
