"""The overview's figures besides the fleet totals; each function runs one statement."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db.models import Count, F, FloatField, Q, QuerySet, Sum
from django.db.models.functions import Cast, Floor, Least

from analytics.models import Fault, FaultKind, FaultState, FleetHour, VehicleDay
from fleet.models import MeterLiveState, Site, VehicleLiveState

HOUR: Final = timedelta(hours=1)
HOURS_SHOWN: Final = 24
ROWS_SHOWN: Final = 10
BIN_PERCENT: Final = 5
LAST_BIN: Final = 100 // BIN_PERCENT

_MEASURED: Final = ("linked", "shared")


class Loss(NamedTuple):
    """Energy lost between meter and battery where both were measured; cost by currency.

    `unpriced_kwh` is what has no price, at sites where the rest has one.
    """

    energy_kwh: float
    vehicles: int
    money: dict[str, Decimal]
    unpriced_kwh: float


class SilentDevice(NamedTuple):
    """A device in service that has sent readings, but not within ONLINE_WINDOW."""

    kind: str
    device_id: str
    site: Site | None
    received_at: datetime


def judged_days() -> QuerySet[Any]:
    """Return the days of vehicles with a meaningful efficiency, each with `lost_kwh`."""
    lost_kwh = F("energy_ac_kwh") * (100.0 - F("efficiency_percent")) / 100.0
    known = VehicleDay.objects.filter(reason__isnull=True)
    days: QuerySet[Any] = known.annotate(lost_kwh=Cast(lost_kwh, FloatField()))
    return days


def loss() -> Loss:
    """Return the loss of the last 24 hours.

    Excluded are vehicles without a link, whose share of the fleet's AC does not measure their loss,
    and efficiencies above 100 %.
    """
    rows = (
        judged_days()
        .filter(efficiency_percent__lte=100, ac_source__in=_MEASURED)
        .values("loss_currency")
        .annotate(
            kwh=Sum("lost_kwh"),
            vehicles=Count("pk"),
            money=Sum("loss_cost"),
            unpriced_kwh=Sum("loss_unpriced_kwh"),
        )
        .order_by("loss_currency")
    )
    found = list(rows)
    priced = [row for row in found if row["money"] is not None]
    return Loss(
        sum(row["kwh"] for row in found),
        sum(row["vehicles"] for row in found),
        {row["loss_currency"]: row["money"] for row in priced},
        sum(row["unpriced_kwh"] or 0.0 for row in priced),
    )


def distribution() -> list[tuple[str, int | None, int]]:
    """Return the number of vehicles by health and 5 % bin; bin None is without an efficiency.

    Bin 3 is from 15 to 20 %; the last bin is from 100 %.
    """
    bins = Cast(Least(Floor(F("efficiency_percent") / BIN_PERCENT), float(LAST_BIN)), FloatField())
    counted = VehicleDay.objects.annotate(bin=bins).values_list("health", "bin")
    return [
        (health, None if bin_ is None else int(bin_), vehicles)
        for health, bin_, vehicles in counted.annotate(vehicles=Count("pk"))
    ]


def worst_days() -> list[Any]:
    """Return the days of the vehicles with the lowest efficiency, with vehicle and site."""
    days = judged_days().select_related("vehicle__site")
    return list(days.order_by("efficiency_percent", "vehicle_id")[:ROWS_SHOWN])


def faults_of(vehicle_ids: Iterable[str]) -> dict[str, Fault]:
    """Return one unclosed fault per vehicle that has any; low efficiency takes precedence."""
    found = Fault.objects.filter(vehicle_id__in=vehicle_ids).exclude(state=FaultState.CLOSED)
    low_last = sorted(found, key=lambda fault: fault.kind == FaultKind.LOW_EFFICIENCY)
    return {str(fault.vehicle_id): fault for fault in low_last}


def faults_by_state() -> dict[str, int]:
    """Return the number of open and of acknowledged faults, by state."""
    pending = Fault.objects.exclude(state=FaultState.CLOSED).order_by()
    return dict(pending.values_list("state").annotate(faults=Count("pk")))


def hours(now: datetime) -> list[tuple[datetime, FleetHour | None]]:
    """Return the last hours in order, the current one last; None for hours without figures."""
    last = now.replace(minute=0, second=0, microsecond=0)
    asked = [last - past * HOUR for past in range(HOURS_SHOWN, -1, -1)]
    found = FleetHour.objects.in_bulk(asked)
    return [(hour, found.get(hour)) for hour in asked]


def silent_devices(now: datetime) -> tuple[int, list[SilentDevice]]:
    """Return the number of silent devices, and those that have been silent longest."""
    before = now - settings.ONLINE_WINDOW
    number, found = 0, []
    for kind, live in (("vehicle", VehicleLiveState), ("meter", MeterLiveState)):
        not_retired = Q((f"{kind}__retired_at", None)) | Q((f"{kind}__retired_at__gt", now))
        silent: QuerySet[Any] = live.objects.filter(not_retired, received_at__lt=before)
        number += silent.count()
        longest = silent.select_related(f"{kind}__site").order_by("received_at", "pk")[:ROWS_SHOWN]
        found += [
            SilentDevice(kind, state.pk, getattr(state, kind).site, state.received_at)
            for state in longest
        ]
    found.sort(key=lambda device: device.received_at)
    return number, found[:ROWS_SHOWN]
