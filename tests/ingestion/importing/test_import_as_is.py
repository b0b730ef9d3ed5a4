"""`manage.py import_readings` with files as they are: dry run, summary, status, registers."""

import csv
import json
import zipfile
from io import StringIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from fleet.models import Meter, Vehicle
from ingestion.external_ids import external_ids
from ingestion.files import reading
from ingestion.management.commands import import_readings
from ingestion.models import MeterReading, VehicleReading
from tests.conftest import NOON
from tests.ingestion.files.test_nem12 import day, nem12, stream
from tests.ingestion.files.test_products import CHARGES, EVCC, HISTORY
from tests.ingestion.files.test_table import GERMAN, GERMAN_MAP

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]

TIME = "2026-07-01T00:00:00Z"


def run(*arguments: object) -> str:
    printed = StringIO()
    call_command("import_readings", *map(str, arguments), stdout=printed)
    return printed.getvalue()


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- Options and maps ---------------------------------------------------------------------------


def test_map_and_options_reach_the_file(tmp_path):
    path = written(tmp_path / "day.csv", GERMAN.encode("cp1252"))
    told = written(tmp_path / "map.toml", GERMAN_MAP)

    run(path, "--map", told, "--encoding", "cp1252", "--column", "voltage=Verbrauch [Wh]")

    rows = MeterReading.objects.values_list("meter_id", "energy_ac_kwh", "voltage_v")
    assert list(rows) == [("4103035", 1.2505, 1250.5), ("4103035", 0.8, 800)]


@pytest.mark.parametrize("option", ["timestamp", "=Time", "timestamp="])
def test_column_must_have_a_field_and_a_name(tmp_path, option):
    with pytest.raises(CommandError, match="--column"):
        run(written(tmp_path / "a.csv", HISTORY), "--column", option)


def test_map_with_an_unknown_key_fails_the_command(tmp_path):
    path = written(tmp_path / "a.csv", HISTORY)

    with pytest.raises(CommandError, match="unknown key unti; the keys are"):
        run(path, "--map", written(tmp_path / "map.toml", 'unti = "Wh"'))
    with pytest.raises(CommandError, match="No such file"):
        run(path, "--map", tmp_path / "none.toml")


# --- Dry run ------------------------------------------------------------------------------------


def test_dry_run_prints_the_first_readings_and_stores_nothing(tmp_path):
    path = written(tmp_path / "a.csv", GERMAN + "4103035;x;;1;\n")
    told = written(tmp_path / "map.toml", GERMAN_MAP)

    printed = run(path, "--map", told, "--dry-run")

    assert printed == (
        f"{path}: 2 readings would be imported, 1 not\n"
        "  line 2: meter 4103035 at 2026-06-30T22:15:00Z: 1.2505 kWh AC, 231.4 V\n"
        "  line 3: meter 4103035 at 2026-07-01T22:00:00Z: 0.8 kWh AC\n"
        "  of 1 meter, 2026-06-30T22:15:00Z to 2026-07-01T22:00:00Z\n"
        "  1: timestamp: the time is not of the form %d.%m.%Y %H:%M (first in line 4)\n"
    )
    assert not MeterReading.objects.exists()
    assert not Meter.objects.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "map.toml"]


@pytest.mark.parametrize("option", [["--dry-run"], ["--unit", "Wh"], ["--column", "soc=SoC"]])
def test_archive_is_restored_as_it_was_or_not_at_all(tmp_path, option):
    with pytest.raises(CommandError, match=f"--archived excludes {option[0]}"):
        run(tmp_path / "a.parquet", "--archived", *option)


def test_dry_run_shows_ten_readings_of_any_format(tmp_path):
    lines = [
        {
            "vehicleId": f"V{n}",
            "kwhDeliveredDc": n,
            "soc": 50,
            "batteryTemp": 31.5,
            "timestamp": TIME,
        }
        for n in range(12)
    ]
    path = written(tmp_path / "a.ndjson", "".join(json.dumps(line) + "\n" for line in lines))

    printed = run(path, "--dry-run")

    assert printed.count("vehicle V") == 10
    assert f"line 2: vehicle V1 at {TIME}: 1 kWh DC, 50 % charged, 31.5 °C" in printed


