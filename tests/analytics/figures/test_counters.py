"""Counters: cumulative registers of meters and vehicles, with resets, gaps and corrections.

What else may become of their values: `test_register_cases`.

Each example holds from history, and again once the hours are summed up.
"""

from datetime import timedelta

import pytest

from analytics.figures.energy import Energy, Span, meter_energies, vehicle_energies
from analytics.figures.performance import vehicle_performance
from analytics.figures.window import Window
from analytics.rollups import hourly
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

KINDS = {
    "meter": (Meter, "meter_id", meter_reading, meter_energies),
    "vehicle": (Vehicle, "vehicle_id", vehicle_reading, vehicle_energies),
}


class Counter:
    """The device D1, whose register is cumulative."""

    def __init__(self, kind: str, clock) -> None:
        self._clock = clock
        registry, key, self._reading, self._energies = KINDS[kind]
        registry.objects.create(**{key: "D1"}, energy_register="counter")
        self._device = registry.objects.filter(pk="D1")

    def limit(self, max_power_kw: float) -> None:
        self._device.update(max_power_kw=max_power_kw)

    def reads(self, *readings: tuple[str, float], received_at=NOON, days_ago: int = 0) -> None:
        of_day = [self._reading("D1", clock_time, kwh) for clock_time, kwh in readings]
        for reading in of_day:
            reading.measured_at -= timedelta(days=days_ago)
        record(of_day, received_at)

    def energy(self, starts: str = "00:00", ends: str = "12:00") -> Energy:
        span = Span("D1", at(starts), at(ends))
        return self._energies([span])[span]

    def kwh_and_suspects(self) -> tuple[float, int]:
        """Return the energy of the day and its suspect steps: the same from history and sums."""
        from_history = self.energy()
        self.sum_up()
        from_sums = self.energy()
        assert from_sums.hours_rolled_up > 0
        # Also what is suspect, and where nothing was reported; not what the last readings are.
        differ = {"hours_rolled_up": 0, "ends_with": None}
        assert from_sums._replace(**differ) == from_history._replace(**differ)
        return from_sums.energy_kwh, from_sums.suspect_steps

    def sum_up(self) -> None:
        """Sum up the hours, also those that were corrected just now."""
        self._clock.shift(hourly.QUIET)
        hourly.roll_up()
        assert hourly.pending() == 0

    def kwh(self) -> float:
        energy_kwh, suspects = self.kwh_and_suspects()
        assert suspects == 0
        return energy_kwh


@pytest.fixture(params=KINDS)
def counter(request, clock):
    return Counter(request.param, clock)


def test_energy_is_the_difference_between_readings(counter):
    counter.reads(("09:00", 100.0), ("09:30", 103.0), ("10:30", 110.5))

    assert counter.kwh() == 10.5


def test_first_reading_ever_is_only_a_beginning(counter):
    counter.reads(("09:00", 5000.0))

    assert counter.kwh() == 0.0
    assert counter.energy().readings == 1


def test_drop_is_a_reset_and_the_new_value_is_the_energy_since(counter):
    counter.reads(("09:00", 100.0), ("09:10", 103.0), ("09:20", 2.0), ("09:30", 6.0))

    assert counter.kwh() == 3 + 2 + 4


def test_reset_to_zero_adds_nothing(counter):
    counter.reads(("09:00", 100.0), ("09:10", 103.0), ("10:20", 0.0), ("10:30", 6.0))

    assert counter.kwh() == 3 + 0 + 6


def test_counter_that_stands_still_adds_nothing(counter):
    counter.reads(("09:00", 100.0), ("09:10", 100.0), ("10:10", 100.0))

    assert counter.kwh() == 0.0


def test_step_into_the_window_counts_with_the_part_that_lies_in_it(counter):
    counter.reads(("20:00", 10.0), ("23:50", 90.0), days_ago=1)
    counter.reads(("00:10", 100.0), ("09:10", 101.5))

    # Of the 10 kWh from 23:50 to 00:10, half.
    assert counter.kwh() == 5 + 1.5


def test_last_reading_before_the_window_may_be_weeks_old(counter):
    counter.reads(("12:00", 40.0), days_ago=20)
    counter.reads(("06:00", 514.0))

    # 474 kWh in 474 hours, six of them in the window.
    assert counter.kwh() == pytest.approx(6.0, abs=1e-9)


def test_step_is_spread_evenly_over_the_time_since_the_reading_before(counter):
    counter.reads(("09:50", 100.0), ("10:10", 108.0))

    assert counter.energy("09:00", "10:00").energy_kwh == 4
    assert counter.energy("10:00", "11:00").energy_kwh == 4
    assert counter.energy("09:55", "10:00").energy_kwh == 2


def test_step_across_a_whole_hour_is_split_there(counter):
    counter.reads(("09:40", 100.0), ("09:55", 103.0), ("10:05", 109.0), ("10:20", 112.0))

    assert counter.kwh() == 3 + 6 + 3
    assert counter.energy().hours_rolled_up == 2
    assert counter.energy("09:00", "10:00").energy_kwh == 3 + 3
    assert counter.energy("10:00", "11:00").energy_kwh == 3 + 3
    # Five of fifteen minutes of the first step and of the last one.
    assert counter.energy("09:50", "10:10").energy_kwh == pytest.approx(1 + 6 + 1, abs=1e-9)


def test_step_across_silent_hours_is_spread_over_them(counter):
    counter.reads(("06:30", 50.0), ("10:30", 82.0))

    # 8 kWh an hour.
    assert counter.kwh() == 32.0
    assert counter.energy("07:00", "10:00").energy_kwh == 24
    assert counter.energy("10:00", "11:00").energy_kwh == 4


