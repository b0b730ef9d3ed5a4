"""Energy of the devices that have no link: what a vehicle without one has a share of."""

from datetime import timedelta
from typing import Final, cast
from uuid import uuid4

import msgspec
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone
from psqlextra.manager import PostgresManager
from psqlextra.types import ConflictAction

from analytics.figures.energy import Span, meter_energies, vehicle_energies
from analytics.figures.window import Window
from analytics.models import UnlinkedDay
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement

# What the worker needs for it, beside the minutes between two turns.
_SLACK: Final = timedelta(seconds=30)
_THE_FLEET: Final = 1

_unlinked_devices: Final = Statement(STATEMENTS / "unlinked_devices.sql")


class FleetEnergy(msgspec.Struct):
    """AC and DC, in kWh, of all meters and vehicles without a link at any time of a window."""

    energy_ac_kwh: float
    energy_dc_kwh: float
    meter_readings: int


def unlinked_energy(window: Window, least_dc_kwh: float = 0.0) -> FleetEnergy:
    """Return the energy of the devices without a link in `window`; three statements.

    It is of this moment, so `least_dc_kwh`, the DC of a vehicle that has a share of it, is in it.
    """
    (devices,) = _unlinked_devices.rows({"starts_at": window.starts_at, "ends_at": window.ends_at})
    ac = meter_energies(_spans(devices.meter_ids, window)).values()
    dc = vehicle_energies(_spans(devices.vehicle_ids, window)).values()
    return FleetEnergy(
        sum(energy.energy_kwh for energy in ac),
        sum(energy.energy_kwh for energy in dc),
        sum(energy.readings for energy in ac),
    )


def keep_day(window: Window) -> FleetEnergy:
    """Return the energy of the devices without a link in `window`, and keep it for requests.

    It is not kept where a link or a register changes meanwhile: `forget_day` takes the row away.
    """
    attempt = uuid4()
    cast("PostgresManager", UnlinkedDay.objects).on_conflict(
        ["id"], ConflictAction.UPDATE, update_values={"attempt": attempt}
    ).insert(id=_THE_FLEET, attempt=attempt)
    energy = unlinked_energy(window)
    UnlinkedDay.objects.filter(pk=_THE_FLEET, attempt=attempt).update(
        ends_at=window.ends_at, **msgspec.structs.asdict(energy)
    )
    return energy


def kept_day() -> FleetEnergy | None:
    """Return what `keep_day` has kept last, unless it has been forgotten or is too old.

    Asks the primary: a replica may not know yet that it was forgotten.
    """
    oldest = timezone.now() - timedelta(minutes=settings.FLEET_SNAPSHOT_MINUTES) - _SLACK
    days = UnlinkedDay.objects.using(DEFAULT_DB_ALIAS).filter(pk=_THE_FLEET, ends_at__gt=oldest)
    found = days.values_list("energy_ac_kwh", "energy_dc_kwh", "meter_readings").first()
    return FleetEnergy(*found) if found else None


def forget_day() -> None:
    """Let nobody use what is kept, nor what is being computed to be kept."""
    UnlinkedDay.objects.filter(pk=_THE_FLEET).delete()


def _spans(device_ids: list[str], window: Window) -> list[Span]:
    return [Span(device_id, window.starts_at, window.ends_at) for device_id in device_ids]
