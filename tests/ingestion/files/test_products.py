"""CSV exports of evcc, TeslaMate and Home Assistant, as these products write them."""

import pytest

from ingestion.files.formats import Unreadable
from tests.ingestion.files.sources import taken

# --- evcc ---------------------------------------------------------------------------------------

EVCC = (
    "\ufeffCreated,Finished,Charging point,Identifier,Vehicle,Mileage (km),Meter start (kWh),"
    "Meter stop (kWh),Energy (kWh),Duration,Solar (%),Price,Price/kWh,CO₂/kWh\n"
    "2026-06-13 18:00:00,2026-06-13 19:00:00,Carport,,Smart,,5369.7,5377.7,8,1h0m0s,97.8,2.3,0,3\n"
)
EVCC_GERMAN = (
    "\ufeffStartzeit;Endzeit;Ladepunkt;Kennung;Fahrzeug;Kilometerstand (km);"
    "Anfangszählerstand (kWh);Endzählerstand (kWh);Energie (kWh);Ladedauer;Sonne (%);Preis;"
    "Preis/kWh;CO₂/kWh\n"
    "2026-06-13 18:00:00;2026-06-13 19:00:00;Carport;;Smart;;5369,7;5377,7;8,4;1h0m0s;97,8;2,3;0;\n"
)
EVCC_FRENCH = (
    "\ufeffCréé,Terminé,Point de charge,Identifiant,Véhicule,Kilométrage (km),"
    "Début de compteur (kWh),Fin de compteur (kWh),Énergie (kWh),Durée\n"
    '2026-06-13 18:00:00,2026-06-13 19:00:00,Carport,,Smart,,"5369,7","5377,7","8,4",1h0m0s\n'
)


def test_session_of_evcc_is_spread_evenly_over_its_quarter_hours(tmp_path):
    """18:00 to 19:00 in Berlin is 16:00 to 17:00 UTC; 8 kWh are 2 a quarter."""
    result = taken(tmp_path / "a.csv", EVCC, tz="Europe/Berlin")

    assert result.readings == [
        ("Carport", "06-13 16:00", 0),
        ("Carport", "06-13 16:15", 2),
        ("Carport", "06-13 16:30", 2),
        ("Carport", "06-13 16:45", 2),
        ("Carport", "06-13 17:00", 2),
    ]
    assert result.registers == {"Carport": "interval"}


@pytest.mark.parametrize("content", [EVCC_GERMAN, EVCC_FRENCH])
def test_export_of_evcc_may_be_in_any_language(tmp_path, content):
    result = taken(tmp_path / "a.csv", content, tz="Europe/Berlin")

    assert [kwh for *_, kwh in result.readings] == [0, 2.1, 2.1, 2.1, 2.1]


def test_language_that_is_not_recognized_may_be_said_to_be_evcc(tmp_path):
    content = EVCC.replace("Created", "Luotu").replace("Charging point", "Latauspiste")
    result = taken(tmp_path / "a.csv", content, tz="UTC", format="evcc", meter="M1")

    assert result.readings[-1] == ("M1", "06-13 19:00", 2)


def test_open_session_is_skipped_and_a_backward_one_rejected(tmp_path):
    head, row = EVCC.splitlines()
    open_one = row.replace("2026-06-13 19:00:00", "", 1)
    backward = row.replace("2026-06-13 19:00:00", "2026-06-13 17:00:00", 1)
    without = row.replace(",8,1h", ",,1h")
    negative = row.replace(",8,1h", ",-8,1h")
    rows = [head, open_one, backward, without, negative]
    result = taken(tmp_path / "a.csv", "\n".join(rows), tz="UTC")

    assert result.readings == []
    assert result.notes == {
        "skipped: sessions that have not ended": 1,
        "skipped: sessions without energy": 1,
    }
    assert result.errors == [
        (3, "timestamp", "out_of_range"),
        (5, "kwhConsumedAc", "out_of_range"),
    ]


def test_evcc_needs_its_zone(tmp_path):
    with pytest.raises(Unreadable, match="say evcc's own with --tz"):
        taken(tmp_path / "a.csv", EVCC)
    with pytest.raises(Unreadable, match="not a sessions export of evcc"):
        taken(tmp_path / "a.csv", "a,b,c\n1,2,3\n", tz="UTC", format="evcc")


# --- TeslaMate ----------------------------------------------------------------------------------

CHARGES = """\
id,date,battery_heater_on,battery_level,charge_energy_added,charger_power,charging_process_id
1,2026-06-25 07:25:38.845,f,66,0.00,11,543
2,2026-06-25 07:35:38.845,f,,1.80,11,543
3,2026-06-25 07:56:24.62,f,77,5.34,0,543
"""
PROCESSES = """\
id,start_date,end_date,charge_energy_added,end_battery_level,car_id,charge_energy_used,cost
543,2026-06-25 07:00:00,2026-06-25 07:30:00,5.0,77,1,5.61,NULL
544,2026-06-26 07:00:00,2026-06-26 07:15:00,2.5,80,2,5.61,NULL
545,2026-06-27 07:00:00,NULL,NULL,NULL,1,NULL,NULL
"""


