"""Faults: opened at one threshold, closed at another, and never more often than there is cause."""

import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection
from django.utils import timezone

from analytics.alerting import faults
from analytics.alerting.faults import FaultClosed, InvalidNote, watch
from analytics.alerting.kinds import KINDS
from analytics.figures import snapshot
from analytics.models import (
    Fault,
    FaultChange,
    FaultKind,
    FaultThresholds,
    MeterCadence,
    VehicleCadence,
    VehicleDay,
)
from analytics.rollups import cadence, hourly
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import MeterFactory, SiteFactory, VehicleFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

MINUTE = timedelta(minutes=1)


def charged(dc_kwh: float, ac_kwh: float = 10.0, vehicle_id: str = "V1") -> None:
    """Let V1 have taken so much of its meter's AC; once more, and that is corrected."""
    meter_id = f"M-{vehicle_id}"
    link_vehicle(vehicle_id, meter_id, at("08:00"))
    record([meter_reading(meter_id, "11:00", ac_kwh)], timezone.now())
    record([vehicle_reading(vehicle_id, "11:00", dc_kwh)], timezone.now())
    snapshot.refresh()


def warmed(celsius: float, vehicle_id: str = "V1") -> None:
    """Let a vehicle report the temperature of its battery now."""
    reading = vehicle_reading(vehicle_id, battery_temp_celsius=celsius)
    reading.measured_at = timezone.now()
    record([reading], timezone.now())


def heard_of(*vehicle_ids: str, cadence_seconds: float = 60) -> None:
    """Let vehicles report now, as each does once a minute."""
    for vehicle_id in vehicle_ids:
        warmed(20, vehicle_id)
        known = {"cadence_seconds": cadence_seconds, "learned_at": timezone.now()}
        VehicleCadence.objects.update_or_create(vehicle_id=vehicle_id, defaults=known)


def open_faults() -> list[tuple[str, str | None]]:
    """Return kind and vehicle of each fault that is not closed."""
    wanted = Fault.objects.exclude(state="closed").order_by("kind", "vehicle_id")
    return [(fault.kind, fault.vehicle_id) for fault in wanted]


def steps(fault: Fault) -> list[tuple[str, str]]:
    """Return the states that a fault has gone through, with what was said of it."""
    return [(change.state, change.note) for change in fault.changes.order_by("pk")]


# --- Low efficiency ---------------------------------------------------------------------------


def test_fault_opens_below_its_threshold():
    charged(8.49)  # 84.9 %

    watch()

    fault = Fault.objects.get()
    assert (fault.kind, fault.state, fault.vehicle_id) == ("low_efficiency", "open", "V1")
    assert (fault.value, fault.threshold, fault.opened_at) == (84.9, 85.0, NOON)
    assert steps(fault) == [("open", "")]


def test_no_fault_opens_at_the_threshold_itself():
    charged(8.5)

    watch()

    assert open_faults() == []


def test_share_of_the_meters_without_a_link_says_nothing_of_a_single_vehicle():
    record([meter_reading("M1", "11:00", 10.0), vehicle_reading("V1", "11:00", 5.0)], NOON)
    snapshot.refresh()
    day = VehicleDay.objects.get()
    assert (day.ac_source, day.efficiency_percent, day.reason) == ("fleet", 50.0, None)

    watch()

    assert open_faults() == []


def test_fault_stays_between_the_thresholds_and_closes_at_the_upper_one(clock):
    charged(8.0)
    watch()
    charged(8.69)
    clock.shift(6 * MINUTE)
    watch()
    clock.shift(6 * MINUTE)
    watch()
    assert open_faults() == [("low_efficiency", "V1")]

    charged(8.7)
    watch()
    clock.shift(5 * MINUTE)
    watch()

    fault = Fault.objects.get()
    assert (fault.state, fault.closed_at) == ("closed", NOON + 17 * MINUTE)
    assert steps(fault) == [("open", ""), ("closed", "The cause is gone")]


def test_fault_closes_only_when_its_cause_has_been_gone_for_five_minutes(clock):
    charged(8.0)
    watch()
    charged(9.0)
    for _ in range(5):  # gone since 12:00, looked at until 12:04
        watch()
        clock.shift(MINUTE)
    assert open_faults() == [("low_efficiency", "V1")]

    watch()

    assert open_faults() == []


