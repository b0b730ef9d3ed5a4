"""What a device may be called, whichever way it is set."""

import pytest
from django.core.exceptions import ValidationError
from django.forms import modelform_factory

from fleet.models import Meter, Vehicle

pytestmark = pytest.mark.django_db


def problems(device: Meter | Vehicle) -> dict[str, list[str]]:
    """Return what is wrong with each field."""
    try:
        device.full_clean()
    except ValidationError as error:
        return error.message_dict
    return {}


@pytest.mark.parametrize(
    "external_id", ["DE*8PY*E123*1", "SN 47/11", "Zähler 7", "x" * 200, "M1", "=1+1", None]
)
def test_external_id_may_be_any_text(external_id):
    Vehicle.objects.create(vehicle_id="DE*8PY*E123*1", external_id=external_id)

    assert problems(Meter(meter_id="M1", external_id=external_id)) == {}


@pytest.mark.parametrize("external_id", ["x" * 201, "line\nbreak", "N\0L", "\x1b[31m"], ids=ascii)
def test_external_id_is_one_short_line(external_id):
    assert problems(Meter(meter_id="M1", external_id=external_id)).keys() == {"external_id"}


def test_empty_external_id_is_none_and_any_number_of_devices_have_it():
    Meter.objects.create(meter_id="M1")
    meter = Meter(meter_id="M2", external_id="")

    assert problems(meter) == {}
    assert meter.external_id is None


def test_external_id_is_of_one_device_of_its_kind():
    Meter.objects.create(meter_id="M1", external_id="X")

    found = problems(Meter(meter_id="M2", external_id="X"))
    assert found == {"external_id": ["Meter with this External id already exists."]}
    assert problems(Vehicle(vehicle_id="V2", external_id="X")) == {}


def test_external_id_is_not_the_id_of_another_device():
    Meter.objects.create(meter_id="M1")

    found = problems(Meter(meter_id="M2", external_id="M1"))
    assert found == {"external_id": ["This is the id of another meter."]}
    assert problems(Vehicle(vehicle_id="V2", external_id="M1")) == {}


def test_new_device_does_not_take_the_external_id_of_another_one_for_its_id():
    Vehicle.objects.create(vehicle_id="V1", external_id="V2")

    found = problems(Vehicle(vehicle_id="V2"))
    assert found == {"vehicle_id": ["This is the external id of another vehicle."]}


@pytest.mark.parametrize("ignore", [True, False])
def test_case_of_an_external_id_distinguishes_unless_the_setting_ignores_it(settings, ignore):
    settings.EXTERNAL_IDS_IGNORE_CASE = ignore
    Meter.objects.create(meter_id="M1", external_id="SN-a")

    found = problems(Meter(meter_id="M2", external_id="sn-A"))
    message = "Another meter has this external id, but for its case."
    assert found == ({"external_id": [message]} if ignore else {})
    assert problems(Meter.objects.get()) == {}


def test_form_without_the_external_id_does_not_judge_it():
    Meter.objects.create(meter_id="M1", external_id="M2")
    Meter.objects.create(meter_id="M2")
    form = modelform_factory(Meter, fields=["site"])({"site": ""}, instance=Meter.objects.first())

    assert form.is_valid()