def test_charges_of_teslamate_are_a_session_counter_in_utc(tmp_path):
    result = taken(tmp_path / "charges.csv", CHARGES, vehicle="V1")

    assert result.readings == [
        ("V1", "06-25 07:25", 0),
        ("V1", "06-25 07:35", 1.8),
        ("V1", "06-25 07:56", 5.34),
    ]
    assert result.registers == {"V1": "session_counter"}


def test_charging_processes_of_teslamate_are_spread_evenly(tmp_path):
    content = PROCESSES
    result = taken(tmp_path / "a.csv", content, '[vehicles]\n"1" = "V1"\n"2" = "V2"\n')

    assert result.readings == [
        ("V1", "06-25 07:00", 0),
        ("V1", "06-25 07:15", 2.5),
        ("V1", "06-25 07:30", 2.5),
        ("V2", "06-26 07:00", 0),
        ("V2", "06-26 07:15", 2.5),
    ]
    assert result.notes == {"skipped: charges that have not ended": 1}


def test_teslamate_needs_to_know_whose_charges_they_are(tmp_path):
    with pytest.raises(Unreadable, match="--vehicle ID, and export one car at a time"):
        taken(tmp_path / "a.csv", CHARGES)
    with pytest.raises(Unreadable, match=r"or list the cars under \[vehicles\]"):
        taken(tmp_path / "a.csv", PROCESSES)
    with pytest.raises(Unreadable, match='not all of it is one vehicle: it has "1" and "2"'):
        taken(tmp_path / "a.csv", PROCESSES, vehicle="V1")


# --- Home Assistant -----------------------------------------------------------------------------

HISTORY = """\
entity_id,state,last_changed
sensor.wallbox_energy,18894.5,2026-06-28T22:00:00.000Z
sensor.wallbox_energy,unavailable,2026-06-28T22:30:00.000Z
sensor.wallbox_energy,unknown,2026-06-28T22:31:00.000Z
sensor.wallbox_energy,18896.0,2026-06-28T23:00:00.123Z
"""


def test_history_of_home_assistant_is_a_counter(tmp_path):
    result = taken(tmp_path / "history.csv", HISTORY)

    assert result.readings == [
        ("sensor.wallbox_energy", "06-28 22:00", 18894.5),
        ("sensor.wallbox_energy", "06-28 23:00", 18896),
    ]
    assert result.notes == {"skipped: states unavailable or unknown": 2}
    assert result.registers == {"sensor.wallbox_energy": "counter"}


def test_entity_may_be_any_device_in_any_unit_and_register(tmp_path):
    result = taken(tmp_path / "a.csv", HISTORY, vehicle="V1", unit="Wh", register="session_counter")

    assert result.readings[0] == ("V1", "06-28 22:00", 18.8945)
    assert result.registers == {"V1": "session_counter"}


def test_entities_that_measure_energy_must_be_listed_among_several(tmp_path):
    content = HISTORY + "sensor.temperature,21.5,2026-06-28T23:00:00.000Z\n"

    with pytest.raises(Unreadable, match=r'"sensor\.wallbox_energy" and "sensor\.temp'):
        taken(tmp_path / "a.csv", content)
    result = taken(tmp_path / "a.csv", content, '[meters]\n"sensor.wallbox_energy" = "M1"\n')
    assert [row[0] for row in result.readings] == ["M1", "M1"]
    assert result.notes["skipped: devices that the map does not list"] == 1


def test_state_that_is_no_number_is_rejected(tmp_path):
    content = "entity_id,state,last_changed\nsensor.a,charging,2026-06-28T23:00:00Z\n"
    result = taken(tmp_path / "a.csv", content)

    assert result.errors == [(2, "kwhConsumedAc", "wrong_type")]
    assert "is it an entity that measures energy?" in result.messages[0]


@pytest.mark.parametrize(
    ("columns", "values", "expected", "register"),
    [
        ("sum\tstate", "10.5\t1500", 1.5, "counter"),
        ("delta", "250", 0.25, "interval"),
    ],
)
def test_statistics_of_home_assistant_have_their_unit_and_the_start_of_the_hour(
    tmp_path, columns, values, expected, register
):
    """12:00 to 13:00 in Berlin ends at 11:00 UTC."""
    content = (
        f"statistic_id\tunit\tstart\t{columns}\n"
        f"sensor.a\tWh\t28.06.2026 12:00\t{values}\n"
        f"sensor.b\t°C\t28.06.2026 12:00\t{values}\n"
    )
    result = taken(tmp_path / "a.tsv", content, tz="Europe/Berlin")

    assert result.readings == [("sensor.a", "06-28 11:00", expected)]
    assert result.notes == {"skipped: units that are not of energy": 1}
    assert result.registers == {"sensor.a": register}


def test_statistics_need_a_zone_and_a_counter(tmp_path):
    head = "statistic_id,unit,start"

    with pytest.raises(Unreadable, match="say the one that they were exported with, with --tz"):
        taken(tmp_path / "a.csv", f"{head},state\n")
    with pytest.raises(Unreadable, match="neither state nor delta"):
        taken(tmp_path / "a.csv", f"{head},mean\n", tz="UTC")