def test_falling_back_begins_the_five_minutes_anew(clock):
    charged(8.0)
    watch()
    for dc_kwh in (9.0, 8.0, 9.0):
        charged(dc_kwh)
        watch()
        clock.shift(3 * MINUTE)
    watch()
    assert open_faults() == [("low_efficiency", "V1")]

    clock.shift(2 * MINUTE)
    watch()

    assert open_faults() == []


def test_figure_between_the_thresholds_interrupts_the_five_minutes_too(clock):
    charged(8.0)
    watch()
    for dc_kwh in (9.0, 8.6, 9.0):
        charged(dc_kwh)
        watch()
        clock.shift(4 * MINUTE)
    watch()

    assert open_faults() == [("low_efficiency", "V1")]


def test_figure_that_swings_between_the_thresholds_opens_one_fault(clock):
    for dc_kwh in (8.4, 8.6, 8.4, 8.69, 8.4, 8.5):
        charged(dc_kwh)
        watch()
        clock.shift(6 * MINUTE)

    assert Fault.objects.count() == 1
    assert FaultChange.objects.count() == 1


def test_too_little_energy_neither_opens_nor_closes_a_fault(clock):
    charged(1.0, ac_kwh=1.9)
    watch()
    assert open_faults() == []

    charged(8.0)
    watch()
    charged(1.9, ac_kwh=1.9)
    watch()
    clock.shift(6 * MINUTE)
    watch()

    assert open_faults() == [("low_efficiency", "V1")]


def test_figure_that_becomes_unknown_interrupts_the_five_minutes(clock):
    charged(8.0)
    watch()
    charged(9.0)
    watch()
    charged(1.9, ac_kwh=1.9)
    clock.shift(3 * MINUTE)
    watch()
    charged(9.0)
    clock.shift(3 * MINUTE)
    watch()

    assert open_faults() == [("low_efficiency", "V1")]


def test_more_than_100_percent_neither_opens_nor_closes_a_fault(clock):
    charged(8.0)
    watch()
    charged(12.0)
    watch()
    clock.shift(6 * MINUTE)
    charged(12.0)
    watch()

    assert open_faults() == [("low_efficiency", "V1")]


def test_figure_that_nobody_has_looked_at_lately_opens_no_fault(clock):
    charged(8.0)
    VehicleDay.objects.update(ends_at=NOON - 8 * MINUTE)  # two turns of the snapshot, and 5 minutes

    watch()

    assert open_faults() == []


def test_value_follows_the_figure_by_half_a_percent_or_more(clock):
    charged(8.0)
    watch()
    charged(8.04)
    watch()
    assert Fault.objects.get().value == 80.0

    charged(8.06)
    watch()

    assert Fault.objects.get().value == 80.6


# --- Standby loss -----------------------------------------------------------------------------


def idled(ac_kwh: float, dc_kwh: float = 0.0, **fields: object) -> None:
    """Let the snapshot say that V1 took so much DC while its meter drew so much AC."""
    Vehicle.objects.get_or_create(vehicle_id="V1")
    reason = "no_ac" if ac_kwh == 0 else "not_charging" if dc_kwh == 0 else None
    VehicleDay.objects.update_or_create(
        vehicle_id="V1",
        defaults={
            "ends_at": timezone.now(),
            "energy_ac_kwh": ac_kwh,
            "energy_dc_kwh": dc_kwh,
            "efficiency_percent": 100 * dc_kwh / ac_kwh if ac_kwh else None,
            "vehicle_readings": 1440,
            "meter_readings": 96,
            "suspect_steps": 0,
            "ac_source": "linked",
            "health": "healthy" if reason is None else "unknown",
            "reason": reason,
            "meter_id": "M1",
        }
        | fields,
    )


def test_meter_that_draws_while_nothing_is_charged_is_a_standby_loss():
    idled(4.8)  # 0.05 kWh in each quarter hour

    watch()

    fault = Fault.objects.get()
    assert (fault.kind, fault.vehicle_id, fault.meter_id) == ("standby_loss", "V1", None)
    assert (fault.value, fault.threshold) == (4.8, 2.0)


@pytest.mark.parametrize(("ac_kwh", "opened"), [(1.99, []), (2.0, [("standby_loss", "V1")])])
def test_standby_loss_opens_at_its_threshold(ac_kwh, opened):
    idled(ac_kwh)

    watch()

    assert open_faults() == opened


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "low_coverage"},  # the vehicle did not report
        {"reason": "no_ac"},
        {"ac_source": "fleet"},
        {"ends_at": NOON - 8 * MINUTE},
    ],
)
def test_figure_that_says_nothing_is_no_standby_loss(fields):
    idled(4.8, **fields)

    watch()

    assert open_faults() == []


