"""Statements that read deliveries from history as files of readings hold them."""

from psycopg.sql import SQL, Composed, Identifier

from ingestion.files.formats import DELIVERIES
from ingestion.readings import DeviceKind
from ingestion.sql import STATEMENTS


def select_deliveries(file: str, kind: DeviceKind, table: str) -> Composed:
    """Return the statement in `file` for a table of one kind.

    Its columns are the fields of the kind's delivery, in the order that a `Sink` takes.
    """
    columns = [Identifier(field) for field in DELIVERIES[kind].__struct_fields__]
    return SQL((STATEMENTS / file).read_text()).format(
        columns=SQL(", ").join(columns), device_id=columns[0], table=Identifier(table)
    )
