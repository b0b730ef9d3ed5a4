"""How large history has become, without a look at any row of it."""

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
    """What the readings of one kind take on disk; rows as PostgreSQL last estimated them."""

    bytes: int
    estimated_rows: int


def history_size() -> dict[DeviceKind, Size]:
    """Return the size of history by kind; one statement."""
    found = _history_size.rows({"tables": list(_TABLES)})
    return {_TABLES[row.name]: Size(row.bytes, row.estimated_rows) for row in found}
