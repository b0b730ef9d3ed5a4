"""Fleet totals and the list of vehicles, from the last run of `figures.snapshot`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db.models import Count, F, FloatField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from analytics import formulas
from analytics.figures.accounts import AcSource
from analytics.figures.performance import Coverage, DataPoints, Period
from analytics.formulas import Health, Reason
from analytics.models import FleetDay, VehicleDay
from fleet.http import csv_answers
from fleet.models import Meter, MeterLiveState, Vehicle, VehicleLiveState

# What a list may be ordered by: the names in the API, and the columns behind them.
ORDERINGS: Final = {
    "vehicleId": "vehicle_id",
    "efficiencyRatio": "efficiency_percent",
    "energyConsumedAc": "energy_ac_kwh",
    "energyDeliveredDc": "energy_dc_kwh",
    "averageBatteryTemp": "battery_temp_celsius",
    "suspectSteps": "suspect_steps",
}
DEFAULT_ORDERING: Final = "vehicleId"


class InvalidFilter(ValueError):
    """An invalid filter or ordering; the text names the parameter and the allowed values."""


class VehicleRow(msgspec.Struct):
    """The last 24 hours of one vehicle, with fields as in `Performance`."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    site: str | None
    meter_id: str | None = msgspec.field(name="meterId")
    period_ends_at: datetime = msgspec.field(name="periodEnd")
    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")
    efficiency_percent: float | None = msgspec.field(name="efficiencyRatio")
    battery_temp_celsius: float | None = msgspec.field(name="averageBatteryTemp")
    ac_source: AcSource = msgspec.field(name="acSource")
    health: Health
    reason: Reason | None
    data_points: DataPoints = msgspec.field(name="dataPoints")
    coverage: Coverage
    suspect_steps: int = msgspec.field(name="suspectSteps")


class VehiclePage(msgspec.Struct):
    """A page of the fleet; `next` is the address of the next page."""

    next: str | None
    previous: str | None
    results: list[VehicleRow]


class DeviceCount(msgspec.Struct):
    """How many devices are in the registry and not retired, and how many of them are online."""

    total: int
    online: int


class HealthCount(msgspec.Struct):
    """The number of vehicles by health."""

    healthy: int = 0
    degraded: int = 0
    critical: int = 0
    suspect: int = 0
    unknown: int = 0


class FleetTotals(msgspec.Struct):
    """The last 24 hours of the whole fleet: AC of all meters, DC of all vehicles, in kWh."""

    period: Period | None
    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")
    efficiency_percent: float | None = msgspec.field(name="efficiencyRatio")
    health: HealthCount
    vehicles: DeviceCount
    meters: DeviceCount


def fleet_totals() -> FleetTotals:
    """Return the totals of the fleet: energies as of `period`, online devices as of now."""
    day = FleetDay.objects.first()
    counts = VehicleDay.objects.values_list("health").annotate(number=Count("pk"))
    return FleetTotals(
        period=Period(day.starts_at, day.ends_at) if day else None,
        energy_ac_kwh=round(day.energy_ac_kwh, 9) if day else 0.0,
        energy_dc_kwh=round(day.energy_dc_kwh, 9) if day else 0.0,
        efficiency_percent=(
            formulas.efficiency_percent(day.energy_dc_kwh, day.energy_ac_kwh) if day else None
        ),
        health=HealthCount(**dict(counts)),
        vehicles=_counted(Vehicle, VehicleLiveState),
        meters=_counted(Meter, MeterLiveState),
    )


def _counted(
    registry: type[Vehicle | Meter], live: type[VehicleLiveState | MeterLiveState]
) -> DeviceCount:
    now = timezone.now()
    in_service = registry.objects.filter(Q(retired_at=None) | Q(retired_at__gt=now))
    online = live.objects.filter(received_at__gte=now - settings.ONLINE_WINDOW)
    retired = registry.objects.filter(retired_at__lte=now)
    return DeviceCount(in_service.count(), online.exclude(pk__in=retired).count())


def vehicle_days(query: Mapping[str, str]) -> QuerySet[Any]:
    """Return the vehicles that `query` asks for, in its order; those without a value come last.

    Each has `site` and its sort key, `rank`. Errors: `InvalidFilter`.
    """
    site = Vehicle.objects.filter(pk=OuterRef("vehicle_id")).values("site__name")
    days = VehicleDay.objects.annotate(site=Subquery(site[:1])).filter(_wanted(query))
    ordering = query.get("ordering", DEFAULT_ORDERING)
    column = ORDERINGS.get(ordering.removeprefix("-"))
    if column is None:
        known = ", ".join(ORDERINGS)
        raise InvalidFilter(f"ordering must be one of {known}; prefix with - for descending order")
    rank: Any = F("vehicle_id")
    if column != rank.name:
        last = float("-inf" if ordering.startswith("-") else "inf")
        rank = Coalesce(F(column), Value(last), output_field=FloatField())
    ranked: QuerySet[Any] = days.annotate(rank=rank)
    return ranked


def _wanted(query: Mapping[str, str]) -> Q:
    wanted = Q()
    if "health" in query:
        asked = query["health"].split(",")
        if not set(asked) <= set(Health):
            raise InvalidFilter(
                f"health must be one or more of {', '.join(Health)}, separated by commas"
            )
        wanted &= Q(health__in=asked)
    if "site" in query:
        wanted &= Q(site=query["site"])
    for parameter, lookup in (("minEfficiency", "gte"), ("maxEfficiency", "lte")):
        if parameter in query:
            wanted &= Q(**{f"efficiency_percent__{lookup}": _number(parameter, query[parameter])})
    return wanted


def _number(parameter: str, text: str) -> float:
    try:
        return float(msgspec.json.decode(text, type=float))
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise InvalidFilter(f"{parameter} must be a number, in percent") from None


def row(day: Any) -> VehicleRow:
    """Return a row of `vehicle_days` as clients get it."""
    return VehicleRow(
        vehicle_id=day.vehicle_id,
        site=day.site,
        meter_id=day.meter_id,
        period_ends_at=day.ends_at,
        energy_ac_kwh=day.energy_ac_kwh,
        energy_dc_kwh=day.energy_dc_kwh,
        efficiency_percent=day.efficiency_percent,
        battery_temp_celsius=day.battery_temp_celsius,
        ac_source=day.ac_source,
        health=Health(day.health),
        reason=Reason(day.reason) if day.reason else None,
        data_points=DataPoints(vehicle=day.vehicle_readings, meter=day.meter_readings),
        coverage=Coverage(vehicle=day.vehicle_coverage, meter=day.meter_coverage),
        suspect_steps=day.suspect_steps,
    )


CSV_COLUMNS: Final = (
    "vehicleId",
    "site",
    "meterId",
    "periodEnd",
    "energyConsumedAc",
    "energyDeliveredDc",
    "efficiencyRatio",
    "averageBatteryTemp",
    "acSource",
    "health",
    "reason",
    "suspectSteps",
)


def csv_rows(days: QuerySet[Any]) -> Iterator[list[Any]]:
    """Yield the header, then a line for each of `days`, streamed from the database."""
    yield list(CSV_COLUMNS)
    for day in days.iterator(chunk_size=1_000):
        wire = msgspec.to_builtins(row(day))
        yield [csv_answers.cell(wire[column]) for column in CSV_COLUMNS]
