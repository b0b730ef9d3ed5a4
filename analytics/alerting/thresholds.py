"""Thresholds of faults: which are set, and what they would have opened last week."""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from analytics.models import FaultKind, FaultThresholds
from analytics.sql import STATEMENTS
from fleet.models import Site
from fleet.stores.statements import Statement

WEEK: Final = timedelta(days=7)
# Read before it: all 24 hours of the first figure, and what was already open.
_LOOK_BACK: Final = timedelta(hours=24)
# An hour is rolled up some minutes after its end; the newest hours are left out.
_SUMMED_UP_AFTER: Final = timedelta(minutes=10)
_NO_SITE: Final = 0

_low_efficiency = Statement(STATEMENTS / "low_efficiency_last_week.sql")
_hot_batteries = Statement(STATEMENTS / "hot_batteries_last_week.sql")
_silence = Statement(STATEMENTS / "silence_last_week.sql")


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
        "site_ids": _site_ids(thresholds),
    }
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Joins and windows over millions of hours, rarely needed: in memory, not on disk.
            cursor.execute("SET LOCAL work_mem = '256MB'")
        (efficiency,) = _low_efficiency.rows(
            span
            | {
                "opens": thresholds.efficiency_opens_percent,
                "closes": thresholds.efficiency_closes_percent,
                "min_energy_kwh": settings.MIN_ENERGY_KWH,
                "min_coverage": settings.MIN_COVERAGE,
            }
        )
        (battery,) = _hot_batteries.rows(
            span
            | {
                "opens": thresholds.battery_opens_celsius,
                "closes": thresholds.battery_closes_celsius,
            }
        )
        (silence,) = _silence.rows(
            span
            | {
                "now": now,
                "cadences": thresholds.silent_opens_cadences,
                "minutes": thresholds.silent_opens_minutes,
                "devices": thresholds.site_silent_devices,
            }
        )
    return {
        FaultKind.LOW_EFFICIENCY: efficiency.openings,
        FaultKind.HOT_BATTERY: battery.openings,
        FaultKind.SILENT: silence.of_devices,
        FaultKind.SITE_SILENT: silence.of_sites,
    }


def _site_ids(thresholds: FaultThresholds) -> list[int]:
    if thresholds.site_id is not None:
        return [thresholds.site_id]
    without = Site.objects.filter(thresholds=None).values_list("pk", flat=True)
    return [_NO_SITE, *without]
