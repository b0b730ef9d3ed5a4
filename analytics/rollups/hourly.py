"""Keep the hourly sums of history current: the only writer of `MeterHour` and `VehicleHour`.

An hour is settled once it is over: from then on, a reading that joins it marks it as changed, in
the writer's own transaction. A sum is used only if its hour has no mark, so figures are correct
whether or not the hour has been rolled up. The work to do is a list of marks.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from analytics.models import MeterHour, VehicleHour
from analytics.sql import STATEMENTS
from fleet.models import Meter, Vehicle
from fleet.stores import stopping
from fleet.stores.statements import Statement
from ingestion.history.partitions import ensure_partitions, is_missing_partition
from ingestion.models import ChangedMeterHour, ChangedVehicleHour

HOUR: Final = timedelta(hours=1)
# By then most readings of an hour have arrived; each later one costs another roll-up of the hour.
GRACE: Final = timedelta(minutes=3)
# A device that delivers late soon delivers more: an hour is rolled up again once it is quiet.
QUIET: Final = timedelta(minutes=1)
# Writers of the same devices wait for one batch at most: about 20 ms, and about 100 ms.
SETTLED_AT_ONCE: Final = 500
SUMMED_UP_AT_ONCE: Final = 1_000


@dataclass(frozen=True)
class _HourlyStatements:
    """The statements for the hours of one kind of device."""

    changed: type[ChangedMeterHour | ChangedVehicleHour]
    settle: Statement
    mark: Statement
    take_changed: Statement
    sum_up: Statement


_HOURLY: Final = (
    _HourlyStatements(
        ChangedMeterHour,
        Statement(STATEMENTS / "settle_meters.sql"),
        Statement(STATEMENTS / "mark_meter_hours.sql"),
        Statement(STATEMENTS / "take_changed_meter_hours.sql"),
        Statement(STATEMENTS / "sum_up_meter_hours.sql"),
    ),
    _HourlyStatements(
        ChangedVehicleHour,
        Statement(STATEMENTS / "settle_vehicles.sql"),
        Statement(STATEMENTS / "mark_vehicle_hours.sql"),
        Statement(STATEMENTS / "take_changed_vehicle_hours.sql"),
        Statement(STATEMENTS / "sum_up_vehicle_hours.sql"),
    ),
)


def roll_up() -> int:
    """Settle the hours that are over, and roll up those that have changed and been quiet since.

    Returns how many were rolled up. Pauses after each batch for half as long as it took: nobody
    waits for sums, but writers share the machine.
    """
    settle()
    total = 0
    began = time.monotonic()
    for summed_up in sum_up_changed():
        total += summed_up
        time.sleep((time.monotonic() - began) / 2)
        began = time.monotonic()
    return total


def settle() -> None:
    """Settle every hour that ended at least `GRACE` ago, so that it can be rolled up."""
    until = _hour_of(timezone.now() - GRACE)
    for kind in _HOURLY:
        settled = SETTLED_AT_ONCE
        while settled == SETTLED_AT_ONCE:
            stopping.check()
            (row,) = kind.settle.rows({"until": until, "most": SETTLED_AT_ONCE})
            settled = row.settled


def sum_up_changed() -> Iterator[int]:
    """Roll up the hours that are marked as changed and quiet; yield how many, batch by batch."""
    changed_before = timezone.now() - QUIET
    for kind in _HOURLY:
        while taken := _sum_up_some(kind, changed_before):
            yield taken
            stopping.check()


def mark(starts_at: datetime, ends_at: datetime, device_id: str | None = None) -> int:
    """Mark the settled hours of a span for another roll-up; return how many. Figures stay correct.

    `device_id` None means all; an id marks the hours of both a meter and a vehicle with that id.
    """
    marked = 0
    for kind in _HOURLY:
        (row,) = kind.mark.rows(
            {"starts_at": starts_at, "ends_at": ends_at, "device_id": device_id}
        )
        marked += row.marked
    return marked


def mark_all_of(device: Meter | Vehicle, **_: Any) -> None:
    """Mark all hours of `device` for another roll-up; until then its figures come from history."""
    of_device = {"meter_id" if isinstance(device, Meter) else "vehicle_id": device.pk}
    hours = (MeterHour if isinstance(device, Meter) else VehicleHour).objects.filter(**of_device)
    oldest = hours.order_by("hour").first()
    if oldest:
        mark(oldest.hour, timezone.now(), device.pk)


def pending() -> int:
    """Return how many hours wait to be rolled up."""
    return sum(kind.changed.objects.count() for kind in _HOURLY)


def _sum_up_some(kind: _HourlyStatements, changed_before: datetime) -> int:
    """Roll up one batch; return how many marks it removed. Creates missing partitions."""
    try:
        return _sum_up_in_one_transaction(kind, changed_before)
    except IntegrityError as error:
        if not is_missing_partition(error):
            raise
        ensure_partitions(
            kind.changed.objects.order_by("pk").values_list("hour", flat=True)[:SUMMED_UP_AT_ONCE]
        )
        return _sum_up_in_one_transaction(kind, changed_before)


def _sum_up_in_one_transaction(kind: _HourlyStatements, changed_before: datetime) -> int:
    with transaction.atomic():
        taken = kind.take_changed.rows(
            {"changed_before": changed_before, "most": SUMMED_UP_AT_ONCE}
        )
        if taken:
            # A separate statement: it sees everything committed when the marks were taken.
            hours = [row.hour for row in taken]
            kind.sum_up.rows(
                {
                    "device_ids": [row.device_id for row in taken],
                    "hours": hours,
                    "first": min(hours),
                    "last": max(hours) + HOUR,
                    "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
                }
            )
    return len(taken)


def _hour_of(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
