"""What retention needs to know about the tables of history."""

import math
from typing import Any, Final, NamedTuple

from django.db import connection
from psycopg.sql import SQL, Identifier

from ingestion.models import ChangedMeterHour, ChangedVehicleHour, MeterReading, VehicleReading
from ingestion.readings import DeviceKind
from ingestion.sql import STATEMENTS

# Sums of the same floats differ with the order of addition.
_SAME_SUM: Final = 1e-9


class RetentionFailed(Exception):
    """History could not be archived or restored; the message says why. Nothing is lost."""


class History(NamedTuple):
    """What retention needs to know about one table of history."""

    kind: DeviceKind
    model: type[MeterReading | VehicleReading]
    changed: type[ChangedMeterHour | ChangedVehicleHour]
    energy: str
    keep_registers: SQL

    @property
    def table(self) -> str:
        return self.model._meta.db_table


def _history(
    kind: DeviceKind, model: Any, changed: type[ChangedMeterHour | ChangedVehicleHour], energy: str
) -> History:
    keep_registers = SQL((STATEMENTS / f"keep_{kind}_registers.sql").read_text())
    return History(kind, model, changed, energy, keep_registers)


HISTORY: Final = (
    _history(DeviceKind.METER, MeterReading, ChangedMeterHour, "energy_ac_kwh"),
    _history(DeviceKind.VEHICLE, VehicleReading, ChangedVehicleHour, "energy_dc_kwh"),
)


class Totals(NamedTuple):
    """Totals that show whether two checks of a partition saw the same rows."""

    readings: int
    energy_kwh: float
    last_id: int

    def match(self, others: "Totals") -> bool:
        same_rows = (self.readings, self.last_id) == (others.readings, others.last_id)
        return same_rows and math.isclose(self.energy_kwh, others.energy_kwh, rel_tol=_SAME_SUM)


def history_of(parent_name: str) -> History:
    return next(of for of in HISTORY if of.table == parent_name)


def file_name(table_name: str, totals: Totals) -> str:
    """Return a name that identifies the rows of a file: history is never changed, only added to."""
    return f"{table_name}-{totals.readings}-{totals.last_id}.parquet"


def totals_of(of: History, table_name: str) -> Totals:
    query = SQL(
        "SELECT count(*) AS readings, coalesce(sum({energy}), 0) AS energy_kwh,"
        " coalesce(max(id), 0) AS last_id FROM {table}"
    ).format(energy=Identifier(of.energy), table=Identifier(table_name))
    with connection.cursor() as cursor:
        cursor.execute(query)
        names = (column.name for column in cursor.description)
        return Totals(**dict(zip(names, cursor.fetchone(), strict=True)))
