"""Write large amounts of readings in two parallel lanes, while the caller decodes the next ones.

One connection keeps PostgreSQL only half busy. Each lane has its own devices, so neither waits for
live rows of the other, and the readings of a device are written in order.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Final

from django.db import connection

from ingestion.readings import Decoded, device_id

LANES: Final = 2

# Records the readings of a part; those that can't be recorded move to its errors.
Record = Callable[[Decoded, datetime], None]


class Lanes:
    """Threads or greenlets that write; use it as a context manager, or for the whole process."""

    def __init__(self, name: str) -> None:
        self._threads = [ThreadPoolExecutor(1, f"{name}-{number}") for number in range(LANES)]

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

    def submit(
        self, decoded: Decoded, received_at: datetime, record: Record
    ) -> list[Future[Decoded]]:
        """Start to `record` the readings of `decoded`, not its errors; return a future per lane.

        A future returns its part once that is committed, or raises the error of `record`.
        """
        return [
            thread.submit(_recorded, part, received_at, record)
            for thread, part in zip(self._threads, _by_lane(decoded), strict=True)
        ]


def _by_lane(decoded: Decoded) -> list[Decoded]:
    indexes: list[list[int]] = [[] for _ in range(LANES)]
    parts = [Decoded([], of_part, [], is_array=True) for of_part in indexes]
    for index, reading in zip(decoded.indexes, decoded.readings, strict=True):
        lane = hash(device_id(reading)) % LANES
        indexes[lane].append(index)
        parts[lane].readings.append(reading)
    return parts


def _recorded(part: Decoded, received_at: datetime, record: Record) -> Decoded:
    try:
        record(part, received_at)
    finally:
        connection.close()  # returns it to the pool, with its prepared statements
    return part