@pytest.mark.parametrize(
    ("then", "still_open"),
    [
        ({"ac_kwh": 1.5}, True),
        ({"ac_kwh": 1.49}, False),
        ({"ac_kwh": 9.0, "dc_kwh": 8.0}, False),
        ({"ac_kwh": 0}, False),
        ({"ac_kwh": 0, "meter_readings": 0}, True),  # nothing is known of the meter
        ({"ac_kwh": 4.8, "reason": "low_coverage"}, True),
    ],
)
def test_standby_loss_closes_when_the_meter_rests_or_the_vehicle_charges(clock, then, still_open):
    idled(4.8)
    watch()
    for _ in range(2):
        clock.shift(5 * MINUTE)
        idled(**then)
        watch()

    assert open_faults() == ([("standby_loss", "V1")] if still_open else [])


def test_thresholds_of_a_site_are_those_of_standby_too():
    site = SiteFactory()
    FaultThresholds.objects.create(site=site, standby_opens_kwh=6)
    VehicleFactory(vehicle_id="V1", site=site)
    idled(4.8)

    watch()

    assert open_faults() == []


# --- Hot battery ------------------------------------------------------------------------------


@pytest.mark.parametrize(("celsius", "opened"), [(50.0, []), (50.1, [("hot_battery", "V1")])])
def test_battery_is_too_hot_above_its_threshold(celsius, opened):
    warmed(celsius)

    watch()

    assert open_faults() == opened


def test_battery_has_cooled_down_below_the_lower_threshold(clock):
    warmed(60)
    watch()
    for celsius in (45.0, 45.0, 44.9):
        clock.shift(6 * MINUTE)
        warmed(celsius)
        watch()
    assert open_faults() == [("hot_battery", "V1")]

    clock.shift(5 * MINUTE)
    watch()

    assert open_faults() == []
    assert Fault.objects.get().value == 45


def test_temperature_of_more_than_an_hour_ago_opens_no_fault(clock):
    warmed(60)
    clock.shift(61 * MINUTE)

    watch()

    assert open_faults() == []


def test_temperature_of_more_than_an_hour_ago_closes_no_fault(clock):
    warmed(60)
    watch()
    clock.shift(MINUTE)
    warmed(40)
    watch()
    clock.shift(61 * MINUTE)
    watch()

    assert open_faults() == [("hot_battery", "V1")]


# --- Thresholds -------------------------------------------------------------------------------


def test_thresholds_without_a_site_hold_where_a_site_has_none_of_its_own():
    strict, lax = SiteFactory(), SiteFactory()
    FaultThresholds.objects.create(battery_opens_celsius=30)
    FaultThresholds.objects.create(site=strict, battery_opens_celsius=20)
    VehicleFactory(vehicle_id="STRICT", site=strict)
    VehicleFactory(vehicle_id="LAX", site=lax)
    for vehicle_id in ("STRICT", "LAX", "NOWHERE"):
        warmed(25, vehicle_id)
    watch()
    assert open_faults() == [("hot_battery", "STRICT")]

    for vehicle_id in ("LAX", "NOWHERE"):
        warmed(31, vehicle_id)
    watch()

    assert open_faults() == [("hot_battery", id_) for id_ in ("LAX", "NOWHERE", "STRICT")]
    assert Fault.objects.get(vehicle_id="STRICT").site == strict
    assert Fault.objects.get(vehicle_id="STRICT").threshold == 20
    assert Fault.objects.get(vehicle_id="NOWHERE").site is None


def test_thresholds_of_a_site_are_those_of_efficiency_too():
    site = SiteFactory()
    VehicleFactory(vehicle_id="V1", site=site)
    thresholds = FaultThresholds(site=site, efficiency_opens_percent=75)
    thresholds.save()
    charged(8.0)
    watch()
    assert open_faults() == []

    thresholds.efficiency_opens_percent = 80.01
    thresholds.save()
    watch()

    assert open_faults() == [("low_efficiency", "V1")]


# --- Silence ----------------------------------------------------------------------------------


