"""Batch the work of concurrent requests: one round trip to PostgreSQL or Redis serves them all.

The first request runs the batch; later ones wait for the next, which the first of them runs. There
is no extra thread, and no delay for a request that is alone.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


class Overloaded(Exception):
    """The work can't be done in time; as far as we know it was not done."""


class Member(Generic[Work, Result]):
    """A piece of work, the request that waits for it, and its result or error."""

    def __init__(self, work: Work, size: int) -> None:
        self.work = work
        self.size = size
        # Released when the work is done, or when it is this request's turn to run a batch. Waking
        # a waiter with a lock costs half as much as with an event.
        self.wake = threading.Lock()
        self.wake.acquire()
        self.has_turn = False
        self.result: Result | None = None
        self.error: BaseException | None = None


class Batcher(Generic[Work, Result]):
    """The queue of one process; `run` may be called from any thread or greenlet.

    `do` sets the result or the error of each member of a group. If the requests that wait behind
    the group would fail with the same error, it returns that error, and they fail at once.
    """

    def __init__(
        self,
        do: Callable[[list[Member[Work, Result]]], BaseException | None],
        *,
        most_at_once: int,
        most_waiting: int,
        wait_seconds: float,
    ) -> None:
        self._do = do
        self._most_at_once = most_at_once
        self._most_waiting = most_waiting
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._waiting: deque[Member[Work, Result]] = deque()
        self._waiting_size = 0
        self._is_at_work = False

    def run(self, work: Work, size: int = 1) -> Result | None:
        """Run `work` in a batch with that of other requests; return its result.

        Errors: those of `do`, for this work alone; `Overloaded`.
        """
        member = Member[Work, Result](work, size)
        self._join(member)
        if not member.has_turn and not member.wake.acquire(timeout=self._wait_seconds):
            self._give_up(member)
        if member.has_turn:
            # Let requests that have already arrived join, without waiting for others.
            time.sleep(0)
            self._do_a_group()
        if member.error is not None:
            raise member.error
        return member.result

    def waiting_size(self) -> int:
        """Return the total size of the work that is waiting."""
        return self._waiting_size

    def _join(self, member: Member[Work, Result]) -> None:
        """Queue `member`; it gets the turn if no batch is running."""
        with self._lock:
            if self._waiting_size + member.size > self._most_waiting:
                raise Overloaded
            self._waiting.append(member)
            self._waiting_size += member.size
            member.has_turn = not self._is_at_work
            self._is_at_work = True

    def _give_up(self, member: Member[Work, Result]) -> None:
        """Leave the queue after too long a wait, unless the wait has ended just now."""
        with self._lock:
            if member.wake.acquire(blocking=False):
                return
            # If it is not in the queue, it is running now, and its outcome is unknown.
            if member in self._waiting:
                self._waiting.remove(member)
                self._waiting_size -= member.size
        raise Overloaded

    def _do_a_group(self) -> None:
        """Run one batch, then pass the turn to the next request in the queue."""
        group = self._take_a_group()
        try:
            error = self._do(group)
            if error is not None:
                group += self._take_all(error)
        except BaseException as error:
            for member in group:
                member.error = error
            raise
        finally:
            for member in group:
                member.wake.release()
            self._pass_on()

    def _take_a_group(self) -> list[Member[Work, Result]]:
        """Take the first request of the queue and as many after it as fit into one batch."""
        group: list[Member[Work, Result]] = []
        size = 0
        with self._lock:
            while self._waiting and (
                not group or size + self._waiting[0].size <= self._most_at_once
            ):
                member = self._waiting.popleft()
                size += member.size
                group.append(member)
            self._waiting_size -= size
        return group

    def _take_all(self, error: BaseException) -> list[Member[Work, Result]]:
        """Empty the queue; every waiting request fails with `error`."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._waiting_size = 0
        for member in waiting:
            member.error = error
        return waiting

    def _pass_on(self) -> None:
        with self._lock:
            self._is_at_work = bool(self._waiting)
            if self._waiting:
                self._waiting[0].has_turn = True
                self._waiting[0].wake.release()
