"""Hints: settings that must be wrong, what would mend them, and when a hint goes."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from analytics.alerting import faults
from analytics.figures import snapshot
from analytics.hints import hints
from analytics.hints.hints import SettingChanged, dismiss, follow, look
from analytics.hints.words import remedy, why
from analytics.models import Fault, Hint, MeterDay, VehicleDay
from fleet.models import Meter, Vehicle
from fleet.registers import register_changed
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.conftest import NOON, at, vehicle_reading
from tests.factories import MeterFactory, VehicleFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = 24 * HOUR


def charged(dc_kwh: float, ac_kwh: float, vehicle_id: str = "V1", **fields: object) -> None:
    """Let the snapshot say that a vehicle took so much DC at M1, which drew so much AC."""
    Vehicle.objects.get_or_create(vehicle_id=vehicle_id)
    Meter.objects.get_or_create(meter_id="M1")
    VehicleDay.objects.update_or_create(
        vehicle_id=vehicle_id,
        defaults={
            "ends_at": timezone.now(),
            "energy_ac_kwh": ac_kwh,
            "energy_dc_kwh": dc_kwh,
            "efficiency_percent": 100 * dc_kwh / ac_kwh,
            "vehicle_readings": 1440,
            "meter_readings": 96,
            "suspect_steps": 0,
            "ac_source": "linked",
            "health": "critical",
            "meter_id": "M1",
        }
        | fields,
    )


def reported(values: list[float], every: timedelta = HOUR, last_at: datetime = NOON) -> None:
    """Let M1 report `values`, the last one at noon."""
    record(
        [
            MeterReading(
                meter_id="M1",
                energy_ac_kwh=value,
                measured_at=last_at - (len(values) - 1 - n) * every,
            )
            for n, value in enumerate(values)
        ],
        timezone.now(),
    )


def found() -> list[tuple[str, str | None, str, object]]:
    """Return kind, device, field and proposal of each hint, after a look."""
    look()
    return [
        (hint.kind, hint.vehicle_id or hint.meter_id, hint.field, hint.proposal)
        for hint in Hint.objects.order_by("kind", "vehicle_id")
    ]


# --- Units ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dc_kwh", "ac_kwh", "device", "scale"),
    [
        (21.5, 23_889.0, "M1", 0.001),  # AC in Wh
        (0.0215, 23.889, "V1", 1000.0),  # DC in MWh
        (21_500.0, 23.889, "V1", 0.001),  # DC in Wh
        (21.5, 0.023889, "M1", 1000.0),  # AC in MWh
    ],
)
def test_ratio_of_a_thousandth_or_a_thousand_times_is_a_matter_of_unit(
    dc_kwh, ac_kwh, device, scale
):
    charged(dc_kwh, ac_kwh)

    assert found() == [("unit", device, "scale", scale)]


def test_unit_that_can_be_either_is_offered_for_both():
    charged(1.0, 1_111.0)  # 1 kWh of 1.1, or 1,000 of 1,111

    assert found() == [("unit", "V1", "scale", 1000.0), ("unit", "M1", "scale", 0.001)]
    told = {hint.vehicle_id or hint.meter_id: why(hint) for hint in Hint.objects.all()}
    assert told["M1"].endswith("Watt-hours? Or it is the vehicle V1: change only one of them.")
    assert told["V1"].endswith("Megawatt-hours? Or it is the meter M1: change only one of them.")


def test_hint_gives_its_numbers():
    charged(21.5, 23_889.0)
    look()

    hint = Hint.objects.get()
    assert why(hint) == (
        "DC is 0.09 % of AC over the last 24 hours: 21.5 kWh against 23,889 kWh. Watt-hours?"
    )
    assert remedy(hint) == "Set the scale to 0.001"


def test_scale_that_is_proposed_starts_from_the_present_one():
    MeterFactory(meter_id="M1", scale=40)
    charged(21.5, 23_889.0)

    assert found() == [("unit", "M1", "scale", 0.04)]


@pytest.mark.parametrize(
    ("dc_kwh", "ac_kwh", "fields"),
    [
        (20.0, 22.0, {}),
        (2.0, 22.0, {}),  # 9 %: poor, or a wrong link, but no unit
        (0.2, 22.0, {}),
        (0.0, 22.0, {}),
        (21.5, 23_889.0, {"ac_source": "fleet"}),
        (21.5, 23_889.0, {"ends_at": NOON - 8 * MINUTE}),
    ],
)
def test_other_ratios_are_no_matter_of_unit(dc_kwh, ac_kwh, fields):
    charged(dc_kwh, ac_kwh, **fields)

    assert found() == []


# --- Registers --------------------------------------------------------------------------------

COUNTER = [5000.0 + n // 2 for n in range(24)]


def test_values_that_never_fall_and_keep_rising_are_those_of_a_counter():
    reported(COUNTER)

    assert found() == [("register", "M1", "energy_register", "counter")]
    hint = Hint.objects.get()
    assert why(hint) == (
        "In 24 readings of the last 24 hours, the energy never fell, and rose 11 times, from "
        "5,000 kWh to 5,011 kWh. A counter, not the energy since the previous reading?"
    )
    assert remedy(hint) == "Set the register to counter"


def test_counter_of_a_vehicle_is_found_too():
    record(
        [
            VehicleReading(vehicle_id="V1", energy_dc_kwh=value, measured_at=NOON - n * HOUR)
            for n, value in enumerate(reversed(COUNTER))
        ],
        NOON,
    )

    assert found() == [("register", "V1", "energy_register", "counter")]


@pytest.mark.parametrize(
    "values",
    [
        [*COUNTER[:-2], 5009.0, 5011.0],  # it fell
        [0.0, *COUNTER[1:]],  # it was 0
        [5000.0] * 14 + [5000.0 + n for n in range(9)],  # it rose eight times
        COUNTER[-18:],  # it is too young
        [0.4] * 24,
    ],
)
def test_other_values_may_be_intervals(values):
    reported(values)

    assert found() == []


def test_reading_that_is_corrected_counts_as_it_is_now():
    reported([*COUNTER[:-1], 4000.0])
    assert found() == []

    reported([5011.0])

    assert found() == [("register", "M1", "energy_register", "counter")]


def test_device_that_is_a_counter_already_has_no_hint():
    MeterFactory(meter_id="M1", energy_register="counter")
    reported(COUNTER)

    assert found() == []


def test_ratio_of_a_device_with_a_wrong_register_says_nothing_of_units():
    reported(COUNTER)
    charged(21.5, 23_889.0)

    assert found() == [("register", "M1", "energy_register", "counter")]


# --- Powers -----------------------------------------------------------------------------------


def rose(kwh_a_minute: float, **fields: object) -> None:
    """Let the counter M1 rise each minute for an hour; the snapshot has left most of it out."""
    MeterFactory(meter_id="M1", energy_register="counter", **fields)
    reported([300_000.0] * 60 + [300_000.0 + kwh_a_minute * n for n in range(60)], MINUTE)
    snapshot.refresh()
    MeterDay.objects.update(suspect_steps=59)


def test_counter_in_watt_hours_is_left_out_and_has_a_hint():
    rose(500.0)  # 30,000 kW, or 30

    assert found() == [("unit", "M1", "scale", 0.001)]
    assert why(Hint.objects.get()) == (
        "59 of 59 steps in the last 24 hours are left out as suspect: half of them are above "
        "30,000 kW. Watt-hours?"
    )


def test_power_above_the_limit_of_a_device_is_a_matter_of_the_limit():
    rose(0.5, max_power_kw=11)  # 30 kW

    assert found() == [("power", "M1", "max_power_kw", 40.0)]
    hint = Hint.objects.get()
    assert why(hint) == (
        "59 of 59 steps in the last 24 hours are left out as suspect, above 11 kW: half of them "
        "are above 30 kW."
    )
    assert remedy(hint) == "Set the max power to 40 kW"


def test_few_suspect_steps_are_glitches():
    rose(500.0)
    MeterDay.objects.update(suspect_steps=9)

    assert found() == []


# --- Clocks -----------------------------------------------------------------------------------


def test_fault_of_a_clock_has_a_hint_with_the_offset():
    record([vehicle_reading("V1", "09:30")], at("09:30") + 3 * DAY)
    Vehicle.objects.update(clock_offset_seconds=60)
    clock = {"kind": "clock", "value": 72, "threshold": 24, "opened_at": NOON}
    Fault.objects.create(vehicle_id="V1", **clock)

    assert found() == [("clock", "V1", "clock_offset_seconds", 60 + 3 * 86_400)]
    hint = Hint.objects.get()
    assert "arrive 3 d 0 h 0 min after their timestamps" in why(hint)
    assert remedy(hint) == "Set the clock offset to 259,260 s"

    Fault.objects.update(state="closed")
    assert found() == []


# --- Faults -----------------------------------------------------------------------------------


def test_wrong_unit_is_no_low_efficiency():
    charged(21.5, 23_889.0, efficiency_percent=0.09)

    faults.watch()

    assert not Fault.objects.exists()


def test_wrong_register_is_no_low_efficiency_unless_its_hint_is_dismissed():
    reported(COUNTER)
    charged(20.0, 400.0, health="critical")
    look()
    faults.watch()
    assert not Fault.objects.exists()

    dismiss(Hint.objects.get().pk, None)
    faults.watch()

    assert Fault.objects.get().kind == "low_efficiency"


# --- Retired devices --------------------------------------------------------------------------

LATER = NOON + MINUTE


@pytest.mark.parametrize("model", [Meter, Vehicle])
@pytest.mark.parametrize(("retired_at", "hints"), [(NOON, 0), (LATER, 1)])
def test_pair_with_a_retired_device_has_no_hint_about_a_unit(model, retired_at, hints):
    charged(21.5, 23_889.0)
    model.objects.update(retired_at=retired_at)

    assert len(found()) == hints


@pytest.mark.parametrize(("retired_at", "hints"), [(NOON, 0), (LATER, 1)])
def test_retired_device_has_no_hint_about_its_register(retired_at, hints):
    reported(COUNTER)
    Meter.objects.update(retired_at=retired_at)

    assert len(found()) == hints


@pytest.mark.parametrize(("retired_at", "hints"), [(NOON, 0), (LATER, 1)])
def test_retired_device_has_no_hint_about_its_power(retired_at, hints):
    rose(0.5, max_power_kw=11)
    Meter.objects.update(retired_at=retired_at)

    assert len(found()) == hints


@pytest.mark.parametrize(("retired_at", "hints"), [(NOON, 0), (LATER, 1)])
def test_retired_device_has_no_hint_about_its_clock(retired_at, hints):
    record([vehicle_reading("V1", "09:30")], at("09:30") + 3 * DAY)
    Vehicle.objects.update(retired_at=retired_at)
    Fault.objects.create(vehicle_id="V1", kind="clock", value=72, threshold=24, opened_at=NOON)

    assert len(found()) == hints


def test_hint_goes_when_its_device_is_retired():
    charged(21.5, 23_889.0)
    assert len(found()) == 1
    Meter.objects.update(retired_at=NOON)

    assert found() == []


# --- Following and dismissing -----------------------------------------------------------------


def test_hint_that_is_followed_changes_the_setting_and_announces_it(
    django_capture_on_commit_callbacks,
):
    charged(21.5, 23_889.0)
    look()
    announced = []
    register_changed.connect(lambda **_: announced.append(True), dispatch_uid="t", weak=False)

    with django_capture_on_commit_callbacks(execute=True):
        done = follow(Hint.objects.get().pk)

    register_changed.disconnect(dispatch_uid="t")
    assert (done.device.pk, done.field, done.before, done.after) == ("M1", "scale", 1.0, 0.001)
    assert Meter.objects.get().scale == 0.001
    assert announced == [True]


def test_hint_that_was_followed_does_not_come_back_from_older_figures(clock):
    charged(21.5, 23_889.0)
    look()
    follow(Hint.objects.get().pk)
    assert [hint.followed_at for hint in Hint.objects.all()] == [NOON]

    look()  # the snapshot is still the one before
    assert Meter.objects.get().scale == 0.001
    assert Hint.objects.filter(followed_at=None).count() == 0

    clock.shift(61 * MINUTE)
    charged(21.5, 23.889)
    assert found() == []


def test_hint_is_not_followed_when_the_setting_has_changed():
    charged(21.5, 23_889.0)
    look()
    Meter.objects.update(scale=0.5)

    with pytest.raises(SettingChanged):
        follow(Hint.objects.get().pk)

    assert Meter.objects.get().scale == 0.5


def test_hint_goes_when_the_setting_has_changed():
    charged(21.5, 23_889.0)
    look()
    charged(21.5, 23.889)
    Meter.objects.update(scale=0.001)

    assert found() == []


def test_hint_goes_when_the_figures_are_plausible():
    charged(21.5, 23_889.0)
    look()
    charged(21.5, 23.889)

    assert found() == []


def test_hint_stays_while_nothing_refutes_it_for_a_week(clock):
    charged(21.5, 23_889.0)
    look()
    VehicleDay.objects.all().delete()
    clock.shift(7 * DAY - MINUTE)
    assert len(found()) == 1

    clock.shift(MINUTE)
    assert found() == []


def test_dismissed_hint_stays_dismissed_until_it_is_gone_once(clock):
    charged(21.5, 23_889.0)
    look()
    user = User.objects.create_user("ada")

    dismiss(Hint.objects.get().pk, user)
    clock.shift(HOUR)
    charged(21.6, 23_889.0)
    look()
    hint = Hint.objects.get()
    assert (hint.dismissed_at, hint.dismissed_by, hint.numbers["dc_kwh"]) == (NOON, user, 21.6)

    charged(21.6, 23.0)
    look()
    charged(21.6, 23_889.0)
    look()
    assert Hint.objects.get().dismissed_at is None


@pytest.mark.parametrize("vehicles", [2, 12])
def test_look_costs_the_same_statements_however_many_hints(statements_sent, vehicles):
    for number in range(vehicles):
        meter = MeterFactory()
        VehicleFactory(vehicle_id=f"X{number}")
        charged(21.5, 23_889.0, f"X{number}", meter_id=meter.pk)
    look()
    assert Hint.objects.count() == vehicles
    charged(21.5, 23.0, "X0", meter_id="M1")

    with statements_sent() as sent:
        hints.look()

    # Six statements look for evidence; transaction, hints, settings, days, gone, renewed.
    assert sent == [13]
