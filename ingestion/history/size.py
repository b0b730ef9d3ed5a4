"""The size of history, without reading any row of it."""

from typing import Final, NamedTuple

from fleet.stores.statements import Statement
from ingestion.models import MeterReading, VehicleReading
from ingestion.readings import DeviceKind
from ingestion.sql import STATEMENTS

_TABLES: Final = {
    MeterReading._meta.db_table: DeviceKind.METER,
    VehicleReading._meta.db_table: DeviceKind.VEHICLE,
}
_history_size: Final = Statement(STATEMENTS / "history_size.sql")


class Size(NamedTuple):
    """Disk usage of the readings of one kind, and PostgreSQL's last estimate of the rows."""

    bytes: int
    estimated_rows: int


def history_size() -> dict[DeviceKind, Size]:
    """Return the size of history by kind; one statement."""
    found = _history_size.rows({"tables": list(_TABLES)})
    return {_TABLES[row.name]: Size(row.bytes, row.estimated_rows) for row in found}
