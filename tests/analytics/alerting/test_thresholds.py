"""How many faults thresholds would have opened last week, reckoned from the hourly sums.

The week before noon of 15 July: from 8 July, 11:00, until 15 July, 11:00.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from analytics.alerting import thresholds
from analytics.alerting.kinds import KINDS
from analytics.alerting.thresholds import faults_last_week
from analytics.models import FaultKind, FaultThresholds, MeterCadence, VehicleCadence
from analytics.rollups import hourly
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.conftest import NOON, at
from tests.factories import SiteFactory, VehicleFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

HOUR = timedelta(hours=1)
BEGIN = datetime(2026, 7, 7, 11, tzinfo=UTC)  # a day before the week
ALL_HOURS = 192
GOOD, POOR = 0.9, 0.6  # kWh of DC in an hour, for 1 kWh of AC: 90 % and 60 %


def openings(kind: FaultKind = FaultKind.LOW_EFFICIENCY, **fields: object) -> int:
    """Return how many faults of `kind` these thresholds, and defaults, would have opened."""
    return faults_last_week(FaultThresholds(**fields))[kind]


def drew(kwh: Sequence[float], meter_id: str = "M1", begin: datetime = BEGIN) -> None:
    """Let a meter report so much AC in each hour, at half past."""
    record(
        [
            MeterReading(
                meter_id=meter_id, energy_ac_kwh=value, measured_at=begin + (n + 0.5) * HOUR
            )
            for n, value in enumerate(kwh)
        ],
        NOON,
    )
    hourly.roll_up()


def took(kwh: Sequence[float], vehicle_id: str = "V1", begin: datetime = BEGIN) -> None:
    """Let a vehicle report so much DC in each hour, at half past."""
    record(
        [
            VehicleReading(
                vehicle_id=vehicle_id, energy_dc_kwh=value, measured_at=begin + (n + 0.5) * HOUR
            )
            for n, value in enumerate(kwh)
        ],
        NOON,
    )
    hourly.roll_up()


def poor(*hours: int) -> list[float]:
    """Return a week's DC by the hour, with poor hours; 0 is the first hour of the week."""
    return [POOR if n - 24 in hours else GOOD for n in range(ALL_HOURS)]


@pytest.fixture
def linked():
    """V1 charges at M1, which draws 1 kWh each hour."""
    link_vehicle("V1", "M1", BEGIN)
    drew([1.0] * ALL_HOURS)


# --- Low efficiency ---------------------------------------------------------------------------


def test_week_without_poor_hours_opens_nothing(linked):
    took(poor())

    estimated = [kind for kind, record in KINDS.items() if record.last_week]
    assert faults_last_week(FaultThresholds()) == dict.fromkeys(estimated, 0)


@pytest.mark.parametrize(
    # With k poor hours of 24 it is 90 % - 1.25 % k: after four 85 %, after five 83.75 %.
    ("hours", "opened"),
    [(range(50, 54), 0), (range(50, 55), 1)],
)
def test_fault_opens_when_24_hours_are_below_the_threshold(linked, hours, opened):
    took(poor(*hours))

    assert openings() == opened


@pytest.mark.parametrize(("opens", "opened"), [(83.75, 0), (83.76, 1)])
def test_threshold_itself_opens_nothing(linked, opens, opened):
    took(poor(*range(50, 55)))

    assert openings(efficiency_opens_percent=opens) == opened


@pytest.mark.parametrize(
    # Five poor hours open it; then three are left, 86.25 %; then there are five again.
    ("closes", "opened"),
    [(87, 1), (86.26, 1), (86.25, 2)],
)
def test_fault_that_did_not_close_does_not_open_again(linked, closes, opened):
    took(poor(*range(50, 55), *range(76, 81)))

    assert openings(efficiency_closes_percent=closes) == opened


def test_what_was_low_before_the_week_opens_nothing(linked):
    took(poor(*range(-24, 100)))

    assert openings() == 0


def test_too_little_energy_opens_nothing():
    link_vehicle("V1", "M1", BEGIN)
    drew([0.08] * ALL_HOURS)  # 1.92 kWh in 24 hours
    took([0.04] * ALL_HOURS)

    assert openings() == 0


