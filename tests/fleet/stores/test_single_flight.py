"""One computation of the same thing at a time, in a process and between processes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fleet.stores import single_flight
from fleet.stores.batching import Overloaded
from fleet.stores.redis import redis
from fleet.stores.single_flight import SingleFlight

KEY = "tests:flight"


class Process(SingleFlight[int]):
    """Stands for a process: two of them share nothing but Redis. Tells who has begun to wait."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = threading.Semaphore(0)

    def _result_of(self, flight):
        self._waiting.release()
        return super()._result_of(flight)

    def wait_for_waiting(self, number: int) -> None:
        for _ in range(number):
            assert self._waiting.acquire(timeout=20)


class Slow:
    """A computation that takes until it is let go, counts its runs, and keeps its result."""

    def __init__(self) -> None:
        self.runs = 0
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def compute(self) -> int:
        self.runs += 1
        self.has_begun.set()
        assert self.may_end.wait(20)
        redis().set(KEY, 42)
        return 42

    def kept(self) -> int | None:
        value = redis().get(KEY)
        return None if value is None else int(value)

    def of(self, process: Process) -> Callable[[], tuple[int, bool]]:
        return lambda: process.run(f"{KEY}:lock", self.kept, self.compute)


@pytest.fixture
def slow(monkeypatch) -> Slow:
    # A thread of the test's own, which renews as often as this test lets locks lapse.
    monkeypatch.setattr(single_flight, "_renewals", single_flight._Renewals())
    return Slow()


def begun(pool: ThreadPoolExecutor, slow: Slow, process: Process) -> Future:
    first = pool.submit(slow.of(process))
    assert slow.has_begun.wait(20)
    return first


@pytest.mark.parametrize("processes", [1, 2])
def test_all_who_ask_meanwhile_get_the_one_result(slow, processes):
    flights = [Process() for _ in range(processes)]
    with ThreadPoolExecutor(20) as pool:
        first = begun(pool, slow, flights[0])
        others = [pool.submit(slow.of(flights[number % processes])) for number in range(15)]
        slow.may_end.set()

    assert slow.runs == 1
    assert first.result() == (42, True)
    assert [other.result() for other in others] == [(42, False)] * 15


def test_who_has_waited_too_long_is_refused_and_computes_nothing(slow, monkeypatch):
    """Nor does the lock lapse, however long it takes: it is renewed."""
    monkeypatch.setattr(single_flight, "_WAIT_SECONDS", 1.0)
    monkeypatch.setattr(single_flight, "_LOCK_SECONDS", 0.5)
    monkeypatch.setattr(single_flight, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    here, elsewhere = Process(), Process()
    with ThreadPoolExecutor(20) as pool:
        first = begun(pool, slow, here)
        others = [pool.submit(slow.of(process)) for process in (here, elsewhere) * 5]
        refused = [other.exception() for other in others]
        slow.may_end.set()

    assert [type(error) for error in refused] == [Overloaded] * 10
    assert slow.runs == 1
    assert first.result() == (42, True)


def test_lock_of_a_process_that_died_lapses(slow):
    slow.may_end.set()
    redis().set(f"{KEY}:lock", "of a process that is no more", px=300)

    assert slow.of(Process())() == (42, True)
    assert not redis().exists(f"{KEY}:lock")


def test_without_redis_a_process_computes_once(slow, redis_is_away):
    def compute() -> int:
        slow.runs += 1
        slow.has_begun.set()
        assert slow.may_end.wait(20)
        return 42

    process = Process()
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(process.run, KEY, lambda: None, compute) for _ in range(16)]
        process.wait_for_waiting(15)
        slow.may_end.set()

    assert slow.runs == 1
    assert sorted(future.result() for future in futures) == [(42, False)] * 15 + [(42, True)]


def test_error_is_that_of_all_who_wait_and_of_nobody_later(slow):
    class Failure(Exception):
        pass

    def fail() -> int:
        slow.compute()
        redis().delete(KEY)
        raise Failure

    process = Process()
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(process.run, f"{KEY}:lock", slow.kept, fail)
        assert slow.has_begun.wait(20)
        other = pool.submit(process.run, f"{KEY}:lock", slow.kept, slow.compute)
        process.wait_for_waiting(1)
        slow.may_end.set()

    assert [type(future.exception()) for future in (first, other)] == [Failure, Failure]
    assert slow.of(process)() == (42, True)


def test_who_waits_for_a_request_that_was_stopped_is_told_to_come_again(slow):
    """Such as one whose time was up: it leaves with something that is no `Exception`."""
    process = Process()

    def stop() -> int:
        slow.compute()
        raise SystemExit

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(process.run, f"{KEY}:lock", lambda: None, stop)
        assert slow.has_begun.wait(20)
        other = pool.submit(process.run, f"{KEY}:lock", lambda: None, slow.compute)
        process.wait_for_waiting(1)
        slow.may_end.set()

    assert isinstance(first.exception(), SystemExit)
    assert isinstance(other.exception(), Overloaded)
