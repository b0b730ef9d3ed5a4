"""No interleaving of writers, late readings, repeats, corrections, changed links and settings,
rollups and archiving makes a served figure differ from what history says at that moment.

`TRUTH_STEPS=50000 pytest tests/analytics/figures/test_truth.py` tries more of them, from
`--hypothesis-seed=N`.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import ModuleType
from typing import ClassVar
from urllib.parse import quote

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from analytics.figures import snapshot
from analytics.figures.performance import vehicle_account
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window
from analytics.models import MeterCadence, VehicleCadence
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences
from fleet.links import NoLinkInForce, UnknownDevice, end_link, link_vehicle, unlink_vehicle
from fleet.models import Meter, Vehicle, VehicleMeterLink
from fleet.stores.redis import insist
from ingestion import writer
from ingestion.history.partitions import ensure_partitions
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.analytics.figures import broken_rules, reference
from tests.analytics.figures.histories import (
    DEFAULT_MAX_POWER_KW,
    METERS,
    RULES,
    VEHICLES,
    Delivered,
    bursts,
    deliveries,
    device_settings,
    devices,
    minutes,
    reading,
)
from tests.analytics.figures.reference import World, figures
from tests.conftest import NOON, Api

STEPS = int(os.environ.get("TRUTH_STEPS", "2000"))
STEPS_OF_AN_EXAMPLE = 50

TABLES = (
    "ingestion_meterreading, ingestion_vehiclereading, ingestion_changedmeterhour, "
    "ingestion_changedvehiclehour, ingestion_meterregister, ingestion_vehicleregister, "
    "ingestion_archivedpartition, analytics_meterhour, analytics_vehiclehour, "
    "analytics_metercadence, analytics_vehiclecadence, analytics_vehicleday, "
    "analytics_fleetday, analytics_unlinkedday, "
    "fleet_meterlivestate, fleet_vehiclelivestate, fleet_vehiclemeterlink"
)
# In a partition that may go to the archive.
LONG_AGO = datetime(2026, 5, 20, 12, tzinfo=UTC) - NOON


class Actor:
    """A connection of its own, in a thread that does one thing after the other."""

    def __init__(self) -> None:
        self._orders: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._is_busy = threading.Event()
        self._error: BaseException | None = None
        self._pid = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                connection.ensure_connection()
                self._pid = connection.connection.info.backend_pid
                order()
            except BaseException as error:
                self._error = error
            finally:
                connection.close()
                self._is_busy.clear()

    @property
    def is_busy(self) -> bool:
        return self._is_busy.is_set()

    def do(self, order: Callable[[], None]) -> None:
        self._is_busy.set()
        self._orders.put(order)

    def settle(self, is_where_it_should_be: Callable[[], bool]) -> None:
        """Wait until the actor is done, has come to its own stop, or waits for a lock."""
        deadline = time.monotonic() + 20
        while self.is_busy and not is_where_it_should_be() and not self._waits_for_a_lock():
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        if self._error:
            raise self._error

    def _waits_for_a_lock(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)", [self._pid]
            )
            return bool(cursor.fetchone()[0])

    def stop(self) -> None:
        self._orders.put(None)
        self._thread.join()


class Writer(Actor):
    """Writes, and commits when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._has_written = threading.Event()
        self._may_commit = threading.Event()

    @property
    def is_open(self) -> bool:
        return self.is_busy

    def write(self, readings: list[MeterReading | VehicleReading], received_at: datetime) -> None:
        self._has_written.clear()
        self._may_commit.clear()

        def order() -> None:
            with transaction.atomic():
                record(readings, received_at)
                self._has_written.set()
                self._may_commit.wait(30)

        self.do(order)
        self.settle(self._has_written.is_set)

    def commit(self) -> None:
        self._may_commit.set()
        self.settle(lambda: False)


