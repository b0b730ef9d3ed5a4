"""Coverage by energy, and why health is unknown: every example of the rules, and their limits.

From history and from hourly sums. Those marked "reported" are from public bug reports of other
products, with other numbers.
"""

import pytest

from analytics.alerting.faults import watch
from analytics.figures import snapshot
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences, learn_pauses
from tests.analytics.figures.field import DAY, HOUR, MINUTE, Field, every
from tests.conftest import NOON, at

MIDNIGHT = at("00:00")
FIVE_DAYS = (MIDNIGHT - 4 * DAY, NOON)
MORNING = (at("08:00"), at("10:00"))


def coverage(figure: dict) -> tuple[float | None, float | None]:
    return figure["coverage"]["vehicle"], figure["coverage"]["meter"]


def verdict(figure: dict) -> tuple[str, str | None]:
    return figure["health"], figure["reason"]


def watched(field: Field) -> set[str]:
    """Return the kinds of the faults that are open once the engine has looked at its devices."""
    hourly.roll_up()
    learn_cadences()
    learn_pauses()
    snapshot.refresh()
    watch()
    return {kind for kind, _ in field.open_faults()}


# --- Examples of the rules --------------------------------------------------------------------


def charge_each_morning(field: Field, dc_kwh: float) -> None:
    """Let V1 charge from 08:00 to 10:00 on five days; neither device reports at other times."""
    field.link("V1", "M1", FIVE_DAYS[0])
    for day in range(5):
        start, end = (time - day * DAY for time in MORNING)
        field.delivers("M1", every(MINUTE, start, end, 0.12))
        field.delivers("V1", every(MINUTE, start, end, dc_kwh))
    learn_cadences()


def test_charger_that_reports_only_while_it_charges_is_healthy(field):  # reported
    charge_each_morning(field, dc_kwh=0.108)

    figure = field.figure("V1", *FIVE_DAYS)

    assert figure["efficiencyRatio"] == 90.0
    assert coverage(figure) == (1.0, 1.0)
    assert verdict(figure) == ("healthy", None)
    assert watched(field) == set()


def test_fault_of_a_charger_that_reports_only_while_it_charges_opens(field):  # reported
    charge_each_morning(field, dc_kwh=0.072)

    figure = field.figure("V1", *FIVE_DAYS)

    assert figure["efficiencyRatio"] == 60.0
    assert coverage(figure) == (1.0, 1.0)
    assert verdict(figure) == ("critical", None)
    assert watched(field) == {"low_efficiency"}


def test_device_is_silent_after_three_times_its_longest_pause(field, clock):
    charge_each_morning(field, dc_kwh=0.108)
    longest = 22 * HOUR + MINUTE  # from 10:00 to 08:01

    for hours in (1, 12, 21, 40, 66):
        clock.move_to(NOON + hours * HOUR)
        assert watched(field) == set()

    clock.move_to(NOON + 3 * longest - MINUTE)
    assert watched(field) == set()
    clock.move_to(NOON + 3 * longest + MINUTE)
    assert watched(field) == {"silent"}


@pytest.mark.parametrize(
    ("ac_kwh", "faults"),
    [
        (0.05, {"standby_loss"}),  # 4.8 kWh a day
        (0.022, {"standby_loss"}),  # 2.112
        (0.02, set()),  # 1.92
    ],
)
def test_idle_load_says_nothing_of_efficiency_but_is_a_loss(field, ac_kwh, faults):  # reported
    day = (NOON - DAY, NOON)
    field.link("V1", "M1", NOON - 2 * DAY)
    quarter = 15 * MINUTE
    # One reading more on either side: the engine may look some minutes later.
    field.delivers("M1", every(quarter, day[0] - quarter, day[1], ac_kwh, first_kwh=ac_kwh))
    field.delivers("V1", every(quarter, day[0] - quarter, day[1], 0.0, first_kwh=0.0))

    figure = field.figure("V1", *day)

    assert figure["energyConsumedAc"] == pytest.approx(96 * ac_kwh, abs=1e-9)
    assert verdict(figure) == ("unknown", "not_charging")
    assert watched(field) == faults


# --- Coverage of the vehicle ------------------------------------------------------------------