def test_repeats_change_nothing(counter):
    for minute in range(3):
        counter.reads(
            ("09:00", 100.0), ("09:30", 103.0), received_at=NOON + timedelta(minutes=minute)
        )

    assert counter.kwh() == 3.0
    assert counter.energy().readings == 2


def test_corrected_reading_counts_with_its_last_value(counter):
    counter.reads(("09:00", 100.0), ("09:30", 1030.0), ("10:00", 105.0))
    assert counter.kwh_and_suspects() == (5.0, 1)  # a leap, and back
    assert counter.energy("09:00", "09:30").energy_kwh == 2.5

    counter.reads(("09:30", 103.0), received_at=NOON + timedelta(seconds=1))

    assert counter.energy().energy_kwh == 5
    assert counter.kwh() == 5.0
    assert counter.energy("09:00", "09:30").energy_kwh == 3.0


def test_corrected_last_reading_of_an_hour_changes_the_step_into_the_next_one(counter):
    counter.reads(("09:00", 100.0), ("09:50", 150.0), ("10:10", 160.0))
    assert counter.kwh() == 60.0
    assert counter.energy("09:00", "10:00").energy_kwh == 50 + 5

    counter.reads(("09:50", 156.0), received_at=NOON + timedelta(seconds=1))
    counter.sum_up()

    assert counter.energy("09:00", "10:00").energy_kwh == 56 + 2
    assert counter.energy("10:00", "11:00").energy_kwh == 2


def test_late_reading_joins_between_two_others(counter):
    counter.reads(("09:00", 100.0), ("11:00", 110.0))
    assert counter.kwh() == 10.0
    assert counter.energy("09:00", "10:00").energy_kwh == 5

    counter.reads(("10:00", 104.0))

    assert counter.kwh() == 10.0
    assert counter.energy("09:00", "10:00").energy_kwh == 4
    assert counter.energy("10:00", "11:00").energy_kwh == 6


def test_longer_pause_allows_a_larger_step(counter):
    counter.limit(22.0)
    counter.reads(("09:59", 100.0))
    counter.reads(("10:59", 122.0))

    assert counter.kwh_and_suspects() == (22.0, 0)


def test_suspect_step_across_a_whole_hour_is_counted_once(counter):
    counter.limit(22.0)
    counter.reads(("09:58", 100.0), ("09:59", 100.2), ("10:01", 900.0), ("10:02", 900.3))

    energy_kwh, suspects = counter.kwh_and_suspects()

    assert energy_kwh == pytest.approx(0.2 + 0.3)
    assert suspects == 1
    assert counter.energy("10:00", "11:00").suspect_steps == 1
    assert counter.energy("09:00", "10:00").suspect_steps == 0


def test_suspect_step_into_the_window_is_counted_as_one(counter):
    counter.limit(22.0)
    counter.reads(("23:59", 100.0), days_ago=1)
    counter.reads(("00:01", 900.0), ("00:31", 905.0))

    assert counter.kwh_and_suspects() == (5.0, 1)


def test_replaced_meter_starts_lower_and_goes_on(counter):
    counter.reads(("09:00", 8000.0), ("09:10", 8005.0), ("09:50", 12.0), ("10:10", 15.0))

    assert counter.kwh() == 5 + 12 + 3


def test_new_limit_shows_at_once_also_where_hours_are_summed_up(counter):
    counter.reads(("09:00", 100.0), ("09:30", 150.0), ("10:30", 160.0))
    assert counter.kwh() == 60.0

    counter.limit(22.0)

    assert counter.energy()[:3] == (10.0, 3, 1)


def test_figure_of_two_counters_and_its_suspect_steps(api):
    Meter.objects.create(meter_id="M1", energy_register="counter", max_power_kw=22.0)
    Vehicle.objects.create(vehicle_id="V1", energy_register="counter", max_power_kw=22.0)
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", "08:00", 1000.0), vehicle_reading("V1", "08:00", 70.0)], NOON)
    # Up and back; and a leap at the end, of which nothing says yet whether it stays.
    record([meter_reading("M1", "08:01", 9000.0), meter_reading("M1", "08:02", 1000.0)], NOON)
    record([meter_reading("M1", "09:02", 1010.0), vehicle_reading("V1", "09:02", 79.0)], NOON)
    record([vehicle_reading("V1", "09:03", 500.0)], NOON)

    figure = api.get("/v1/analytics/performance/V1").json()

    assert (figure["energyConsumedAc"], figure["energyDeliveredDc"]) == (10.0, 9.0)
    assert (figure["efficiencyRatio"], figure["suspectSteps"]) == (90.0, 2)
    assert figure["dataPoints"] == {"vehicle": 3, "meter": 4}


def test_step_of_a_counter_across_a_change_of_link_is_split_there():
    Meter.objects.create(meter_id="M1", energy_register="counter")
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("10:00"))
    link_vehicle("V1", "M9", at("10:00"))
    readings = [("08:10", 100.0), ("09:50", 120.0), ("10:10", 126.0), ("11:00", 140.0)]
    record([meter_reading("M1", time, kwh) for time, kwh in readings], NOON)
    window = Window(at("00:00"), NOON)

    first, second = (vehicle_performance(vehicle, window) for vehicle in ("V1", "V2"))

    assert (first.energy_ac_kwh, second.energy_ac_kwh) == (20 + 3, 3 + 14)