def test_dry_run_of_nothing_but_bad_lines_fails(tmp_path):
    path = written(tmp_path / "a.csv", f"meterId;timestamp;kwhConsumedAc\nM1;{TIME};x\n")

    with pytest.raises(CommandError, match="every line was rejected"):
        run(path, "--dry-run")


# --- Summary and status -------------------------------------------------------------------------


def test_summary_says_whose_readings_from_when_and_what_was_left_out(tmp_path):
    content = nem12(stream(), day(), day("20260602", count=47), stream("B1"), day())
    path = written(tmp_path / "a.csv", content)

    _, *lines = run(path).splitlines()

    assert lines == [
        "  of 1 meter, 2026-05-31T14:30:00Z to 2026-06-01T14:00:00Z",
        "  1 skipped: days of registers other than of consumption (suffix E)",
        f"  1 lines rejected; see {path}.rejected.csv for the reasons",
        "    1: record 300: it has 47 values; the interval length of record 200 needs 48 (first in "
        "line 4)",
    ]


def test_many_reasons_are_summed_up(tmp_path):
    cells = ",".join(f"0x{n}" for n in range(48))
    content = nem12(stream(), f"300,20260601,{cells},A,,,,", day("20260602"))

    printed = run(written(tmp_path / "a.csv", content))

    assert printed.count("of interval") == 20
    assert "28: kwhConsumedAc: wrong_type (first in line 3)" in printed


def test_file_whose_every_line_was_rejected_fails_the_command_after_the_others(tmp_path):
    head = "meterId,timestamp,kwhConsumedAc\n"
    bad = written(tmp_path / "bad.csv", f"{head}M1,yesterday,1\n")
    good = written(tmp_path / "good.csv", f"{head}M2,{TIME},1\n")

    with pytest.raises(CommandError, match=r"bad\.csv: every line was rejected$"):
        run(bad, good)
    assert [row.meter_id for row in MeterReading.objects.all()] == ["M2"]


def test_file_with_nothing_to_take_is_no_error(tmp_path):
    content = "entity_id,state,last_changed\nsensor.a,unavailable,2026-07-01T00:00:00Z\n"

    printed = run(written(tmp_path / "a.csv", content))

    assert "0 readings" in printed
    assert "1 skipped: states unavailable or unknown" in printed


def test_names_of_the_map_that_the_file_lacks_are_told(tmp_path):
    told = written(tmp_path / "map.toml", '[meters]\n"sensor.wallbx_energy" = "M1"\n')

    printed = run(written(tmp_path / "a.csv", HISTORY), "--map", told)

    assert (
        'Note: the map lists "sensor.wallbx_energy", which the file does not have; it has '
        '"sensor.wallbox_energy", which the map does not list' in printed
    )