def test_vehicle_that_is_silent_while_energy_flows_is_covered_in_part(field):
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(MINUTE, *MORNING, 0.12, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, at("08:00"), at("09:00"), 0.1, first_kwh=0.0))

    assert coverage(field.figure("V1", *MORNING)) == (0.5, 1.0)
    assert coverage(field.figure("V1", at("08:00"), at("09:00"))) == (1.0, 1.0)


def test_coverage_weighs_energy_and_not_time(field):
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(MINUTE, at("08:00"), at("09:00"), 0.03, first_kwh=0.0))
    field.delivers("M1", every(MINUTE, at("09:00"), at("10:00"), 0.12))
    field.delivers("V1", every(MINUTE, at("09:00"), at("10:00"), 0.1, first_kwh=0.0))

    assert coverage(field.figure("V1", *MORNING)) == (0.8, 1.0)


def test_silence_while_no_energy_flows_is_covered(field):
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(MINUTE, at("08:00"), at("09:00"), 0.12, first_kwh=0.0))
    field.delivers("M1", every(MINUTE, at("09:00"), at("10:00"), 0.0))
    field.delivers("V1", every(MINUTE, at("08:00"), at("09:00"), 0.1, first_kwh=0.0))

    figure = field.figure("V1", *MORNING)

    assert coverage(figure) == (1.0, 1.0)
    assert verdict(figure) == ("degraded", None)


def test_counter_that_reports_three_times_a_day_is_covered(field):
    field.device("V1", energy_register="counter")
    field.link("V1", "M1", FIVE_DAYS[0])
    times = [FIVE_DAYS[0] + n * 8 * HOUR for n in range(14)]
    field.delivers("V1", [(time, 7.2 * n) for n, time in enumerate(times)])
    field.delivers("M1", every(HOUR, times[0], times[-1], 1.0, first_kwh=0.0))

    figure = field.figure("V1", times[0], times[-1])

    assert coverage(figure) == (1.0, 1.0)
    assert verdict(figure) == ("healthy", None)


@pytest.mark.parametrize(
    ("end", "part"), [("09:00", 1.0), ("10:00", 0.5), ("10:50", 0.353), ("11:00", 0.333)]
)
def test_silence_that_the_window_ends_in_is_not_covered(field, end, part):
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(HOUR, at("07:00"), at("11:00"), 8.0, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, at("07:00"), at("09:00"), 0.12, first_kwh=0.0))

    # 8 kWh of 8, 16, 22.67 and 24.
    assert coverage(field.figure("V1", at("08:00"), at(end)))[0] == part


def test_silence_within_a_long_step_of_the_meter_is_not_covered(field):
    field.device("M1", energy_register="counter")
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", [(at("06:00"), 100.0), (at("11:00"), 120.0)])
    field.delivers("V1", every(MINUTE, at("06:00"), at("09:00"), 0.06, first_kwh=0.0))

    assert coverage(field.figure("V1", at("06:00"), at("10:00")))[0] == 0.75
    assert coverage(field.figure("V1", at("06:00"), at("12:00")))[0] == 0.6


@pytest.mark.parametrize(("readings", "expected"), [(9, None), (10, 0.15)])
def test_device_with_few_readings_in_the_window_is_judged_without_coverage(
    field, readings, expected
):
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(MINUTE, at("08:00"), at("09:00"), 0.12, first_kwh=0.0))
    last = at("08:00") + (readings - 1) * MINUTE
    field.delivers("V1", every(MINUTE, at("08:00"), last, 0.8, first_kwh=0.0))

    figure = field.figure("V1", at("08:00"), at("09:00"))

    assert coverage(figure) == (expected, 1.0)
    assert verdict(figure) == (
        ("healthy", None) if expected is None else ("unknown", "low_coverage")
    )


# --- Coverage of the meter --------------------------------------------------------------------


def test_meter_that_is_silent_while_the_vehicle_takes_energy_is_covered_in_part(field):
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(MINUTE, at("09:00"), at("10:00"), 0.12, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, at("08:00"), at("09:00"), 0.15, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, at("09:00"), at("10:00"), 0.1))

    figure = field.figure("V1", *MORNING)

    assert coverage(figure) == (1.0, 0.4)
    assert verdict(figure) == ("unknown", "low_coverage")


