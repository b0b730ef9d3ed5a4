"""How often each device reports, and how long it pauses, learned from its history."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from analytics.sql import STATEMENTS
from fleet.stores import stopping
from fleet.stores.statements import Statement

# A device whose firmware starts to report less often is judged by its new cadence within a day.
LEARN_ANEW_AFTER: Final = timedelta(days=1)
TRY_AGAIN_AFTER: Final = timedelta(minutes=10)
# How far back pauses count: two weeks have two weekends.
PAUSES_OF: Final = timedelta(days=14)
AT_ONCE: Final = 1_000

_CADENCES: Final = (
    Statement(STATEMENTS / "learn_meter_cadence.sql"),
    Statement(STATEMENTS / "learn_vehicle_cadence.sql"),
)
_PAUSES: Final = (
    Statement(STATEMENTS / "learn_meter_pauses.sql"),
    Statement(STATEMENTS / "learn_vehicle_pauses.sql"),
)


def learn_cadences() -> int:
    """Learn the cadence of new devices and of those not checked for a day; return how many."""
    now = timezone.now()
    due = {**_due(now), "tried_before": now - TRY_AGAIN_AFTER}
    return sum(_learn_all(statement, due) for statement in _CADENCES)


def learn_pauses() -> int:
    """Learn the longest pause of the last 14 days; return of how many devices.

    Of devices whose cadence is known: daily, and once whenever one has fallen quiet.
    """
    now = timezone.now()
    due = {**_due(now), "since": now - PAUSES_OF}
    return sum(_learn_all(statement, due) for statement in _PAUSES)


def _due(now: datetime) -> dict[str, Any]:
    return {"learned_before": now - LEARN_ANEW_AFTER, "learned_at": now, "most": AT_ONCE}


def _learn_all(statement: Statement, due: Mapping[str, Any]) -> int:
    """Run a statement until no device is due; return how many were."""
    total, looked_at = 0, AT_ONCE
    while looked_at == AT_ONCE:
        stopping.check()
        (row,) = statement.rows(due)
        looked_at = row.looked_at
        total += looked_at
    return total