class Truth(RuleBasedStateMachine):
    """The engine, its writers and its rollups, in any order of events."""

    api: Api
    clock: object
    judge: ModuleType
    hits: ClassVar[set[str]]

    def __init__(self) -> None:
        super().__init__()
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {TABLES}")
        for model, ids in ((Meter, METERS), (Vehicle, VEHICLES)):
            model.objects.all().delete()
            model.objects.bulk_create(model(pk=device_id) for device_id in ids)
        self.clock.move_to(NOON)
        self.received = 0
        self.is_archived = False
        self.writers = [Writer(), Writer()]
        self.roller = Actor()

    def teardown(self) -> None:
        for each in self.writers:
            if each.is_open:
                each.commit()
        for actor in (*self.writers, self.roller):
            actor.stop()

    @initialize(chosen=st.lists(device_settings, min_size=6, max_size=6))
    def choose_settings(self, chosen: list[dict[str, object]]) -> None:
        for device_id, of_device in zip(VEHICLES + METERS, chosen, strict=True):
            self.change_settings(device_id, of_device)

    @rule(number=st.sampled_from([0, 1]), delivered=deliveries, late=st.integers(0, 3))
    def write(self, number: int, delivered: list[tuple], late: int) -> None:
        """Write some readings, and leave the transaction open."""
        each = self.writers[number]
        if each.is_open:
            each.commit()
            return
        self.received += 1
        received_at = NOON + timedelta(seconds=self.received - 5 * late)
        each.write([reading(*one) for one in delivered], received_at)

    @rule(delivered=deliveries)
    def write_and_commit(self, delivered: list[tuple]) -> None:
        self.write(0, delivered, 0)
        if self.writers[0].is_open:
            self.writers[0].commit()

    @rule(number=st.sampled_from([0, 1]))
    def commit(self, number: int) -> None:
        if self.writers[number].is_open:
            self.writers[number].commit()

    @rule(delivered=bursts())
    def deliver_long_ago(self, delivered: list[Delivered]) -> None:
        if not self.is_archived:
            self._let_all_finish()
            ensure_partitions([NOON + LONG_AGO])
            record([reading(device, LONG_AGO + at, *rest) for device, at, *rest in delivered], NOON)

    @rule()
    def archive_what_is_long_ago(self) -> None:
        """Move the partition to the archive; its last reading of each device stays known."""
        if not self.is_archived:
            self._let_all_finish()
            archive()
            self.is_archived = True

    def _let_all_finish(self) -> None:
        for each in self.writers:
            if each.is_open:
                each.commit()
        self.roller.settle(lambda: False)

    @rule()
    def roll_up(self) -> None:
        """Roll up; where an open writer is in the way, it goes on when that one has committed."""
        if not self.roller.is_busy:
            self.roller.do(hourly.roll_up)
        self.roller.settle(lambda: False)

    @rule(length=st.sampled_from([10, 60, 130]))
    def let_time_pass(self, length: int) -> None:
        self.clock.shift(timedelta(minutes=length))

    @rule(
        vehicle=st.sampled_from(VEHICLES),
        meter=st.sampled_from(METERS),
        ago=minutes,
        hours=st.sampled_from([None, 1, 7]),
    )
    def link(self, vehicle: str, meter: str, ago: timedelta, hours: int | None) -> None:
        starts_at = NOON + ago
        link_vehicle(vehicle, meter, starts_at, hours and starts_at + timedelta(hours=hours))

    @rule(vehicle=st.sampled_from(VEHICLES), ago=minutes, hours=st.sampled_from([1, 7]))
    def make_a_gap(self, vehicle: str, ago: timedelta, hours: int) -> None:
        starts_at = NOON + ago
        with suppress(UnknownDevice):
            unlink_vehicle(vehicle, starts_at, starts_at + timedelta(hours=hours))

    @rule(vehicle=st.sampled_from(VEHICLES))
    def unlink(self, vehicle: str) -> None:
        with suppress(NoLinkInForce):
            end_link(vehicle)

    @rule(vehicle=st.sampled_from(VEHICLES), ago=minutes)
    def cut_a_link_in_two(self, vehicle: str, ago: timedelta) -> None:
        """Leave two links that touch, as earlier versions did when a slip was undone."""
        link = VehicleMeterLink.objects.filter(
            vehicle_id=vehicle, valid_during__contains=NOON + ago
        ).first()
        if link and link.valid_during.lower < NOON + ago:
            begins, ends = link.valid_during.lower, link.valid_during.upper
            link.valid_during = (begins, NOON + ago)
            link.save()
            VehicleMeterLink.objects.create(
                vehicle_id=vehicle, meter_id=link.meter_id, valid_during=(NOON + ago, ends)
            )

    @rule(device=devices, chosen=device_settings)
    def change_settings(self, device: str, chosen: dict[str, object]) -> None:
        (Vehicle if device in VEHICLES else Meter).objects.filter(pk=device).update(**chosen)

    @rule()
    def learn_cadences(self) -> None:
        """Learn how often devices report, as if a day had passed since the last time."""
        for model in (MeterCadence, VehicleCadence):
            model.objects.update(learned_at=NOON - timedelta(days=2))
        learn_cadences()

    @rule(
        vehicle=st.sampled_from(VEHICLES),
        start=minutes,
        length=st.integers(1, 60),
        offset=st.sampled_from([0, 0, 90]),
    )
    def look(self, vehicle: str, start: timedelta, length: int, offset: int) -> None:
        """Compare a window of its own."""
        starts_at = NOON + start + timedelta(seconds=offset)
        self._compare(vehicle, starts_at, starts_at + timedelta(minutes=5 * length))

    @rule(
        vehicle=st.sampled_from(VEHICLES),
        start=minutes,
        length=st.integers(1, 60),
        granularity=st.sampled_from(["15m", "hour", "day"]),
    )
    def look_at_pieces(self, vehicle: str, start: timedelta, length: int, granularity: str) -> None:
        """Compare a series, whose days begin at half past an hour."""
        window = (NOON + start, NOON + start + timedelta(minutes=5 * length))
        path = f"/v1/analytics/performance/{vehicle}/series"
        more = f"&granularity={granularity}&tz=Asia/Kolkata"
        before, series = self._served(path, *window, more)
        for point in series["points"]:
            piece = [datetime.fromisoformat(point[bound]) for bound in ("start", "end")]
            expected = self.judge.figures(before, vehicle, *piece, around=window)
            # A piece takes on what rounding left of the one before.
            self._assert_equal(
                point, {name: expected[name] for name in point.keys() & expected}, within_kwh=2e-9
            )

    @invariant()
    def served_figures_are_those_of_history(self) -> None:
        self.hits |= World.now().rules_hit()
        for number, vehicle in enumerate(VEHICLES):
            starts_at = NOON - timedelta(hours=5, minutes=7 * number)
            self._compare(vehicle, starts_at, NOON + timedelta(hours=2, minutes=11 * number))

    @rule()
    def look_at_the_list(self) -> None:
        """Compare the last 24 hours of the whole fleet."""
        for _ in range(20):
            before = self.judge.World.now()
            snapshot.refresh()
            answer = self.api.get("/v1/analytics/performance")
            if self.judge.World.now() == before:
                break
        for row in answer.json()["results"]:
            end = datetime.fromisoformat(row["periodEnd"])
            start = end - timedelta(hours=24)
            expected = self.judge.figures(before, row["vehicleId"], start, end)
            self._assert_equal(row, expected)

    def _compare(self, vehicle: str, start: datetime, end: datetime) -> None:
        before, served = self._served(f"/v1/analytics/performance/{vehicle}", start, end)
        self._assert_equal(served, self.judge.figures(before, vehicle, start, end))

    def _served(
        self, path: str, start: datetime, end: datetime, more: str = ""
    ) -> tuple[World, dict]:
        """Return what is served of a window, and what was committed at that moment."""
        for _ in range(20):
            before = self.judge.World.now()
            insist(_count_up, {"analytics:unlinked-generation"})  # not what was so a minute ago
            query = f"start={quote(start.isoformat())}&end={quote(end.isoformat())}{more}"
            answer = self.api.get(f"{path}?{query}")
            if self.judge.World.now() == before:  # else a writer has committed meanwhile
                break
        assert answer.status_code == 200, answer.content
        return before, answer.json()

    def _assert_equal(
        self, served: dict, expected: dict[str, object], within_kwh: float = 1e-9
    ) -> None:
        for name, value in expected.items():
            tolerance = {"abs": 0.005 + 1e-9 if name == "efficiencyRatio" else within_kwh}
            is_number = isinstance(value, float)
            wanted = pytest.approx(value, rel=1e-9, **tolerance) if is_number else value
            if name == "efficiencyRatio" and 0 < expected["energyConsumedAc"] < 1e-5:
                continue  # of so little AC, rounding is seen in the ratio
            if name == "coverage":
                self._assert_covered(served[name], value)
                continue
            assert served[name] == wanted, (name, served, expected)

    def _assert_covered(
        self, served: dict, expected: dict[str, tuple[float, float] | None]
    ) -> None:
        for of, part in expected.items():
            if part is None:
                assert served[of] is None, (served, expected)
            else:
                least, most = part
                assert least - 0.001 <= served[of] <= most + 0.001, (served, expected)


