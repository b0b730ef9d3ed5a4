"""Keep the hourly sums of history current: the only writer of `MeterHour` and `VehicleHour`.

An hour is settled once it is over: from then on, a reading that joins it marks it as changed, in
the writer's own transaction. A sum is used only if its hour has no mark, so figures are correct
whether or not the hour has been rolled up. The work to do is a list of marks.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from analytics.rollups import shared_hours
from analytics.sql import STATEMENTS
from fleet.links import EARLIEST
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
# A year of these devices is some minutes of work, between which new hours have their turn.
OUTDATED_AT_ONCE: Final = 50


@dataclass(frozen=True)
class _HourlyStatements:
    """The statements for the hours of one kind of device."""

    name: str
    changed: type[ChangedMeterHour | ChangedVehicleHour]
    settle: Statement
    mark: Statement
    take_changed: Statement
    sum_up: Statement
    mark_outdated: Statement


_HOURLY: Final = (
    _HourlyStatements(
        "meter",
        ChangedMeterHour,
        Statement(STATEMENTS / "settle_meters.sql"),
        Statement(STATEMENTS / "mark_meter_hours.sql"),
        Statement(STATEMENTS / "take_changed_meter_hours.sql"),
        Statement(STATEMENTS / "sum_up_meter_hours.sql"),
        Statement(STATEMENTS / "mark_outdated_meter_hours.sql"),
    ),
    _HourlyStatements(
        "vehicle",
        ChangedVehicleHour,
        Statement(STATEMENTS / "settle_vehicles.sql"),
        Statement(STATEMENTS / "mark_vehicle_hours.sql"),
        Statement(STATEMENTS / "take_changed_vehicle_hours.sql"),
        Statement(STATEMENTS / "sum_up_vehicle_hours.sql"),
        Statement(STATEMENTS / "mark_outdated_vehicle_hours.sql"),
    ),
)


def roll_up() -> int:
    """Settle the hours that are over, and roll up those that have changed and been quiet since.

    Hours that were summed up by other rules follow, some devices at a time. Returns how many were
    rolled up. Pauses after each batch for half as long as it took: nobody waits for sums, but
    writers share the machine.
    """
    total = 0
    while True:
        settle()
        began = time.monotonic()
        for summed_up in sum_up_changed():
            total += summed_up
            time.sleep((time.monotonic() - began) / 2)
            began = time.monotonic()
        if not mark_outdated():
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
    """Roll up the hours that are marked as changed and quiet; yield how many, batch by batch.

    Afterwards, what they change of how vehicles share meters. If it stops before that, the hours
    are marked again.
    """
    changed_before = timezone.now() - QUIET
    due: set[shared_hours.MeterAt] = set()
    try:
        for kind in _HOURLY:
            while taken := _sum_up_some(kind, changed_before, due):
                yield taken
                stopping.check()
        shared_hours.calculate(due)
    finally:
        _mark_again(due)


def mark_outdated() -> int:
    """Mark the hours of some devices whose energy is counted by other rules now.

    Returns how many devices these were; until their hours are rolled up, their figures come from
    history.
    """
    marked = 0
    for kind in _HOURLY:
        (row,) = kind.mark_outdated.rows(
            {
                "most": OUTDATED_AT_ONCE,
                "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
            }
        )
        marked += row.devices
    return marked


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


def _mark_again(due: Iterable[shared_hours.MeterAt]) -> None:
    """Mark hours of meters whose shares were to be calculated, and those between them."""
    hours: dict[str, list[datetime]] = defaultdict(list)
    for meter_id, hour in due:
        hours[meter_id].append(hour)
    for meter_id, of_meter in hours.items():
        mark(min(of_meter), max(of_meter) + HOUR, meter_id)


def mark_after_link(meter_ids: Iterable[str] = (), **_: Any) -> None:
    """Mark the hours of meters whose links have changed, so that their shares are calculated."""
    for meter_id in shared_hours.meters_shared(meter_ids):
        mark(EARLIEST, timezone.now(), meter_id)


def pending() -> int:
    """Return how many hours wait to be rolled up."""
    return sum(kind.changed.objects.count() for kind in _HOURLY)


def _sum_up_some(
    kind: _HourlyStatements, changed_before: datetime, due: set[shared_hours.MeterAt]
) -> int:
    """Roll up one batch; return how many marks it removed. Creates missing partitions.

    Adds the hours of meters to `due` whose shares have to be calculated.
    """
    try:
        return _sum_up_in_one_transaction(kind, changed_before, due)
    except IntegrityError as error:
        if not is_missing_partition(error):
            raise
        ensure_partitions(
            kind.changed.objects.order_by("pk").values_list("hour", flat=True)[:SUMMED_UP_AT_ONCE]
        )
        return _sum_up_in_one_transaction(kind, changed_before, due)


def _sum_up_in_one_transaction(
    kind: _HourlyStatements, changed_before: datetime, due: set[shared_hours.MeterAt]
) -> int:
    with transaction.atomic():
        shared_hours.lock()
        taken = kind.take_changed.rows(
            {"changed_before": changed_before, "most": SUMMED_UP_AT_ONCE}
        )
        if taken:
            # A separate statement: it sees everything committed when the marks were taken.
            device_ids = [row.device_id for row in taken]
            hours = [row.hour for row in taken]
            due |= shared_hours.take(kind.name, device_ids, hours)
            kind.sum_up.rows(
                {
                    "device_ids": device_ids,
                    "hours": hours,
                    "first": min(hours),
                    "last": max(hours) + HOUR,
                    "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
                }
            )
    return len(taken)


def _hour_of(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