def test_report_of_a_zip_names_the_file_in_it(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as target:
        for name in ("one.csv", "two.csv"):
            target.writestr(name, f"meterId;timestamp;kwhConsumedAc\nM1;{TIME};1\nM1;{TIME};x\n")

    run(path)

    with Path(f"{path}.rejected.csv").open(newline="") as report:
        rows = [(row["file"], row["line"], row["field"]) for row in csv.DictReader(report)]
    assert rows == [("one.csv", "3", "kwhConsumedAc"), ("two.csv", "3", "kwhConsumedAc")]


# --- Broken off ---------------------------------------------------------------------------------


def test_import_with_a_map_continues_and_with_another_one_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_LINES", 1)
    monkeypatch.setattr(import_readings, "BLOCKS_AHEAD", 0)
    rows = "".join(f"M{n};{TIME};1000\n" for n in range(1, 5))
    path = written(tmp_path / "a.csv", f"meterId;timestamp;kwhConsumedAc\n{rows}")
    record = import_readings.record_known

    def fails_at_the_third(part, received_at):
        if any(reading.meter_id == "M3" for reading in part.readings):
            raise KeyboardInterrupt
        record(part, received_at)

    def broken_off() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(import_readings, "record_known", fails_at_the_third)
            with pytest.raises(CommandError, match=r"Stopped; .* up to line 3"):
                run(path, "--unit", "Wh")

    broken_off()
    printed = run(path, "--unit", "Wh")
    assert "4 readings" in printed
    assert "continued after line 3" in printed
    assert MeterReading.objects.count() == 4

    broken_off()
    assert "continued" not in run(path, "--unit", "kWh")
    assert MeterReading.objects.filter(energy_ac_kwh=1000).count() == 4


# --- Ids from spreadsheets ----------------------------------------------------------------------


@pytest.mark.parametrize("id_", ["4103035.0", "12.000", "4.103035E06"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_id_that_was_a_number_for_a_while_is_refused(tmp_path, id_, separator):
    content = f"meterId,timestamp,kwhConsumedAc\n{id_},{TIME},1\n4103035,{TIME},2\n"
    path = written(tmp_path / "a.csv", content.replace(",", separator))

    printed = run(path)

    assert [row.meter_id for row in MeterReading.objects.all()] == ["4103035"]
    assert "meterId was written as a number, as spreadsheets and pandas do" in printed
    assert id_ not in printed


def test_ids_of_parquet_may_be_whole_numbers(tmp_path):
    path = tmp_path / "a.parquet"
    table = {"vehicleId": [4103035.0, 7.0], "kwhDeliveredDc": [1.0, 1.0], "timestamp": [TIME] * 2}
    pyarrow.parquet.write_table(pyarrow.table(table), path)

    # Parquet writes whole numbers without .0, so no digit is lost.
    run(path)

    assert sorted(row.vehicle_id for row in VehicleReading.objects.all()) == ["4103035", "7"]


@pytest.mark.parametrize("id_", ["12E4", "4103035.5", "1.0.0", "v1.0", "0012E4"])
def test_id_that_is_like_a_number_only_at_first_sight_is_taken(tmp_path, id_):
    run(written(tmp_path / "a.csv", f"meterId,timestamp,kwhConsumedAc\n{id_},{TIME},1\n"))

    assert MeterReading.objects.get().meter_id == id_


def test_device_that_is_registered_under_such_an_id_keeps_it(tmp_path):
    Meter.objects.create(meter_id="4103035.0", registered_at=NOON)
    run(written(tmp_path / "a.csv", f"meterId,timestamp,kwhConsumedAc\n4103035.0,{TIME},1\n"))

    assert MeterReading.objects.get().meter_id == "4103035.0"


# --- Registers and figures ----------------------------------------------------------------------


def energy_of(api, vehicle_id: str, hours: str = "T00:00:00Z", until: str = "T23:59:59Z") -> float:
    window = f"start=2026-06-25{hours}&end=2026-06-25{until}"
    return api.get(f"/v1/analytics/performance/{vehicle_id}?{window}").json()["energyDeliveredDc"]


def test_new_device_gets_the_register_of_its_values_and_figures_are_right(tmp_path, api):
    run(written(tmp_path / "a.csv", CHARGES), "--vehicle", "V1")

    assert Vehicle.objects.get(pk="V1").energy_register == "session_counter"
    assert energy_of(api, "V1") == 5.34


def test_register_of_a_known_device_is_left_alone_and_told(tmp_path):
    Vehicle.objects.create(vehicle_id="V1", registered_at=NOON)

    printed = run(written(tmp_path / "a.csv", CHARGES), "--vehicle", "V1")

    assert Vehicle.objects.get(pk="V1").energy_register == "interval"
    assert (
        "Note: V1: registered as an interval register, but the values in the file are of a session "
        "counter: change the energy register" in printed
    )
    Vehicle.objects.update(energy_register="session_counter")
    assert "Note" not in run(tmp_path / "a.csv", "--vehicle", "V1")


def test_register_may_be_said_of_any_csv(tmp_path):
    content = f"meterId;timestamp;kwhConsumedAc\nM1;{TIME};5000\n"

    run(written(tmp_path / "a.csv", content), "--register", "counter")

    assert Meter.objects.get(pk="M1").energy_register == "counter"


def test_devices_that_are_refused_get_no_register(tmp_path, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"

    with pytest.raises(CommandError, match="every line was rejected"):
        run(written(tmp_path / "a.csv", CHARGES), "--vehicle", "V1")
    assert not Vehicle.objects.exists()


def test_sessions_that_follow_each_other_keep_all_their_energy(tmp_path):
    """One ends in the very second in which the next begins; both have 8 kWh, and count once."""
    head, row = EVCC.splitlines()
    following = row.replace("19:00:00", "19:40:00").replace("18:00:00", "19:00:00")
    path = written(tmp_path / "a.csv", "\n".join([head, following, row]))

    run(path, "--tz", "UTC")
    run(path, "--tz", "UTC")

    counted = dict(
        MeterReading.objects.order_by("received_at", "id").values_list(
            "measured_at", "energy_ac_kwh"
        )
    )
    assert sum(counted.values()) == pytest.approx(16, abs=1e-12)
    assert len(counted) == (1 + 4) + (1 + 3)


def test_interval_of_a_session_begins_when_it_begins(tmp_path, api):
    """8 kWh in two hours: an hour within has 4."""
    content = (
        "id,start_date,end_date,charge_energy_added,car_id\n"
        "543,2026-06-25 07:00:00,2026-06-25 09:00:00,8,1\n"
    )
    run(written(tmp_path / "a.csv", content), "--vehicle", "V1")

    assert energy_of(api, "V1", "T07:10:00Z", "T08:10:00Z") == pytest.approx(4, abs=1e-6)
    assert energy_of(api, "V1") == pytest.approx(8, abs=1e-9)


# --- Devices by their external ids --------------------------------------------------------------


@pytest.fixture(params=["Zähler 7", "EXT7", "4.1E+06"])
def by_external_id(request, tmp_path, monkeypatch) -> Path:
    """A file of the meter M7, an interval register, by an external id."""
    monkeypatch.setattr(external_ids, "_seen", {})
    Meter.objects.create(meter_id="M7", external_id=request.param)
    lines = f"meterId,kwhConsumedAc,timestamp\n{request.param},5.5,{TIME}\n"
    return written(tmp_path / "external.csv", lines)


def test_dry_run_shows_the_device_that_has_an_external_id(by_external_id):
    assert "meter M7 " in run(by_external_id, "--dry-run")
    assert not MeterReading.objects.exists()


def test_dry_run_without_a_database_says_what_it_could_not_look_up(tmp_path, monkeypatch):
    def is_away(*_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(external_ids, "devices", is_away)
    path = written(tmp_path / "a.csv", f"meterId,kwhConsumedAc,timestamp\nM1,5.5,{TIME}\n")

    printed = run(path, "--dry-run")

    assert "meter M1 " in printed
    assert "external ids were not looked up: the database is not available" in printed


def test_other_register_of_a_device_with_an_external_id_is_told(by_external_id):
    printed = run(by_external_id, "--register", "counter")

    assert MeterReading.objects.get().meter_id == "M7"
    assert "M7: registered as an interval register, but the values in the file are of a" in printed
    assert Meter.objects.get().energy_register == "interval"


def test_dry_run_counts_optional_fields_that_are_left_out(tmp_path, settings):
    settings.INGEST_BAD_OPTIONAL = "drop"
    lines = f"vehicleId,kwhDeliveredDc,soc,timestamp\nV1,1,255,{TIME}\n"
    path = written(tmp_path / "soc.csv", lines)

    note = "1 invalid optional fields left out"
    assert note in run(path, "--dry-run")
    assert note in run(path)