@pytest.mark.parametrize(
    # One reading an hour.
    ("cadence_seconds", "opened"),
    [(1800, 1), (1799, 0), (None, 1)],
)
@pytest.mark.parametrize("kind", [VehicleCadence, MeterCadence])
def test_low_coverage_opens_nothing(linked, kind, cadence_seconds, opened):
    took(poor(*range(50, 60)))
    device = {"vehicle_id": "V1"} if kind is VehicleCadence else {"meter_id": "M1"}
    kind.objects.create(**device, cadence_seconds=cadence_seconds, learned_at=NOON)

    assert openings() == opened


def test_ac_of_a_shared_meter_is_split_by_dc():
    link_vehicle("V1", "M1", BEGIN)
    link_vehicle("V2", "M1", BEGIN)
    drew([2.0] * ALL_HOURS)
    took([1.2 if n < 60 else 1.0 for n in range(ALL_HOURS)], "V1")
    took([0.6 if n < 60 else 0.4 for n in range(ALL_HOURS)], "V2")

    # Both are at 90 % of 2 kWh, then at 70 %.
    assert openings() == 2


def test_ac_that_nobody_took_is_split_equally():
    link_vehicle("V1", "M1", BEGIN)
    link_vehicle("V2", "M1", BEGIN)
    drew([2.0] * ALL_HOURS)
    took([0.9 if n < 60 or n > 69 else 0.0 for n in range(ALL_HOURS)], "V1")
    took([0.9 if n < 60 or n > 69 else 0.0 for n in range(ALL_HOURS)], "V2")

    assert openings() == 2


def test_hour_belongs_to_the_meter_linked_at_its_beginning():
    link_vehicle("V1", "M1", BEGIN)
    link_vehicle("V1", "M2", BEGIN + 100 * HOUR + timedelta(minutes=20))
    drew([1.0] * 101 + [9.0] * 91)
    drew([9.0] * 101 + [1.0] * 91, "M2")
    took(poor())

    assert openings() == 0


def test_counters_are_reckoned_by_their_steps():
    Meter.objects.create(meter_id="M1", energy_register="counter")
    Vehicle.objects.create(vehicle_id="V1", energy_register="counter")
    link_vehicle("V1", "M1", BEGIN)
    drew([100.0 + n for n in range(ALL_HOURS)])
    # 0.9 kWh each hour, then 0.6; it is reset to 0 after 150 hours.
    dc = [50 + 0.9 * min(n, 60) + 0.6 * max(n - 60, 0) for n in range(150)]
    took(dc + [0.9 * n for n in range(1, 43)])

    assert openings() == 1


def test_vehicle_without_a_link_is_left_out():
    drew([1.0] * ALL_HOURS)
    took(poor(*range(50, 100)))

    assert openings() == 0


# --- Standby loss -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    # 0.1 kWh an hour without DC: 2 kWh after twenty hours, 1.5 after fifteen.
    ("idle", "fields", "opened"),
    [
        (range(50, 74), {}, 1),
        (range(50, 74), {"standby_opens_kwh": 2.41}, 0),
        ([*range(50, 74), *range(90, 114)], {}, 2),  # it charged in between
        (range(-24, 168), {}, 0),  # since before the week
    ],
)
def test_standby_loss_opens_when_24_hours_draw_so_much_and_charge_nothing(idle, fields, opened):
    link_vehicle("V1", "M1", BEGIN)
    drew([0.1 if n - 24 in idle else 1.0 for n in range(ALL_HOURS)])
    took([0.0 if n - 24 in idle else GOOD for n in range(ALL_HOURS)])

    assert openings(FaultKind.STANDBY_LOSS, **fields) == opened


def test_standby_is_no_low_efficiency():
    link_vehicle("V1", "M1", BEGIN)
    drew([0.1] * ALL_HOURS)
    took([0.0] * ALL_HOURS)

    assert openings(FaultKind.LOW_EFFICIENCY, efficiency_opens_percent=100) == 0


def test_vehicle_that_does_not_report_has_no_standby_loss():
    link_vehicle("V1", "M1", BEGIN)
    drew([0.1] * ALL_HOURS)
    took([GOOD] * 20)

    assert openings(FaultKind.STANDBY_LOSS) == 0


