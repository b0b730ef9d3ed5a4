"""Warn of new devices whose id is that of another one, but for its case or a trailing `.0`."""

import logging
from typing import Final

from django.db import Error

from fleet.stores.statements import Statement
from ingestion.readings import DeviceKind
from ingestion.sql import STATEMENTS

_MOST_LOGGED: Final = 10
_statements: Final = {
    DeviceKind.METER: Statement(STATEMENTS / "similar_meters.sql"),
    DeviceKind.VEHICLE: Statement(STATEMENTS / "similar_vehicles.sql"),
}
log = logging.getLogger(__name__)


def warn_of_look_alikes(kind: DeviceKind, new_ids: set[str]) -> None:
    """Log which of the devices that have just been registered look like another one.

    Their readings are committed, so a failure only costs the warning; the console finds them, too.
    """
    try:
        rows = _statements[kind].rows({"ids": sorted(new_ids)})
    except Error:
        log.warning("could not check whether new %ss look like known ones", kind, exc_info=True)
        return
    for row in rows[:_MOST_LOGGED]:
        log.warning(
            "new %s %s: %s differs only by case or a trailing .0",
            kind,
            row.device_id,
            row.similar_id,
        )
    if len(rows) > _MOST_LOGGED:
        log.warning("and %d more new %ss look like others", len(rows) - _MOST_LOGGED, kind)
