"""How often each device reports, learned from its history: the basis of its coverage."""

from datetime import timedelta
from typing import Final

from django.utils import timezone

from analytics.sql import STATEMENTS
from fleet.stores import stopping
from fleet.stores.statements import Statement

# A device whose firmware starts to report less often is judged by its new cadence within a day.
LEARN_ANEW_AFTER: Final = timedelta(days=1)
TRY_AGAIN_AFTER: Final = timedelta(minutes=10)
AT_ONCE: Final = 1_000

_STATEMENTS: Final = (
    Statement(STATEMENTS / "learn_meter_cadence.sql"),
    Statement(STATEMENTS / "learn_vehicle_cadence.sql"),
)


def learn_cadences() -> int:
    """Learn the cadence of new devices and of those not checked for a day; return how many."""
    now = timezone.now()
    total = 0
    for statement in _STATEMENTS:
        looked_at = AT_ONCE
        while looked_at == AT_ONCE:
            stopping.check()
            (row,) = statement.rows(
                {
                    "learned_before": now - LEARN_ANEW_AFTER,
                    "tried_before": now - TRY_AGAIN_AFTER,
                    "learned_at": now,
                    "most": AT_ONCE,
                }
            )
            looked_at = row.looked_at
            total += looked_at
    return total