def test_vehicle_is_silent_after_more_than_fifteen_minutes(clock):
    heard_of("V1")
    clock.shift(15 * MINUTE)
    watch()
    assert open_faults() == []

    clock.shift(MINUTE)
    watch()

    fault = Fault.objects.get()
    assert (fault.kind, fault.vehicle_id, fault.value, fault.threshold) == ("silent", "V1", 16, 15)


def test_device_that_reports_seldom_may_be_silent_for_ten_of_its_intervals(clock):
    heard_of("V1", cadence_seconds=600)
    clock.shift(100 * MINUTE)
    watch()
    assert open_faults() == []

    clock.shift(MINUTE)
    watch()

    assert Fault.objects.get().threshold == 100


def test_meter_is_silent_too(clock):
    record([meter_reading("M1", "12:00")], NOON)
    MeterCadence.objects.create(meter_id="M1", cadence_seconds=60, learned_at=NOON)
    clock.shift(16 * MINUTE)

    watch()

    fault = Fault.objects.get()
    assert (fault.kind, fault.vehicle_id, fault.meter_id) == ("silent", None, "M1")


def test_device_whose_cadence_is_not_known_is_never_silent(clock):
    heard_of("V1")
    VehicleCadence.objects.update(cadence_seconds=None)
    warmed(20, "V2")
    clock.shift(timedelta(days=2))

    watch()

    assert open_faults() == []


@pytest.fixture
def session_only(clock):
    """V1 and M1 report a minute each from eight to ten, and only then, on five days up to now."""
    for day in range(4, -1, -1):
        clock.move_to(at("10:00") - timedelta(days=day))
        now = timezone.now()
        measured = [now - n * MINUTE for n in range(120)]
        record(
            [MeterReading(meter_id="M1", energy_ac_kwh=0.12, measured_at=each) for each in measured]
            + [
                VehicleReading(vehicle_id="V1", energy_dc_kwh=0.108, measured_at=each)
                for each in measured
            ],
            now,
        )
        hourly.roll_up()
        cadence.learn_cadences()
        for minutes in (0, 6):  # silent for long enough to be looked at
            clock.move_to(now + minutes * MINUTE)
            cadence.learn_pauses()


@pytest.mark.usefixtures("session_only")
def test_device_that_sleeps_between_charges_is_silent_after_three_of_its_pauses(clock):
    heard_at = at("10:00")
    # From 10:00 to 08:01 of the next day: 22 hours and a minute.
    limit = 3 * timedelta(hours=22, minutes=1)
    clock.move_to(heard_at + limit)
    watch()
    assert open_faults() == []

    clock.move_to(heard_at + limit + MINUTE)
    watch()

    found = Fault.objects.order_by("vehicle_id")
    assert [(fault.kind, fault.vehicle_id, fault.meter_id) for fault in found] == [
        ("silent", "V1", None),
        ("silent", None, "M1"),
    ]
    assert {fault.threshold for fault in found} == {limit / MINUTE}


def test_silence_is_over_when_the_device_was_heard_of_for_five_minutes(clock):
    heard_of("V1")
    clock.shift(20 * MINUTE)
    watch()
    heard_of("V1")
    watch()
    clock.shift(4 * MINUTE)
    watch()
    assert open_faults() == [("silent", "V1")]

    clock.shift(MINUTE)
    watch()

    assert open_faults() == []


def test_silence_that_lasts_is_written_down_when_it_has_grown_by_a_tenth(clock):
    heard_of("V1")
    clock.shift(20 * MINUTE)
    watch()
    clock.shift(MINUTE)
    watch()
    assert Fault.objects.get().value == 20

    clock.shift(MINUTE)
    watch()

    assert Fault.objects.get().value == 22


# --- Clock ------------------------------------------------------------------------------------


def delivered(clock, lag: timedelta, hours: float, every: timedelta = 30 * MINUTE) -> None:
    """Let V1 report for so many hours from now on, each time with a timestamp that lags."""
    for _ in range(int(timedelta(hours=hours) / every)):
        clock.shift(every)
        now = timezone.now()
        record([VehicleReading(vehicle_id="V1", energy_dc_kwh=0, measured_at=now - lag)], now)


def clocks() -> list[tuple[str | None, float]]:
    """Return vehicle and value of each fault of a clock that is not closed, after a watch."""
    watch()
    found = Fault.objects.filter(kind="clock").exclude(state="closed")
    return [(fault.vehicle_id, fault.value) for fault in found]


