"""Store how vehicles share the AC of meters, hour by hour: the only writer of `SharedHour`.

A stored hour is used as long as nothing that it follows from is marked as changed; whoever takes
such a mark removes it first. Hours whose counters are still open are left to figures.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from analytics.figures.curve import Stretch
from analytics.figures.energy import Span
from analytics.figures.history import ArchivedHistory
from analytics.figures.links import Slice
from analytics.figures.sharing import calculated_shares
from analytics.sql import STATEMENTS
from fleet.models import VehicleMeterLink
from fleet.stores import stopping
from fleet.stores.statements import Statement

# An hour of a meter.
MeterAt = tuple[str, datetime]

HOUR: Final = timedelta(hours=1)
# `take_shared_*_hours.sql` looks no further for what read an hour.
_READS_AT_MOST: Final = timedelta(days=2)
_AT_ONCE: Final = 100
# Whoever takes marks holds it shared, whoever calculates holds it alone: what was calculated before
# a mark was taken is not stored after it.
_ADVISORY_LOCK: Final = 0x736861726573  # "shares"

_take: Final = {
    "meter": Statement(STATEMENTS / "take_shared_meter_hours.sql"),
    "vehicle": Statement(STATEMENTS / "take_shared_vehicle_hours.sql"),
}
_sharers_of_hours: Final = Statement(STATEMENTS / "sharers_of_hours.sql")
_settle_sharers: Final = Statement(STATEMENTS / "settle_sharers.sql")
_keep_shared_hours: Final = Statement(STATEMENTS / "keep_shared_hours.sql")


def lock() -> None:
    """Let no hour be calculated until the end of the transaction.

    Call it before marks are taken: whoever waits for it with a mark could hold up a writer.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_ADVISORY_LOCK])


def take(kind: str, device_ids: Sequence[str], hours: Sequence[datetime]) -> set[MeterAt]:
    """Remove what read some hours of devices, and return the hours of meters to calculate.

    Call it in the transaction that takes the marks of these hours, after `lock`.
    """
    rows = _take[kind].rows({"device_ids": list(device_ids), "hours": list(hours)})
    return {(row.meter_id, row.hour) for row in rows}


def calculate(due: set[MeterAt]) -> None:
    """Calculate hours of meters, store those that can be, and remove them from `due`."""
    asked = sorted(due)
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        _calculate(some)
        due.difference_update(some)


def _calculate(asked: Sequence[MeterAt]) -> None:
    # The rules before the readings: should they change meanwhile, the hour is not valid.
    hours = _sharers_of_hours.rows(
        {
            "meter_ids": [meter_id for meter_id, _ in asked],
            "hours": [hour for _, hour in asked],
            "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
        }
    )
    for hour in hours:
        _calculate_one(hour)


def _calculate_one(hour: Any) -> None:
    """Calculate one hour, and store it if it can be. Writers wait for its end at most."""
    stopping.check()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if row := _row(hour):
            _keep_shared_hours.rows({name: [value] for name, value in row.items()})


def _row(hour: Any) -> dict[str, Any] | None:
    """Return what to store of an hour; None if readings that are still to come may change it."""
    vehicle_ids = hour.vehicle_ids.split("\n")
    meter = Span(hour.meter_id, hour.hour, hour.hour + HOUR)
    cut = Slice(meter, frozenset(vehicle_ids))
    try:
        calculated = calculated_shares([cut])[cut]
    except ArchivedHistory:
        return None
    if calculated.reads is None or not _is_settled(hour.meter_id, vehicle_ids, calculated.reads):
        return None
    # What was settled meanwhile is read again.
    again = calculated_shares([cut])[cut]
    if again.reads is None or again.reads != calculated.reads:
        return None
    energies = ",".join(repr(again.shares[vehicle_id]) for vehicle_id in vehicle_ids)
    return {
        "meter_id": hour.meter_id,
        "hour": hour.hour,
        "vehicle_ids": hour.vehicle_ids,
        "energies_ac_kwh": f"{{{energies}}}",
        "rules": hour.rules,
        "reads_from": again.reads[0],
        "reads_until": again.reads[1],
    }


def _is_settled(meter_id: str, vehicle_ids: Sequence[str], reads: Stretch) -> bool:
    """Return whether a reading in `reads` marks its hour from now on."""
    hour = reads[0].replace(minute=0, second=0, microsecond=0)
    until = reads[1].replace(minute=0, second=0, microsecond=0) + HOUR
    if until - hour > 2 * _READS_AT_MOST - HOUR:
        return False
    (row,) = _settle_sharers.rows(
        {"meter_id": meter_id, "vehicle_ids": list(vehicle_ids), "until": until}
    )
    return bool(row.settled == 1 + len(vehicle_ids))


def meters_shared(meter_ids: Iterable[str]) -> list[str]:
    """Return the meters that several vehicles have ever been linked to."""
    pairs = set(
        VehicleMeterLink.objects.filter(meter_id__in=list(meter_ids)).values_list(
            "meter_id", "vehicle_id"
        )
    )
    vehicles = Counter(meter_id for meter_id, _ in pairs)
    return sorted(meter_id for meter_id, number in vehicles.items() if number > 1)
