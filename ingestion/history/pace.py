"""The current number of readings per second, without reading history or involving the writer."""

from typing import Final

from django.core.cache import cache
from django.utils import timezone
from redis.exceptions import RedisError

from fleet.stores.statements import Statement
from ingestion.sql import STATEMENTS

# The rate is measured between two looks at the count; older looks are out of date.
OLDEST_LOOK_SECONDS: Final = 90
SECONDS_BETWEEN_LOOKS: Final = 10

_KEY: Final = "ingestion:looks"

_deliveries_so_far = Statement(STATEMENTS / "deliveries_so_far.sql")


def readings_per_second() -> float | None:
    """Return the readings received per second since an earlier look by any process.

    None if the last look is too long ago, or if Redis, which stores the looks, is unavailable.
    """
    (row,) = _deliveries_so_far.rows({})
    now = timezone.now().timestamp()
    looks: list[tuple[float, int]]
    try:
        looks = [look for look in cache.get(_KEY, []) if now - look[0] <= OLDEST_LOOK_SECONDS]
        if not looks or now - looks[-1][0] >= SECONDS_BETWEEN_LOOKS:
            cache.set(_KEY, [*looks, [now, row.deliveries]], OLDEST_LOOK_SECONDS)
    except RedisError:
        return None
    if not looks or now - looks[0][0] < SECONDS_BETWEEN_LOOKS:
        return None
    began_at, deliveries = looks[0]
    return float((row.deliveries - deliveries) / (now - began_at))