def test_clock_that_lags_by_the_same_time_for_three_hours_opens_a_fault(clock):
    delivered(clock, timedelta(days=3), 3)
    assert clocks() == []

    delivered(clock, timedelta(days=3), 0.5)

    assert clocks() == [("V1", 72.0)]
    assert Fault.objects.get().threshold == 24


def test_clock_of_a_meter_opens_a_fault_too(clock):
    for hours in range(5):
        now = NOON + timedelta(hours=hours)
        clock.move_to(now)
        reading = MeterReading(meter_id="M1", energy_ac_kwh=0, measured_at=now - timedelta(days=2))
        record([reading], now)
    watch()

    fault = Fault.objects.get()
    assert (fault.kind, fault.meter_id, fault.value) == ("clock", "M1", 48.0)


@pytest.mark.parametrize(("hours", "opened"), [(24, []), (24.1, [("V1", 24.1)])])
def test_clock_is_behind_by_more_than_a_day(clock, hours, opened):
    delivered(clock, timedelta(hours=hours), 4)

    assert clocks() == opened


def test_import_of_old_readings_is_no_slow_clock(clock):
    old = [NOON - timedelta(days=9) + n * MINUTE for n in range(3 * 24 * 60)]
    record(
        [VehicleReading(vehicle_id="V1", energy_dc_kwh=0, measured_at=each) for each in old], NOON
    )

    assert clocks() == []


def test_backlog_that_is_delivered_for_hours_is_no_slow_clock(clock):
    # Ten times as fast as it was measured, from five days ago on.
    for n in range(24):
        clock.shift(10 * MINUTE)
        first = NOON - timedelta(days=5) + n * 100 * MINUTE
        readings = [
            VehicleReading(vehicle_id="V1", energy_dc_kwh=0, measured_at=first + part * 10 * MINUTE)
            for part in range(10)
        ]
        record(readings, timezone.now())

        assert clocks() == []


def test_lag_of_a_delivery_is_that_of_its_newest_reading(clock):
    # Six readings an hour, in one delivery.
    for _ in range(8):
        clock.shift(60 * MINUTE)
        now = timezone.now()
        measured = [now - timedelta(days=2) - n * 10 * MINUTE for n in range(6)]
        record(
            [
                VehicleReading(vehicle_id="V1", energy_dc_kwh=0, measured_at=each)
                for each in measured
            ],
            now,
        )

    assert clocks() == [("V1", 48.0)]


def test_fault_of_a_clock_closes_when_newer_readings_arrive(clock):
    delivered(clock, timedelta(days=3), 4)
    assert clocks() == [("V1", 72.0)]

    clock.shift(timedelta(days=1))
    assert clocks() == [("V1", 72.0)]  # nothing has arrived

    delivered(clock, timedelta(0), 0.5)
    watch()
    clock.shift(5 * MINUTE)
    assert clocks() == []


def test_clock_of_a_device_that_has_stopped_says_nothing(clock):
    delivered(clock, timedelta(days=3), 4)
    clock.shift(timedelta(hours=3))

    assert clocks() == []


@pytest.mark.parametrize(("minutes", "opened"), [(0, []), (1, [("V1", 72.0)])])
def test_clock_of_a_device_that_is_retired_opens_no_fault(clock, minutes, opened):
    delivered(clock, timedelta(days=3), 4)
    Vehicle.objects.update(retired_at=timezone.now() + minutes * MINUTE)

    assert clocks() == opened


def test_fault_of_the_clock_of_a_device_that_is_retired_closes(clock):
    delivered(clock, timedelta(days=3), 4)
    assert clocks() == [("V1", 72.0)]
    Vehicle.objects.update(retired_at=timezone.now())
    watch()
    clock.shift(5 * MINUTE)

    assert clocks() == []


# --- Retired devices ---------------------------------------------------------------------------


def test_device_that_is_retired_is_not_silent(clock):
    heard_of("V1", "V2")
    record([meter_reading("M1", "12:00")], NOON)
    MeterCadence.objects.create(meter_id="M1", cadence_seconds=60, learned_at=NOON)
    clock.shift(16 * MINUTE)
    Meter.objects.update(retired_at=at("12:16"))
    Vehicle.objects.filter(pk="V1").update(retired_at=at("12:10"))
    Vehicle.objects.filter(pk="V2").update(retired_at=at("12:17"))  # not yet

    watch()

    assert open_faults() == [("silent", "V2")]