def _count_up(client: Redis, names: set[str]) -> None:
    for name in names:
        client.incr(name)


def run(
    api: Api,
    clock: object,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    phases: tuple[Phase, ...],
    judge: ModuleType = reference,
) -> set[str]:
    """Return which rules of registers decided something."""
    hits: set[str] = set()
    of_run = {"api": api, "clock": clock, "judge": judge, "hits": hits}
    machine = type("Truth", (Truth,), of_run)
    monkeypatch.setattr(hourly, "QUIET", -timedelta(days=1))  # no waiting for hours to rest
    monkeypatch.setattr(django_settings, "DEFAULT_MAX_POWER_KW", DEFAULT_MAX_POWER_KW)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=max(1, steps // STEPS_OF_AN_EXAMPLE),
                stateful_step_count=STEPS_OF_AN_EXAMPLE,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=phases,
                report_multiple_bugs=False,
            ),
        )
    finally:
        archive()  # leave no partition behind
    return hits


@pytest.fixture(autouse=True)
def _archive(tmp_path, settings) -> None:
    settings.HISTORY_HORIZON_DAYS, settings.RETENTION_DAYS = 30, 31
    settings.ARCHIVE_URL = f"file://{tmp_path}/archive"


def archive() -> None:
    call_command("retention", "apply", "--yes", stdout=StringIO())


