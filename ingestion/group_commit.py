"""Merge the readings of concurrent requests into one transaction.

A commit costs nearly the same for one reading as for a hundred, so the requests of a process share
one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import InterfaceError, OperationalError

from fleet.counters import COMMIT_SECONDS, GROUP_REQUESTS
from fleet.stores.batching import Batcher, Member
from ingestion.readings import Reading
from ingestion.writer import Batch, record_all

# A batch of this size gets a transaction of its own, concurrent with others.
ALONE_FROM_READINGS: Final = 200
# Larger groups gain nothing, and their members wait longer for each other.
MAX_GROUP_READINGS: Final = 1_000
# Readings that may wait in one process; more are refused rather than kept in memory.
MAX_WAITING_READINGS: Final = 20_000
MAX_WAIT_SECONDS: Final = 1.8

_DATABASE_ERRORS: Final = (OperationalError, InterfaceError)


class GroupCommit:
    """The queue of one process; `record` may be called from any thread or greenlet."""

    def __init__(self) -> None:
        self._batches = Batcher[Batch, None](
            _write,
            most_at_once=MAX_GROUP_READINGS,
            most_waiting=MAX_WAITING_READINGS,
            wait_seconds=MAX_WAIT_SECONDS,
        )

    def record(self, readings: Sequence[Reading], received_at: datetime) -> None:
        """Record `readings`, together with those of other requests; committed on return.

        Errors: those of `writer.record`, for these readings alone; `Overloaded`.
        """
        batch = Batch(readings, received_at)
        if len(readings) >= ALONE_FROM_READINGS:
            record_all([batch])
        else:
            self._batches.run(batch, len(readings))

    def waiting_readings(self) -> int:
        """Return how many readings of this process wait to be written."""
        return self._batches.waiting_size()


def _write(group: Sequence[Member[Batch, None]]) -> BaseException | None:
    """Write a group in one transaction; if that fails, each member alone, so none fails another.

    Returns the error if the database is unavailable: every single write would time out as well.
    """
    GROUP_REQUESTS.observe(len(group))
    try:
        with COMMIT_SECONDS.time():
            record_all([member.work for member in group])
    except _DATABASE_ERRORS as error:
        for member in group:
            member.error = error
        return error
    except Exception as error:
        if len(group) == 1:
            group[0].error = error
        else:
            return next(filter(None, [_write([member]) for member in group]), None)
    return None


group_commit = GroupCommit()