def test_silence_of_a_device_that_is_retired_closes(clock):
    heard_of("V1")
    clock.shift(16 * MINUTE)
    watch()
    Vehicle.objects.update(retired_at=at("12:16"))
    watch()
    clock.shift(5 * MINUTE)

    watch()

    assert open_faults() == []


# --- A silent site ----------------------------------------------------------------------------


@pytest.fixture
def depot():
    """Ten vehicles at a depot, all heard of at noon; five silent ones are a fault of the site."""
    site = SiteFactory(name="Depot")
    ids = [f"V{number}" for number in range(10)]
    for vehicle_id in ids:
        VehicleFactory(vehicle_id=vehicle_id, site=site)
    heard_of(*ids)
    return site


def heard_but(silent: int) -> None:
    """Let all vehicles of the depot report but the first ones."""
    heard_of(*(f"V{number}" for number in range(silent, 10)))


def test_many_silent_devices_are_one_fault_of_their_site(clock, depot):
    clock.shift(16 * MINUTE)
    heard_but(5)

    watch()

    fault = Fault.objects.get()
    assert (fault.kind, fault.site, fault.value, fault.threshold) == ("site_silent", depot, 5, 5)
    assert (fault.vehicle_id, fault.meter_id) == (None, None)


def test_few_silent_devices_are_faults_of_their_own(clock, depot):
    clock.shift(16 * MINUTE)
    heard_but(4)

    watch()

    assert open_faults() == [("silent", f"V{number}") for number in range(4)]


def test_site_is_silent_only_when_half_of_its_devices_are(clock, depot):
    extra = [f"X{number}" for number in range(2)]
    for vehicle_id in extra:
        VehicleFactory(vehicle_id=vehicle_id, site=depot)
    clock.shift(16 * MINUTE)
    heard_of(*extra)
    heard_but(5)  # 5 of 12
    watch()
    assert len(open_faults()) == 5

    Vehicle.objects.filter(pk__in=extra).update(site=None)
    watch()

    assert open_faults() == [("site_silent", None)]
    assert Fault.objects.get(kind="site_silent").threshold == 5


def test_retired_devices_are_not_among_those_of_a_site(clock, depot):
    Vehicle.objects.filter(pk__in=["V0", "V1", "V2"]).update(retired_at=at("11:00"))
    clock.shift(16 * MINUTE)
    heard_but(7)  # four of seven

    watch()
    assert open_faults() == [("silent", f"V{number}") for number in range(3, 7)]
    Vehicle.objects.update(retired_at=None)
    watch()

    assert ("site_silent", None) in open_faults()


def test_silent_devices_join_the_fault_of_their_site(clock, depot):
    clock.shift(16 * MINUTE)
    heard_but(4)
    watch()
    faults.acknowledge(Fault.objects.get(vehicle_id="V0").pk, None)
    clock.shift(MINUTE)
    heard_but(5)
    clock.shift(15 * MINUTE)
    heard_but(5)

    watch()

    assert open_faults() == [("site_silent", None)]
    note = "Part of the site's fault"
    assert steps(Fault.objects.get(vehicle_id="V0"))[-1] == ("closed", note)
    assert Fault.objects.filter(kind="silent", state="closed").count() == 4


def test_no_device_of_a_silent_site_has_a_fault_of_its_own(clock, depot):
    clock.shift(16 * MINUTE)
    heard_but(6)
    watch()
    for _ in range(3):
        clock.shift(16 * MINUTE)
        heard_but(3)  # no more than five, and no less than half of them
        watch()

    assert open_faults() == [("site_silent", None)]
    assert Fault.objects.get().value == 3


def test_devices_that_stay_silent_have_faults_of_their_own_when_their_site_is_well(clock, depot):
    clock.shift(16 * MINUTE)
    heard_but(6)
    watch()
    for _ in range(6):  # 12:16 to 12:21; the site opened at 5, and 2 are less than half of that
        heard_but(2)
        watch()
        clock.shift(MINUTE)
    assert open_faults() == []
    assert Fault.objects.get().state == "closed"

    watch()

    assert open_faults() == [("silent", "V0"), ("silent", "V1")]