# --- Hot battery ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    # 52 opens; 47 is still hot, where it closes below 45; 44 is not.
    ("closes", "opened"),
    [(45, 2), (48, 3), (40, 1)],
)
def test_hot_hours_in_a_row_are_one_fault(closes, opened):
    temperatures = [20, 52, 47, 51, 44, 52, 51]
    record(
        [
            VehicleReading(
                vehicle_id="V1",
                energy_dc_kwh=0,
                battery_temp_celsius=celsius + off,
                measured_at=at("02:00") + n * HOUR + timedelta(minutes=10 + off),
            )
            for n, celsius in enumerate(temperatures)
            for off in (-5, 5)  # on average as listed
        ],
        NOON,
    )
    hourly.roll_up()

    assert openings(FaultKind.HOT_BATTERY, battery_closes_celsius=closes) == opened
    assert openings(FaultKind.HOT_BATTERY, battery_opens_celsius=52) == 0


# --- Silence ----------------------------------------------------------------------------------


def reports(vehicle_id: str, *gaps: tuple[str, str], site: object = None) -> None:
    """Let a vehicle report every ten minutes since 04:00, but for `gaps`, ends left out."""
    VehicleFactory(vehicle_id=vehicle_id, site=site)
    VehicleCadence.objects.create(vehicle_id=vehicle_id, cadence_seconds=600, learned_at=NOON)
    moments = [at("04:00") + timedelta(minutes=10 * n) for n in range(48)]
    record(
        [
            VehicleReading(vehicle_id=vehicle_id, energy_dc_kwh=0.1, measured_at=moment)
            for moment in moments
            if not any(at(start) < moment < at(end) for start, end in gaps)
        ],
        NOON,
    )
    hourly.roll_up()


def silent(**fields: object) -> int:
    """Return how many faults of silent devices would have opened: after half an hour."""
    fields = {"silent_opens_cadences": 2, "silent_opens_minutes": 30} | fields
    return openings(FaultKind.SILENT, **fields)


def test_device_that_is_retired_opens_none():
    reports("V1", ("06:00", "09:00"))
    assert openings(FaultKind.SILENT) == 1
    Vehicle.objects.update(retired_at=at("11:00"))

    assert openings(FaultKind.SILENT) == 0


def test_device_that_reports_all_the_time_is_never_silent():
    reports("V1")

    assert silent() == 0


@pytest.mark.parametrize(("minutes", "opened"), [(119, 1), (120, 0)])
def test_silence_from_hour_to_hour_is_as_long_as_the_pause(minutes, opened):
    reports("V1", ("05:50", "07:50"))

    assert silent(silent_opens_minutes=minutes) == opened


@pytest.mark.parametrize(
    # From 05:00 to 05:50 there are two readings, at a cadence of ten minutes: forty are missing.
    ("minutes", "opened"),
    [(39, 1), (40, 0)],
)
def test_silence_within_an_hour_is_as_long_as_what_is_missing(minutes, opened):
    reports("V1", ("05:00", "05:50"))

    assert silent(silent_opens_minutes=minutes) == opened


@pytest.mark.parametrize(("cadences", "opened"), [(11.9, 1), (12, 0)])
def test_silence_is_measured_in_intervals_too(cadences, opened):
    reports("V1", ("05:50", "07:50"))

    assert silent(silent_opens_cadences=cadences) == opened


def test_every_silence_counts():
    reports("V1", ("05:50", "06:30"), ("07:50", "10:00"))

    assert silent() == 2


@pytest.mark.parametrize(
    # The first silence lasts forty minutes; a device may be silent for three times as long.
    ("back_at", "opened"),
    [("09:50", 1), ("10:00", 2)],
)
def test_silence_of_three_times_an_earlier_one_is_endured(back_at, opened):
    reports("V1", ("05:50", "06:30"), ("07:50", back_at))

    assert silent() == opened


def test_pause_of_more_than_two_weeks_before_is_forgotten():
    cadence = {"cadence_seconds": 3600, "learned_at": NOON}
    VehicleCadence.objects.create(vehicle_id="V1", **cadence)
    steady = [NOON - 400 * HOUR + n * HOUR for n in range(1, 400)]
    record(
        [
            VehicleReading(vehicle_id="V1", energy_dc_kwh=0.1, measured_at=moment)
            # Silent for 43 hours from 17 days before noon, and for 5 since 6 in the morning.
            for moment in (NOON - 443 * HOUR, *steady)
            if moment <= at("06:00")
        ],
        NOON,
    )
    hourly.roll_up()

    assert silent() == 1


