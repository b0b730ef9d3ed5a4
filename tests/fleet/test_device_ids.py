"""Ids as chargers, cars and spreadsheets have them pass every door of the engine."""

from html import unescape
from urllib.parse import quote

import pytest
from django.contrib.admin.utils import quote as admin_quote
from django.urls import reverse

from fleet.device_ids import are_device_ids
from tests.people import superuser

IDS = ["DE*8PY*E123*1", "a+b@c~d#e(f)=g:h.i_j-1", "AA:BB:CC:DD:EE:FF", "4103035.0", "1#2#3"]
DAY = "start=2026-07-14T12:00:00Z&end=2026-07-15T12:00:00Z"


@pytest.fixture(params=IDS)
def device(request, api) -> str:
    """A meter and a vehicle of one id, linked to each other, with a reading each."""
    device_id = request.param
    readings = [
        {"meterId": device_id, "kwhConsumedAc": 10, "timestamp": "2026-07-15T11:00:00Z"},
        {"vehicleId": device_id, "kwhDeliveredDc": 9, "timestamp": "2026-07-15T11:00:00Z"},
    ]
    assert api.post("/v1/ingest", readings).json()["accepted"] == 2
    link = {"vehicleId": device_id, "meterId": device_id, "validFrom": "2026-07-15T10:00:00Z"}
    assert api.put("/v1/links", link).status_code == 201
    return device_id


@pytest.mark.parametrize("safe", ["", ":*+@~()="], ids=["all escaped", "only # escaped"])
def test_paths_take_the_id(api, device, safe):
    path = quote(device, safe)

    assert api.get(f"/v1/status/meter/{path}").json()["meterId"] == device
    assert api.get(f"/v1/analytics/vehicle/{path}/live").json()["vehicleId"] == device
    for figure in ("", "/series", "/explain"):
        assert api.get(f"/v1/analytics/performance/{path}{figure}?{DAY}").status_code == 200
    assert api.get(f"/v1/analytics/performance/{path}").json()["efficiencyRatio"] == 90
    assert api.delete(f"/v1/links/{path}").json()["meterId"] == device


def test_filters_take_the_id(api, device):
    query = quote(device, "")

    assert len(api.get(f"/v1/links?vehicleId={query}&meterId={query}").json()["results"]) == 1
    assert api.get(f"/v1/faults?vehicleId={query}").json()["results"] == []


@pytest.mark.parametrize("kind", ["meter", "vehicle"])
def test_console_addresses_lead_to_the_device(api, device, kind):
    client = superuser()
    listed = unescape(client.get(reverse(f"admin:fleet_{kind}_changelist")).content.decode())
    page = reverse(f"admin:fleet_{kind}_change", args=[admin_quote(device)])

    assert f"{page}?" in listed or f'{page}"' in listed
    content = client.get(page)
    assert content.status_code == 200
    assert device in unescape(content.content.decode())
    figures = reverse(f"admin:fleet_{kind}_figures", args=[admin_quote(device)])
    assert client.get(f"{figures}?range=7d").status_code == 200
    found = client.get(reverse(f"admin:fleet_{kind}_changelist"), {"q": device})
    assert device in unescape(found.content.decode())


def test_console_names_an_address_of_the_api_that_works(api, device):
    client = superuser()
    why = reverse("admin:fleet_vehicle_why", args=[admin_quote(device)])
    content = unescape(client.get(f"{why}?{DAY}").content.decode())

    path = f"/v1/analytics/performance/{quote(device, ':')}/explain?"
    assert path in content
    assert api.get(f"{path}{DAY}").json()["figure"]["vehicleId"] == device


@pytest.mark.parametrize("sign", " /\\?%&,;'\"<>|^`{}[]!$\n\r\t\0é")
def test_what_would_break_a_path_a_line_or_a_cell_stays_out(sign):
    assert not are_device_ids([f"A{sign}B"])


@pytest.mark.parametrize("sign", ".:-*+@~#()=")
def test_no_id_begins_with_a_sign(sign):
    assert are_device_ids([f"A{sign}"])
    assert not are_device_ids([f"{sign}A"])