def test_devices_that_joined_their_site_open_anew_after_it(clock, depot):
    clock.shift(16 * MINUTE)
    heard_but(1)
    watch()
    clock.shift(16 * MINUTE)
    heard_but(6)
    watch()
    assert open_faults() == [("site_silent", None)]
    for _ in range(7):
        heard_but(1)
        watch()
        clock.shift(MINUTE)

    assert open_faults() == [("silent", "V0")]
    assert Fault.objects.filter(vehicle_id="V0").count() == 2


def test_devices_without_a_site_are_never_grouped(clock):
    ids = [f"V{number}" for number in range(6)]
    heard_of(*ids)
    clock.shift(16 * MINUTE)

    watch()

    assert open_faults() == [("silent", vehicle_id) for vehicle_id in ids]


def test_silent_site_that_is_closed_by_hand_stays_closed_and_its_devices_too(clock, depot):
    clock.shift(16 * MINUTE)
    watch()
    faults.close(Fault.objects.get().pk, None, "the depot is closed for the holidays")

    clock.shift(timedelta(days=3))
    watch()
    assert open_faults() == []

    heard_but(0)
    watch()
    clock.shift(16 * MINUTE)
    watch()

    assert open_faults() == [("site_silent", None)]


# --- By hand ----------------------------------------------------------------------------------


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def hot(clock) -> Fault:
    """V1 is too hot since noon."""
    warmed(60)
    watch()
    return Fault.objects.get()


def test_fault_is_acknowledged_and_closed_by_people(clock, user, hot):
    clock.shift(MINUTE)
    faults.acknowledge(hot.pk, user, " on my way ")
    clock.shift(MINUTE)
    fault = faults.close(hot.pk, user, "fan replaced")

    assert (fault.state, fault.closed_at) == ("closed", NOON + 2 * MINUTE)
    told = [(step.state, step.user, step.note, step.changed_at) for step in hot.changes.all()]
    assert told == [
        ("open", None, "", NOON),
        ("acknowledged", user, "on my way", NOON + MINUTE),
        ("closed", user, "fan replaced", NOON + 2 * MINUTE),
    ]


def test_acknowledging_again_counts_only_with_a_note(user, hot):
    faults.acknowledge(hot.pk, user)
    faults.acknowledge(hot.pk, user)
    faults.acknowledge(hot.pk, user, "parts ordered")

    assert steps(hot)[1:] == [("acknowledged", ""), ("acknowledged", "parts ordered")]


def test_acknowledged_fault_stays_acknowledged_and_closes_by_itself(clock, user, hot):
    faults.acknowledge(hot.pk, user)
    watch()
    assert Fault.objects.get().state == "acknowledged"

    warmed(20)
    watch()
    clock.shift(5 * MINUTE)
    watch()

    assert steps(hot)[-1] == ("closed", "The cause is gone")


def test_closed_fault_can_be_neither_acknowledged_nor_closed(user, hot):
    faults.close(hot.pk, user, "fan replaced")

    with pytest.raises(FaultClosed):
        faults.acknowledge(hot.pk, user)
    with pytest.raises(FaultClosed):
        faults.close(hot.pk, user, "again")
    assert len(steps(hot)) == 2


@pytest.mark.parametrize("note", ["", "  \n", "x" * 1001])
def test_note_of_a_closing_is_neither_empty_nor_endless(user, hot, note):
    with pytest.raises(InvalidNote):
        faults.close(hot.pk, user, note)

    assert open_faults() == [("hot_battery", "V1")]


def test_unknown_fault_is_an_error(user):
    with pytest.raises(Fault.DoesNotExist):
        faults.close(1, user, "there is none")


def test_fault_that_is_closed_by_hand_does_not_open_at_the_next_look(clock, user, hot):
    faults.close(hot.pk, user, "fan replaced")

    for _ in range(3):
        clock.shift(MINUTE)
        warmed(60)
        watch()

    assert open_faults() == []


def test_fault_that_is_closed_by_hand_opens_anew_once_its_cause_was_gone(clock, user, hot):
    faults.close(hot.pk, user, "fan replaced")
    for celsius in (44, 60):
        clock.shift(MINUTE)
        warmed(celsius)
        watch()

    assert open_faults() == [("hot_battery", "V1")]
    assert Fault.objects.count() == 2


def test_fault_that_is_closed_by_hand_while_it_recovers_opens_anew_at_once(clock, user, hot):
    warmed(40)
    watch()
    faults.close(hot.pk, user, "fan replaced")
    clock.shift(MINUTE)
    warmed(60)
    watch()

    assert open_faults() == [("hot_battery", "V1")]


