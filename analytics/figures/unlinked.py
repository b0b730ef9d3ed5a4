"""Energy of the devices without a link, which vehicles without a link share."""

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

# The time that the worker needs for it, in addition to the minutes between two runs.
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

    It is current, so it includes `least_dc_kwh`, the DC of a vehicle that shares it.
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
    """Return the energy of the devices without a link in `window`, and store it for requests.

    It is not stored if a link or a register changes meanwhile: `forget_day` deletes the row.
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
    """Return what `keep_day` stored last, unless it was deleted or is too old.

    Reads from the primary: a replica may still show a deleted row.
    """
    oldest = timezone.now() - timedelta(minutes=settings.FLEET_SNAPSHOT_MINUTES) - _SLACK
    days = UnlinkedDay.objects.using(DEFAULT_DB_ALIAS).filter(pk=_THE_FLEET, ends_at__gt=oldest)
    found = days.values(*FleetEnergy.__struct_fields__).first()
    return FleetEnergy(**found) if found else None


def forget_day() -> None:
    """Delete what is stored, and prevent a calculation in progress from being stored."""
    UnlinkedDay.objects.filter(pk=_THE_FLEET).delete()


def _spans(device_ids: list[str], window: Window) -> list[Span]:
    return [Span(device_id, window.starts_at, window.ends_at) for device_id in device_ids]