def test_silence_of_a_meter_is_not_covered_whatever_links_cut_it(field):
    field.link("V1", "M1", MIDNIGHT)
    field.link("V2", "M1", at("08:10"), at("09:20"))
    field.delivers("M1", every(MINUTE, at("08:00"), at("09:00"), 0.12, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, *MORNING, 0.1, first_kwh=0.0))

    assert coverage(field.figure("V1", at("08:00"), at("09:30")))[1] == 0.667
    assert coverage(field.figure("V1", *MORNING))[1] == 0.5


LEFT_OUT = [("session_counter", 50.0), ("counter", 4096.0), ("interval", 4096.0)]


@pytest.mark.parametrize(("register", "value"), LEFT_OUT)
def test_device_whose_step_is_left_out_did_report(field, register, value):
    field.device("M1", energy_register=register, max_power_kw=11.0)
    field.link("V1", "M1", MIDNIGHT)
    hour = every(MINUTE, at("08:00"), at("09:00"), 0.12, first_kwh=0.0)
    if register != "interval":
        hour = ((time, 100 + 0.12 * number) for number, (time, _) in enumerate(hour))
    field.delivers("M1", [*hour, (at("10:00"), value)])
    field.delivers("V1", every(MINUTE, *MORNING, 0.1, first_kwh=0.0))

    figure = field.figure("V1", at("08:00"), at("10:01"))

    assert figure["suspectSteps"] == 1
    assert coverage(figure)[1] == (0.5 if register == "counter" else 1.0)


def test_dc_outside_the_links_does_not_count_for_the_meter(field):
    field.link("V1", "M1", at("09:00"), at("10:00"))
    field.delivers("M1", every(MINUTE, at("09:00"), at("10:00"), 0.12, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, *MORNING, 0.1, first_kwh=0.0))

    assert coverage(field.figure("V1", *MORNING)) == (1.0, 1.0)


def test_devices_without_a_link_have_nothing_to_weigh(field):
    field.delivers("M1", every(MINUTE, *MORNING, 0.12, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, *MORNING, 0.1, first_kwh=0.0))

    figure = field.figure("V1", *MORNING)

    assert (figure["acSource"], coverage(figure)) == ("fleet", (None, None))


# --- Reasons ----------------------------------------------------------------------------------


def charge(field: Field, ac_kwh: float | None, dc_kwh: float | None) -> tuple[str, str | None]:
    """Return the verdict on an hour in which either device took this much; None: it was silent."""
    field.link("V1", "M1", MIDNIGHT)
    for device_id, kwh in (("M1", ac_kwh), ("V1", dc_kwh)):
        if kwh is not None:
            hour = every(MINUTE, at("08:00"), at("09:00"), kwh / 60, first_kwh=0.0)
            field.delivers(device_id, hour)
    field.device("V1")
    return verdict(field.figure("V1", at("08:00"), at("09:00")))


@pytest.mark.parametrize(
    ("ac_kwh", "dc_kwh", "reason"),
    [
        (None, 6.0, "no_ac"),
        (0.0, 0.0, "no_ac"),
        (7.2, 0.0, "not_charging"),
        (0.6, 0.0, "not_charging"),  # also too little energy
        (1.8, 1.2, "too_little_energy"),
        (1.8, None, "too_little_energy"),  # also without a report of the vehicle
        (7.2, None, "low_coverage"),
        (7.2, 6.0, None),
    ],
)
def test_reasons_have_an_order(field, ac_kwh, dc_kwh, reason):
    assert charge(field, ac_kwh, dc_kwh) == ("unknown" if reason else "degraded", reason)


def test_vehicle_that_reports_before_and_after_but_not_while_energy_flows_is_not_covered(field):
    field.device("V1", interval_seconds=60.0)
    field.link("V1", "M1", MIDNIGHT)
    field.delivers("M1", every(MINUTE, at("08:00"), at("09:00"), 0.12, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, at("07:00"), at("08:00"), 0.0, first_kwh=0.0))
    field.delivers("V1", every(MINUTE, at("09:01"), at("10:00"), 0.0, first_kwh=0.0))

    figure = field.figure("V1", at("07:00"), at("10:00"))

    assert coverage(figure)[0] == 0.0
    assert verdict(figure)[0] == "unknown"