def test_charger_that_reports_only_while_it_charges_is_not_silent_between():
    # From ten to twelve on each of the last thirty days but one: 22 hours, then 46.
    VehicleCadence.objects.create(vehicle_id="V1", cadence_seconds=600, learned_at=NOON)
    days = [NOON - timedelta(days=n) for n in range(1, 30) if n != 4]
    record(
        [
            VehicleReading(vehicle_id="V1", energy_dc_kwh=0.1, measured_at=day - n * HOUR / 6)
            for day in days
            for n in range(12)
        ],
        NOON,
    )
    hourly.roll_up()

    assert silent() == 0


def test_device_that_is_silent_to_this_moment_counts():
    reports("V1", ("09:50", "12:00"))

    assert silent() == 1


def test_hours_that_are_not_summed_up_yet_are_not_taken_for_a_silence(clock):
    reports("V1")
    clock.shift(timedelta(minutes=9))  # the hour from 11:00 may still wait to be summed up

    assert silent() == 0


def test_device_whose_cadence_is_not_known_is_left_out():
    reports("V1", ("05:50", "07:50"))
    VehicleCadence.objects.update(cadence_seconds=None)

    assert silent() == 0


def test_meters_are_silent_too():
    drew([1.0] * 20, begin=at("00:00") - 20 * HOUR)
    MeterCadence.objects.create(meter_id="M1", cadence_seconds=3600, learned_at=NOON)

    assert silent() == 1


@pytest.mark.parametrize(
    ("devices", "opened"),
    [(4, {"silent": 4, "site_silent": 0}), (5, {"silent": 0, "site_silent": 1})],
)
def test_many_silent_devices_of_a_site_are_one_fault(devices, opened):
    site = SiteFactory()
    for number in range(8):
        reports(f"V{number}", *[("05:50", "07:50")] * (number < devices), site=site)
    reports("NOWHERE")
    limits = {"silent_opens_cadences": 2, "silent_opens_minutes": 30}

    counted = faults_last_week(FaultThresholds(site_silent_devices=5, **limits))

    assert {kind: counted[kind] for kind in opened} == opened


def test_site_that_did_not_recover_does_not_open_again():
    site = SiteFactory()
    for number in range(6):
        # All six; then three, no less than half of five; then all six.
        gaps = [("05:50", "07:50"), ("09:50", "11:00")]
        gaps += [("07:40", "10:00")] * (number < 3)
        reports(f"V{number}", *gaps, site=site)
    limits = {"silent_opens_cadences": 2, "silent_opens_minutes": 30}

    assert openings(FaultKind.SITE_SILENT, site_silent_devices=5, **limits) == 1


# --- Whom thresholds are for ------------------------------------------------------------------


def test_thresholds_are_for_their_site_and_the_rest_for_all_others():
    own, other = SiteFactory(), SiteFactory()
    FaultThresholds.objects.create(site=own)
    reports("OWN", ("05:50", "07:50"), site=own)
    reports("OTHER1", ("05:50", "07:50"), site=other)
    reports("OTHER2", ("05:50", "07:50"), site=other)
    for number in range(3):
        reports(f"NOWHERE{number}", ("05:50", "07:50"))

    assert silent(site=own) == 1
    assert silent(site=other) == 2
    assert silent() == 5


def test_thresholds_elsewhere_are_the_defaults_unless_set():
    FaultThresholds.objects.create(site=SiteFactory(), battery_opens_celsius=1)
    assert thresholds.default_thresholds().battery_opens_celsius == 50

    FaultThresholds.objects.create(battery_opens_celsius=60)

    assert thresholds.default_thresholds().battery_opens_celsius == 60


@pytest.mark.parametrize("devices", [2, 12])
def test_count_costs_the_same_statements_however_many_devices(statements_sent, devices):
    for number in range(devices):
        reports(f"V{number}", ("05:50", "07:50"), site=SiteFactory())

    with statements_sent() as sent:
        assert silent() == devices

    # Sites; savepoint, memory, one for each estimator, release.
    assert sent == [4 + len({record.last_week for record in KINDS.values() if record.last_week})]
