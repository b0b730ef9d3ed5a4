"""The last 24 hours of the whole fleet, looked at every few minutes: what lists are made of."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from django.db import transaction
from psqlextra.manager import PostgresManager
from psqlextra.types import ConflictAction

from analytics.energy import Span, meter_energies
from analytics.models import FleetDay
from analytics.performance import Performance, accounts, performance
from analytics.slices import links_in
from analytics.unlinked import unlinked_energy
from analytics.window import Window
from fleet.models import Meter, Vehicle
from fleet.statements import Statement

AT_ONCE: Final = 5_000

_keep_vehicle_days = Statement(Path(__file__).parent / "sql" / "keep_vehicle_days.sql")


def refresh() -> int:
    """Look at the last 24 hours of every vehicle, as one would at a single one; return how many.

    What is kept of a vehicle is as a whole from one look; vehicles may be from two, for a moment.
    """
    window = Window.last()
    unlinked = cache(unlinked_energy)  # the same for all
    vehicle_ids = list(Vehicle.objects.order_by("pk").values_list("pk", flat=True))
    energy_dc_kwh = 0.0
    for start in range(0, len(vehicle_ids), AT_ONCE):
        part = vehicle_ids[start : start + AT_ONCE]
        asked = [(vehicle_id, window) for vehicle_id in part]
        of_part = accounts(asked, links_in(window, part), window, unlinked)
        figures = [performance(account) for account in of_part]
        _keep(figures, window.ends_at)
        energy_dc_kwh += sum(figure.energy_dc_kwh for figure in figures)
    _keep_fleet(window, energy_dc_kwh)
    return len(vehicle_ids)


def _keep(figures: Sequence[Performance], ends_at: datetime) -> None:
    rows = [
        {
            "vehicle_id": figure.vehicle_id,
            "ends_at": ends_at,
            "energy_ac_kwh": figure.energy_ac_kwh,
            "energy_dc_kwh": figure.energy_dc_kwh,
            "efficiency_percent": figure.efficiency_percent,
            "battery_temp_celsius": figure.battery_temp_celsius,
            "vehicle_coverage": figure.coverage.vehicle,
            "meter_coverage": figure.coverage.meter,
            "vehicle_readings": figure.data_points.vehicle,
            "meter_readings": figure.data_points.meter,
            "suspect_steps": figure.suspect_steps,
            "ac_source": figure.ac_source,
            "health": str(figure.health),
            "reason": figure.reason and str(figure.reason),
            "meter_id": figure.meter_id,
        }
        for figure in figures
    ]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    _keep_vehicle_days.rows(columns)


def _keep_fleet(window: Window, energy_dc_kwh: float) -> None:
    meter_ids = Meter.objects.values_list("pk", flat=True)
    ac = meter_energies(Span(meter_id, window.starts_at, window.ends_at) for meter_id in meter_ids)
    days = cast("PostgresManager", FleetDay.objects)
    with transaction.atomic():
        days.on_conflict(["id"], ConflictAction.UPDATE).insert(
            id=1,
            starts_at=window.starts_at,
            ends_at=window.ends_at,
            energy_ac_kwh=sum(energy.energy_kwh for energy in ac.values()),
            energy_dc_kwh=energy_dc_kwh,
        )
