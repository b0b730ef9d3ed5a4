"""Concurrent requests share transactions, and nothing else."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import OperationalError, connection

from fleet.models import Vehicle, VehicleLiveState
from fleet.stores.batching import Overloaded
from ingestion import group_commit as module
from ingestion import models
from ingestion.group_commit import GroupCommit
from ingestion.writer import Batch, UnknownDevices, record_all
from tests.conftest import NOON, vehicle_reading

pytestmark = pytest.mark.django_db(transaction=True)


class Gate:
    """Stands in front of the writer: holds the first group back until the others have come."""

    def __init__(self, monkeypatch) -> None:
        self.groups: list[int] = []
        self.first_has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        monkeypatch.setattr(module, "record_all", self.write)

    def write(self, batches: list[Batch]) -> None:
        self.groups.append(len(batches))
        self.first_has_begun.set()
        self.may_go_on.wait(10)
        record_all(batches)


@pytest.fixture
def gate(monkeypatch) -> Gate:
    return Gate(monkeypatch)


def together(gate: Gate, queue: GroupCommit, batches: list[Batch]) -> list[BaseException | None]:
    """Record the first batch, and the others while it is being written; return their errors."""
    errors: list[BaseException | None] = [None] * len(batches)

    def run(number: int) -> None:
        try:
            queue.record(*batches[number])
        except BaseException as error:
            errors[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(batches))]
    gate.may_go_on.clear()
    threads[0].start()
    gate.first_has_begun.wait(10)
    for waiting, thread in enumerate(threads[1:], 1):
        thread.start()
        until(lambda waiting=waiting: len(queue._batches._waiting) >= waiting)
    gate.may_go_on.set()
    for thread in threads:
        thread.join()
    return errors


def until(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("waited too long")


def batch(number: int, **fields: float) -> Batch:
    return Batch([vehicle_reading(f"V{number}", **fields)], NOON)


def in_thread(queue: GroupCommit, number: int) -> threading.Thread:
    thread = threading.Thread(target=lambda: (queue.record(*batch(number)), connection.close()))
    thread.start()
    return thread


def history_size() -> int:
    return models.VehicleReading.objects.count()


def test_request_that_is_alone_is_written_at_once(gate):
    GroupCommit().record(*batch(1))

    assert gate.groups == [1]
    assert history_size() == 1


def test_requests_that_come_during_a_commit_share_the_next_one(gate):
    errors = together(gate, GroupCommit(), [batch(number) for number in range(10)])

    assert errors == [None] * 10
    assert gate.groups == [1, 9]
    assert history_size() == 10


def test_group_has_its_limit(gate, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUP_READINGS", 4)
    together(gate, GroupCommit(), [batch(number) for number in range(10)])

    assert gate.groups == [1, 4, 4, 1]
    assert history_size() == 10


def test_one_request_that_fails_does_not_fail_the_others_of_its_group(gate, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    for number in (0, 1, 3):
        Vehicle.objects.create(vehicle_id=f"V{number}")

    errors = together(gate, GroupCommit(), [batch(number) for number in range(4)])

    assert errors[:2] == [None, None]
    assert isinstance(errors[2], UnknownDevices)
    assert errors[3] is None
    assert gate.groups == [1, 3, 1, 1, 1]
    assert {row.vehicle_id for row in models.VehicleReading.objects.all()} == {"V0", "V1", "V3"}


def test_database_that_is_away_fails_all_that_wait_at_once(gate, monkeypatch):
    def away(batches: list[Batch]) -> None:
        gate.write([])
        raise OperationalError("connection refused")

    monkeypatch.setattr(module, "record_all", away)
    errors = together(gate, GroupCommit(), [batch(number) for number in range(5)])

    assert all(isinstance(error, OperationalError) for error in errors)
    assert len(gate.groups) == 1


def test_queue_that_is_full_refuses_more(gate, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_READINGS", 1)
    queue = GroupCommit()
    gate.may_go_on.clear()
    writer = in_thread(queue, 1)
    gate.first_has_begun.wait(10)
    waiting = in_thread(queue, 2)
    until(lambda: len(queue._batches._waiting) == 1)

    with pytest.raises(Overloaded):
        queue.record(*batch(3))
    gate.may_go_on.set()
    writer.join()
    waiting.join()

    assert {row.vehicle_id for row in models.VehicleReading.objects.all()} == {"V1", "V2"}


def test_wait_that_lasts_too_long_is_given_up_and_nothing_is_stored(gate, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.05)
    queue = GroupCommit()
    gate.may_go_on.clear()
    writer = in_thread(queue, 1)
    gate.first_has_begun.wait(10)

    with pytest.raises(Overloaded):
        queue.record(*batch(2))
    gate.may_go_on.set()
    writer.join()
    queue.record(*batch(3))

    assert {row.vehicle_id for row in models.VehicleReading.objects.all()} == {"V1", "V3"}
    assert queue._batches._waiting_size == 0


def test_large_delivery_is_written_alone(gate):
    large = [vehicle_reading(f"V{number}") for number in range(module.ALONE_FROM_READINGS)]
    queue = GroupCommit()
    gate.may_go_on.clear()
    writer = in_thread(queue, 1)
    gate.first_has_begun.wait(10)
    waiting = in_thread(queue, 2)
    until(lambda: len(queue._batches._waiting) == 1)
    beside = threading.Thread(target=lambda: (queue.record(large, NOON), connection.close()))
    beside.start()
    until(lambda: len(gate.groups) == 2)  # while the first group is still held back
    gate.may_go_on.set()
    for thread in (writer, waiting, beside):
        thread.join()

    assert gate.groups == [1, 1, 1]
    assert history_size() == 2 + len(large)


def test_identical_readings_in_a_group_are_all_kept(gate):
    together(gate, GroupCommit(), [batch(1) for _ in range(4)])

    assert history_size() == 4


def test_of_two_readings_with_one_timestamp_in_a_group_the_one_received_last_is_shown(gate):
    later, earlier = batch(1, kwh=2.0), batch(1, kwh=1.0)
    later = later._replace(received_at=NOON + timedelta(seconds=1))

    together(gate, GroupCommit(), [batch(0), later, earlier])

    assert gate.groups == [1, 2]
    assert VehicleLiveState.objects.get(pk="V1").energy_dc_kwh == 2
    counted = models.VehicleReading.objects.filter(vehicle_id="V1").order_by("-received_at", "-id")
    assert counted[0].energy_dc_kwh == 2


def test_readings_of_one_device_in_a_group_end_in_the_newest(gate):
    newer = Batch([vehicle_reading("V1", "11:05", 5.0)], NOON)
    older = Batch([vehicle_reading("V1", "11:00", 1.0, soc_percent=60.0)], NOON)

    together(gate, GroupCommit(), [batch(0), newer, older])

    live = VehicleLiveState.objects.get(pk="V1")
    assert (live.energy_dc_kwh, live.soc_percent) == (5, 60)
