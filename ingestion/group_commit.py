"""Merge the readings of concurrent requests into one transaction.

A commit costs nearly the same for one reading as for a hundred, so the requests of a process share
it. Who finds nobody writing writes what is waiting, its own readings first; those who come
meanwhile wait, and the first of them writes next. No thread of its own, and no delay for a request
that is alone.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import InterfaceError, OperationalError

from ingestion.readings import Reading
from ingestion.writer import Delivery, record_all

# A delivery of this size is worth a transaction of its own, beside those of others.
ALONE_FROM_READINGS: Final = 200
# More in one group gains nothing, and its members wait longer for each other.
MAX_GROUP_READINGS: Final = 1_000
# What may wait in one process; more is refused, not kept in memory.
MAX_WAITING_READINGS: Final = 20_000
MAX_WAIT_SECONDS: Final = 1.8

_DATABASE_ERRORS: Final = (OperationalError, InterfaceError)


class Overloaded(Exception):
    """The engine can't write these readings in time; as far as we know they are not stored."""


class _Member:
    """A delivery on its way, and the request that waits for it."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.size = len(delivery.readings)
        # Free when the delivery is done with, or when it is this request's turn to write. A lock
        # that somebody else releases wakes its waiter for half of what an event costs.
        self.wake = threading.Lock()
        self.wake.acquire()
        self.has_to_write = False
        self.error: BaseException | None = None


class GroupCommit:
    """The queue of one process; `record` may be called from any thread or greenlet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Member] = deque()
        self._waiting_readings = 0
        self._is_writing = False

    def record(self, readings: Sequence[Reading], received_at: datetime) -> None:
        """Record `readings`, together with those of other requests; committed on return.

        Errors: those of `writer.record`, for these readings alone; `Overloaded`.
        """
        delivery = Delivery(readings, received_at)
        if len(readings) >= ALONE_FROM_READINGS:
            record_all([delivery])
            return
        member = _Member(delivery)
        self._join(member)
        if not member.has_to_write and not member.wake.acquire(timeout=MAX_WAIT_SECONDS):
            self._give_up(member)
        if member.has_to_write:
            # Let requests that have arrived already join, without waiting for any that has not.
            time.sleep(0)
            self._write_a_group()
        if member.error is not None:
            raise member.error

    def _join(self, member: _Member) -> None:
        """Queue `member`; it has to write if nobody else is writing."""
        with self._lock:
            if self._waiting_readings + member.size > MAX_WAITING_READINGS:
                raise Overloaded
            self._waiting.append(member)
            self._waiting_readings += member.size
            member.has_to_write = not self._is_writing
            self._is_writing = True

    def _give_up(self, member: _Member) -> None:
        """Leave the queue after too long a wait, unless its end came at this very moment."""
        with self._lock:
            if member.wake.acquire(blocking=False):
                return
            # Not in the queue: being written just now. Whether it will be stored is open.
            if member in self._waiting:
                self._waiting.remove(member)
                self._waiting_readings -= member.size
        raise Overloaded

    def _write_a_group(self) -> None:
        """Write what is waiting, then let the next in the queue write."""
        group = self._take_a_group()
        try:
            _write(group)
            if isinstance(group[0].error, _DATABASE_ERRORS):
                # Who waits behind this group would only wait for the same time-out once more.
                group += self._take_all(group[0].error)
        except BaseException as error:
            for member in group:
                member.error = error
            raise
        finally:
            for member in group:
                member.wake.release()
            self._pass_on()

    def _take_a_group(self) -> list[_Member]:
        """Take the first of the queue, and as many after it as one group holds."""
        group: list[_Member] = []
        size = 0
        with self._lock:
            while self._waiting and (
                not group or size + self._waiting[0].size <= MAX_GROUP_READINGS
            ):
                member = self._waiting.popleft()
                size += member.size
                group.append(member)
            self._waiting_readings -= size
        return group

    def _take_all(self, error: BaseException) -> list[_Member]:
        """Empty the queue: all that waits has failed with `error`."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._waiting_readings = 0
        for member in waiting:
            member.error = error
        return waiting

    def _pass_on(self) -> None:
        with self._lock:
            self._is_writing = bool(self._waiting)
            if self._waiting:
                self._waiting[0].has_to_write = True
                self._waiting[0].wake.release()


def _write(group: list[_Member]) -> None:
    """Write a group in one transaction; if that fails, one by one, so that none fails another."""
    try:
        record_all([member.delivery for member in group])
    except _DATABASE_ERRORS as error:
        # The database, not one of them, is the cause; to try each would take as many time-outs.
        for member in group:
            member.error = error
    except Exception as error:
        if len(group) == 1:
            group[0].error = error
            return
        for member in group:
            _write([member])


group_commit = GroupCommit()