@pytest.mark.django_db(transaction=True)
def test_no_interleaving_makes_a_figure_differ_from_history(api, clock, monkeypatch):
    hits = run(api, clock, monkeypatch, STEPS, (Phase.generate, Phase.shrink))

    if STEPS >= 20_000:  # of fewer, one may miss a rule by chance
        assert hits == RULES


@pytest.mark.django_db(transaction=True)
def test_this_test_finds_late_readings_that_leave_no_mark(api, clock, monkeypatch):
    sound = "delivered.measured_at < live.settled_before"
    for kind in writer._WRITERS:
        assert sound in kind.statement._sql
        broken = kind.statement._sql.replace(sound, "false")
        monkeypatch.setattr(kind.statement, "_sql", broken)

    # Flaky: threads do not take the same turns when an example is tried again.
    with pytest.raises((AssertionError, Flaky)):
        run(api, clock, monkeypatch, 20_000, (Phase.generate,))


# By hand, each of them: TRUTH_BREAKS=all. These are the ones that no worked example looks for.
BREAKS = (
    list(broken_rules.RULES)
    if os.environ.get("TRUTH_BREAKS") == "all"
    else ["a leap is counted", "shared equally", "no archive"]
)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", BREAKS)
def test_this_test_finds_each_rule_that_is_broken(api, clock, monkeypatch, name):
    with pytest.raises((AssertionError, Flaky)):
        run(api, clock, monkeypatch, 20_000, (Phase.generate,), broken_rules.broken(name))


@pytest.mark.django_db(transaction=True)
def test_rollup_waits_for_a_writer_that_has_not_committed(clock):
    """Found by the test above only after thousands of steps, where settling does not wait."""
    Vehicle.objects.create(pk="V1")
    record([reading("V1", timedelta(hours=-3), 1.0, None)], NOON)
    each, roller = Writer(), Actor()
    each.write([reading("V1", timedelta(hours=-2), 2.0, None)], NOON)
    roller.do(hourly.roll_up)
    roller.settle(lambda: False)
    assert roller.is_busy

    each.commit()
    roller.settle(lambda: False)
    each.stop()
    roller.stop()

    assert figures(World.now(), "V1", NOON - timedelta(hours=6), NOON)["energyDeliveredDc"] == 3.0
    served = vehicle_account("V1", Window(NOON - timedelta(hours=6), NOON), unlinked_energy).dc
    assert (served.energy_kwh, served.hours_rolled_up) == (3.0, 2)