def test_fault_that_is_closed_by_hand_opens_anew_after_a_day_in_which_it_lasted(clock, user, hot):
    faults.close(hot.pk, user, "fan replaced")
    clock.shift(timedelta(hours=24) - MINUTE)
    warmed(60)
    watch()
    assert open_faults() == []

    clock.shift(MINUTE)
    warmed(60)
    watch()
    assert open_faults() == [("hot_battery", "V1")]

    faults.close(Fault.objects.get(state="open").pk, user, "fan replaced again")
    watch()
    assert open_faults() == []


def test_silent_device_that_is_closed_by_hand_may_be_retired(clock, user):
    heard_of("V1")
    clock.shift(20 * MINUTE)
    watch()
    faults.close(Fault.objects.get().pk, user, "sold")
    clock.shift(timedelta(days=10))
    watch()
    assert open_faults() == []

    heard_of("V1")
    watch()
    clock.shift(20 * MINUTE)
    watch()

    assert open_faults() == [("silent", "V1")]


# --- Cost, and two at once --------------------------------------------------------------------


@pytest.mark.parametrize("devices", [10, 200])
def test_watch_sends_the_same_statements_however_many_devices(clock, statements_sent, devices):
    site = SiteFactory()
    for number in range(devices):
        VehicleFactory(vehicle_id=f"V{number}", site=site)
        MeterFactory(meter_id=f"M{number}", site=site)
    charged(5.0, vehicle_id="LOSSY")
    record([vehicle_reading(f"V{n}", battery_temp_celsius=60) for n in range(devices)], NOON)
    VehicleCadence.objects.bulk_create(
        VehicleCadence(vehicle_id=f"V{n}", cadence_seconds=60, learned_at=NOON)
        for n in range(devices)
    )
    with statements_sent() as sent:
        watch()
    first = sent[0]
    assert Fault.objects.count() == devices + 1

    clock.shift(20 * MINUTE)
    record(
        [vehicle_reading(f"V{n}", "11:30", battery_temp_celsius=20) for n in range(devices)], NOON
    )
    watch()
    clock.shift(5 * MINUTE)
    with statements_sent() as sent:
        watch()

    # Savepoint, lock; thresholds; one for each finder, and sites; open, webhooks' changes,
    # webhooks; release. The second time, faults close.
    expected = 8 + len({record.find for record in KINDS.values()})
    assert (first, sent[0]) == (expected, expected)
    assert Fault.objects.filter(state="closed").count() == devices


def test_watch_writes_nothing_where_nothing_has_changed(clock, hot):
    def versions() -> list[object]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT xmin, ctid FROM analytics_fault")
            return cursor.fetchall()

    before = versions()
    clock.shift(MINUTE)

    watch()

    assert versions() == before


@pytest.mark.django_db(transaction=True)
def test_watches_at_the_same_time_open_each_fault_once():
    for number in range(50):
        warmed(60, f"V{number}")

    run_at_once(watch, watch, watch, watch)

    assert Fault.objects.count() == 50
    assert FaultChange.objects.count() == 50


@pytest.mark.django_db(transaction=True)
def test_fault_is_closed_once_by_whoever_comes_first(clock):
    for number in range(20):
        warmed(60, f"V{number}")
    watch()
    for number in range(20):
        warmed(20, f"V{number}")
    watch()
    clock.shift(5 * MINUTE)
    ids = list(Fault.objects.values_list("pk", flat=True))

    def close_all() -> None:
        for fault_id in ids:
            try:
                faults.close(fault_id, None, "fan replaced")
            except FaultClosed:
                continue

    run_at_once(close_all, watch, close_all)

    assert open_faults() == []
    assert FaultChange.objects.filter(state="closed").count() == 20


def run_at_once(*work) -> None:
    """Run each in a thread of its own, with a connection of its own; raise what they raise."""
    errors: list[Exception] = []
    barrier = threading.Barrier(len(work))

    def run(job) -> None:
        try:
            barrier.wait()
            job()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[job]) for job in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_database_itself_refuses_two_open_faults_of_a_kind(hot):
    with pytest.raises(IntegrityError):
        Fault.objects.create(
            kind=FaultKind.HOT_BATTERY, vehicle_id="V1", value=60, threshold=50, opened_at=NOON
        )
