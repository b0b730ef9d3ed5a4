"""How large history has become, without a look at any row of it."""

from typing import Final, NamedTuple

from fleet.stores.statements import Statement
from ingestion.models import MeterReading, VehicleReading
from ingestion.readings import Kind
from ingestion.sql import STATEMENTS

_TABLES: Final = {
    MeterReading._meta.db_table: Kind.METER,
    VehicleReading._meta.db_table: Kind.VEHICLE,
}
_history_size: Final = Statement(STATEMENTS / "history_size.sql")


class Size(NamedTuple):
    """What the readings of one kind take on disk; rows as PostgreSQL last estimated them."""

    bytes: int
    estimated_rows: int


def history_size() -> dict[Kind, Size]:
    """Return the size of history by kind; one statement."""
    found = _history_size.rows({"tables": list(_TABLES)})
    return {_TABLES[row.name]: Size(row.bytes, row.estimated_rows) for row in found}
