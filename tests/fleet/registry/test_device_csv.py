"""The registry as CSV: a round trip changes nothing, and a wrong line leaves all as it is."""

import csv
import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from fleet.models import Meter, Vehicle
from fleet.registers import register_changed
from fleet.registry.device_csv import InvalidFile, LineError, exported, import_devices
from tests.conftest import NOON, at
from tests.factories import MeterFactory, SiteFactory, VehicleFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

BOTH = ["meterId", "vehicleId"]


def text_of(columns: list[str] = BOTH) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(exported(columns))
    return written.getvalue()


def imported(text: str, **options: bool) -> tuple[int, int, int]:
    return tuple(import_devices(io.StringIO(text), **options))


def refused(text: str, **options: bool) -> list[tuple[int, str]]:
    with pytest.raises(InvalidFile) as refusal:
        import_devices(io.StringIO(text), **options)
    return [tuple(error) for error in refusal.value.errors]


@pytest.fixture
def fleet():
    berlin = SiteFactory(name="Berlin")
    MeterFactory(
        meter_id="M1",
        name='Yard "4", bay',
        external_id="DE*8PY*E123*1",
        site=berlin,
        energy_register="counter",
        scale=0.001,
        max_power_kw=22,
        interval_seconds=900,
        rolls_over_at_kwh=838.8608,
        clock_offset_seconds=-3600.5,
        retired_at=at("11:59:30"),
    )
    MeterFactory(meter_id="M2")
    VehicleFactory(vehicle_id="V1", name="=HYPERLINK(1)", external_id="'+49")
    VehicleFactory(vehicle_id="V2", name="''=1", scale=1 / 3)


def values_of(model) -> list[dict]:
    return [*model.objects.order_by("pk").values()]


class TestExport:
    def test_columns_are_the_names_on_the_wire(self, fleet):
        rows = [*csv.DictReader(io.StringIO(text_of(["meterId"])))]

        assert rows[0] == {
            "meterId": "M1",
            "name": 'Yard "4", bay',
            "externalId": "DE*8PY*E123*1",
            "site": "Berlin",
            "energyRegister": "counter",
            "scale": "0.001",
            "maxPowerKw": "22.0",
            "intervalSeconds": "900.0",
            "rollsOverAtKwh": "838.8608",
            "clockOffsetSeconds": "-3600.5",
            "retiredAt": "2026-07-15T11:59:30Z",
            "registeredAt": "2026-07-15T12:00:00Z",
        }
        assert [row["meterId"] for row in rows] == ["M1", "M2"]

    def test_text_that_a_spreadsheet_would_run_is_guarded(self, fleet):
        rows = [*csv.DictReader(io.StringIO(text_of(["vehicleId"])))]

        assert [row["name"] for row in rows] == ["'=HYPERLINK(1)", "'''=1"]


class TestRoundTrip:
    def test_import_of_an_export_changes_nothing(self, fleet):
        before = values_of(Meter), values_of(Vehicle)

        assert imported(text_of()) == (0, 0, 4)
        assert (values_of(Meter), values_of(Vehicle)) == before

    def test_empty_registry_becomes_the_exported_one(self, fleet, clock):
        before, text = (values_of(Meter), values_of(Vehicle)), text_of()
        Meter.objects.all().delete()
        Vehicle.objects.all().delete()
        clock.shift(3600)

        assert imported(text, create=True) == (4, 0, 0)
        assert (values_of(Meter), values_of(Vehicle)) == before
        assert text_of() == text


class TestImport:
    def test_only_columns_of_the_file_change(self, fleet):
        assert imported("meterId,scale\nM1,40\nM2,1\n") == (0, 1, 1)

        meter = Meter.objects.get(pk="M1")
        assert (meter.scale, meter.energy_register, meter.max_power_kw) == (40, "counter", 22)

    def test_empty_cell_sets_the_default(self, fleet):
        imported("meterId,name,externalId,site,rollsOverAtKwh,energyRegister,scale\nM1,,,,,,\n")

        meter = Meter.objects.get(pk="M1")
        assert (meter.name, meter.external_id, meter.site) == ("", None, None)
        assert (meter.energy_register, meter.scale) == ("interval", 1)

    def test_external_ids_can_be_exchanged(self, fleet):
        Meter.objects.filter(pk="M2").update(external_id="SN-2")

        imported("meterId,externalId\nM1,SN-2\nM2,DE*8PY*E123*1\n")

        found = Meter.objects.order_by("pk").values_list("external_id", flat=True)
        assert [*found] == ["SN-2", "DE*8PY*E123*1"]

    def test_changed_registers_are_announced_once(self, fleet, django_capture_on_commit_callbacks):
        announced = []

        def note(sender, device_ids, **_) -> None:
            announced.append((sender, device_ids))

        register_changed.connect(note)
        with django_capture_on_commit_callbacks(execute=True):
            imported("meterId,name,scale\nM1,Yard,40\nM2,Yard,2\n")
            imported("meterId,name\nM1,Gate\n")
        register_changed.disconnect(note)

        assert announced == [(Meter, ["M1", "M2"])]

    def test_dry_run_changes_nothing(self, fleet):
        before = values_of(Meter)
        text = "meterId,scale\nM1,40\nM9,1\n"

        assert imported(text, create=True, dry_run=True) == (1, 1, 0)
        assert values_of(Meter) == before

    def test_every_wrong_line_is_told_and_nothing_is_written(self, fleet):
        before = values_of(Meter)
        text = (
            "meterId,vehicleId,scale,site,energyRegister,rollsOverAtKwh,externalId\n"
            "M2,,40,,,,\n"
            "M1,,0,Rome,,,\n"
            "M9,,1,,,,\n"
            "a b,,1,,,,\n"
            "M1,V1,1,,,,\n"
            '"","",1,,,,\n'
        )

        assert refused(text) == [
            (6, "must have either meterId or vehicleId"),
            (7, "must have either meterId or vehicleId"),
        ]
        text = "\n".join([*text.splitlines()[:5], 'M2,,"0,001",,interval,100,', ",V1,1,,,5,"])
        assert refused(text) == [
            (3, "scale must be a number above 0"),
            (3, "site must be the name of an existing site"),
            (4, "meterId must be the id of a registered meter; new ones need --create"),
            (
                5,
                "meterId must be 1 to 64 characters: letters, digits and . _ : - * + @ ~ # ( ) =, "
                "beginning with a letter, a digit or _",
            ),
            (6, "meterId is also in line 2"),
            (7, "rollsOverAtKwh must be empty unless the energy register is counter"),
        ]
        assert values_of(Meter) == before

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            ("scale\nM1,NaN", "scale must be a number"),
            ("scale\nM1,true", "scale must be a number"),
            ('scale\nM1,"0,001"', "scale must be a number"),
            ("scale\nM1,1_000", "scale must be a number"),
            ("externalId\nM1,SN-2", "externalId must not be one that is already in use"),
            ("registeredAt\nM1,2026-07-15T11:00:00Z", "registeredAt can't be changed"),
            ("retiredAt\nM1,yesterday", "retiredAt must be an RFC 3339 time with an offset"),
            ("name,scale\nM1,1", "must have 3 cells, as the header has"),
            ('name\nM1,"a"b', "is not valid CSV"),
        ],
    )
    def test_bad_cell_is_told_by_line(self, fleet, cells, message):
        Meter.objects.filter(pk="M2").update(external_id="SN-2")

        ((line, told),) = refused(f"meterId,{cells}\n")

        assert (line, told[: len(message)]) == (2, message)

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ("meterId;scale", "columns must be separated by commas"),
            ("meterId,scle", "unknown column; did you mean scale? There may be meterId, "),
            ("meterId,scale,scale", "a column occurs twice"),
            ("name,scale", "must have the column meterId or vehicleId"),
            ("", "must have the column meterId or vehicleId"),
        ],
    )
    def test_bad_header_is_line_1(self, header, message):
        ((line, told),) = refused(f"{header}\n")

        assert (line, told[: len(message)]) == (1, message)

    def test_two_lines_with_one_external_id_are_refused(self, fleet):
        assert refused("meterId,externalId\nM1,X\nM2,X\n") == [
            LineError(3, "externalId is also in line 2")
        ]

    def test_statements_do_not_grow_with_the_devices(self, statements_sent):
        def sent_for(count: int) -> int:
            SiteFactory(name=f"Site {count}")
            rows = "".join(f"N{count}-{n},Site {count},E{count}-{n}\n" for n in range(count))
            with statements_sent() as sent:
                imported(f"meterId,site,externalId\n{rows}", create=True)
            return sent[0]

        assert sent_for(2) == sent_for(400)


class TestCommand:
    def run(self, *arguments: str) -> str:
        printed = io.StringIO()
        call_command("devices", *arguments, stdout=printed)
        return printed.getvalue()

    def test_export_and_import_of_a_file(self, fleet, tmp_path: Path):
        file = tmp_path / "devices.csv"
        file.write_text(self.run("export").replace("M2,,", "M3,,"), encoding="utf-8-sig")

        assert self.run("import", str(file), "--create", "--dry-run") == (
            "Would be created: 1, changed: 0, unchanged: 3\n"
        )
        assert self.run("import", str(file), "--create") == (
            "Devices created: 1, changed: 0, unchanged: 3\n"
        )
        meter = Meter.objects.get(pk="M3")
        assert meter.registered_at == NOON

    @pytest.mark.parametrize(("kind", "ids"), [("meter", ["M1", "M2"]), ("vehicle", ["V1", "V2"])])
    def test_export_of_one_kind(self, fleet, kind, ids):
        rows = self.run("export", "--kind", kind).splitlines()[1:]

        assert [row.partition(",")[0] for row in rows] == ids

    def test_errors_are_printed_by_line(self, fleet, tmp_path: Path):
        file = tmp_path / "devices.csv"
        file.write_text("meterId,scale\nM1,0\nM2,-1\n")
        printed = io.StringIO()

        with pytest.raises(CommandError, match="Nothing was imported: 2 errors"):
            call_command("devices", "import", str(file), stderr=printed)

        assert printed.getvalue() == (
            "line 2: scale must be a number above 0\nline 3: scale must be a number above 0\n"
        )

    def test_file_that_cannot_be_read(self, tmp_path: Path):
        with pytest.raises(CommandError, match="Can't read the file: No such file"):
            self.run("import", str(tmp_path / "nowhere.csv"))
        (tmp_path / "latin.csv").write_bytes(b"meterId,name\nM1,B\xe4r\n")
        with pytest.raises(CommandError, match="The file must be in UTF-8"):
            self.run("import", str(tmp_path / "latin.csv"))
