"""Examples for the OpenAPI document, as structs, so that each of them matches its schema."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import msgspec

from analytics.alerting.fault_list import FaultHistory, FaultPage, FaultRow, FaultStep
from analytics.alerting.webhooks import JobMessage, JobRow, WebhookMessage
from analytics.figures.explain import Counted, CutStep, Explanation, Split
from analytics.figures.performance import Coverage, DataPoints, Performance, Period
from analytics.figures.series import Granularity, Point, Series
from analytics.figures.whole_fleet import (
    DeviceCount,
    FleetTotals,
    HealthCount,
    VehiclePage,
    VehicleRow,
)
from analytics.formulas import Health
from energy_engine.api.errors import Error, IngestError
from energy_engine.api.health import Live, Ready, Unready
from energy_engine.api.root import Service
from fleet.access.views import KeyMade, KeyOrder, KeyPage, KeyRow
from fleet.registry.tariffs import Price, PricesInForce, SeriesStored
from fleet.registry.views import DevicesChanged
from fleet.status import MeterStatus, VehicleStatus
from fleet.views import Link, LinkMade, LinkOrder, LinkPage, Unlinked
from ingestion.intake import Outcome, Warnings
from ingestion.readings import ItemError, MeterReading, VehicleReading

_NOON: Final = datetime(2026, 7, 15, 12, 0, tzinfo=UTC)
_DAY_BEFORE: Final = _NOON - timedelta(days=1)
_REQUEST_ID: Final = "3f1c9c0e5d1b4a6f8f0e2d7c6b5a4938"
_SOC: Final = "soc must be a number from 0 to 100"
_ENERGY: Final = "kwhDeliveredDc must be a number from 0 to 1,000,000,000"

_figure: Final = Performance(
    vehicle_id="V123",
    meter_id="M123",
    period=Period(_DAY_BEFORE, _NOON),
    energy_ac_kwh=25.5,
    energy_dc_kwh=21.5,
    efficiency_percent=84.31,
    battery_temp_celsius=32.0,
    ac_source="linked",
    health=Health.DEGRADED,
    reason=None,
    data_points=DataPoints(vehicle=1440, meter=1440),
    coverage=Coverage(vehicle=1.0, meter=1.0),
    suspect_steps=0,
    former_energy_ac_kwh=25.5,
    former_energy_dc_kwh=21.5,
    efficiency=0.84,
    former_battery_temp_celsius=32.0,
)
_row: Final = VehicleRow(
    vehicle_id="V123",
    site="Depot",
    meter_id="M123",
    period_ends_at=_NOON,
    energy_ac_kwh=25.5,
    energy_dc_kwh=21.5,
    efficiency_percent=84.31,
    battery_temp_celsius=32.0,
    ac_source="linked",
    health=Health.DEGRADED,
    reason=None,
    data_points=DataPoints(vehicle=1440, meter=1440),
    coverage=Coverage(vehicle=1.0, meter=1.0),
    suspect_steps=0,
)
_point: Final = Point(
    start=_NOON - timedelta(hours=1),
    end=_NOON,
    energy_ac_kwh=6.0,
    energy_dc_kwh=5.1,
    efficiency_percent=85.0,
    battery_temp_celsius=32.0,
    data_points=DataPoints(vehicle=60, meter=60),
    suspect_steps=0,
)
_counted: Final = Counted(
    device_id="V123",
    start=_DAY_BEFORE,
    end=_NOON,
    energy_kwh=21.5,
    hours_from_rollup=23,
    hours_from_history=1.0,
    deliveries=1442,
    counted=1440,
    repeats=1,
    corrected=1,
    suspect_steps=0,
    cadence_seconds=60.0,
    first_step=CutStep(
        start=_DAY_BEFORE - timedelta(seconds=20),
        end=_DAY_BEFORE + timedelta(seconds=40),
        energy_kwh=0.03,
        energy_in_span_kwh=0.02,
    ),
    last_step=None,
)
_explanation: Final = Explanation(
    figure=_figure,
    formula="efficiencyRatio = 100 · DC / AC = 100 · 21.5 kWh / 25.5 kWh = 84.31 %",
    vehicle=_counted,
    meters=[
        msgspec.structs.replace(
            _counted, device_id="M123", energy_kwh=25.5, deliveries=1440, repeats=0, corrected=0
        )
    ],
    splits=[
        Split(
            meter_id="M123",
            start=_DAY_BEFORE,
            end=_NOON,
            vehicle_ids=["V123"],
            meter_ac_kwh=25.5,
            share=1.0,
            energy_ac_kwh=25.5,
            energy_dc_kwh=21.5,
            vehicles_dc_kwh=21.5,
        )
    ],
    fleet=None,
)
_fault: Final = FaultRow(
    id=17,
    kind="low_efficiency",
    state="acknowledged",
    vehicle_id="V123",
    meter_id=None,
    site="Depot",
    value=71.3,
    unit="percent",
    threshold=85.0,
    opened_at=_NOON,
    acknowledged_at=_NOON + timedelta(minutes=20),
    closed_at=None,
)
_new_fault: Final = msgspec.structs.replace(_fault, state="open", acknowledged_at=None)
_steps: Final = [
    FaultStep("open", _NOON, None, ""),
    FaultStep("acknowledged", _NOON + timedelta(minutes=20), "ada", "The charger is booked in"),
]
_link: Final = Link("V123", "M123", valid_from=_NOON, valid_to=None)
_cut: Final = Link("V123", "M7", valid_from=_NOON, valid_to=None)
_key: Final = KeyRow(
    prefix="eie_0a1b2c3d4e",
    name="gateway of Berlin",
    scopes=["ingest"],
    reach="site",
    site="Berlin",
    meter_ids=[],
    vehicle_ids=[],
    created_at=_NOON,
    expires_at=None,
    revoked_at=None,
    last_used_at=None,
)
_meter: Final = MeterReading(
    meter_id="M123", energy_ac_kwh=0.25, voltage_v=231.4, measured_at=_NOON
)
_vehicle: Final = VehicleReading(
    vehicle_id="V123",
    energy_dc_kwh=0.21,
    soc_percent=81,
    battery_temp_celsius=32,
    measured_at=_NOON,
)

_EXAMPLES: Final[tuple[msgspec.Struct, ...]] = (
    *(_meter, _vehicle, _figure, _explanation, _link),
    Service(),
    Live("ok"),
    Ready("ok", {"database": "ok", "migrations": "ok", "partitions": "ok", "cache": "ok"}),
    Unready(
        503,
        "/health/ready",
        "Not ready: database",
        "not_ready",
        _NOON,
        _REQUEST_ID,
        [],
        status="unready",
        checks={"database": "unreachable", "cache": "ok"},
    ),
    Outcome(
        2,
        1,
        [ItemError(1, "kwhDeliveredDc", "out_of_range", _ENERGY)],
        warnings=Warnings({"soc": 1}, [ItemError(2, "soc", "out_of_range", _SOC)]),
    ),
    LinkOrder("V123", "M123", _NOON),
    LinkMade("V123", "M123", _NOON, None, superseded=[_cut]),
    Unlinked("V123", _DAY_BEFORE, _NOON, [Link("V123", "M123", _DAY_BEFORE, _NOON)]),
    LinkPage(None, None, [_link]),
    KeyOrder("gateway of Berlin", ["ingest"], site="Berlin"),
    _key,
    KeyMade(**msgspec.structs.asdict(_key), token=f"{_key.prefix}…"),
    KeyPage(None, None, [_key]),
    MeterStatus(
        meter_id="M123",
        energy_ac_kwh=0.25,
        voltage_v=231.4,
        measured_at=_NOON,
        received_at=_NOON + timedelta(seconds=1),
    ),
    VehicleStatus(
        vehicle_id="V123",
        soc_percent=81.0,
        energy_dc_kwh=0.21,
        battery_temp_celsius=32.0,
        measured_at=_NOON,
        received_at=_NOON + timedelta(seconds=1),
    ),
    Series("V123", Period(_point.start, _NOON), Granularity.HOUR, "UTC", [_point]),
    VehiclePage(None, None, [_row]),
    FleetTotals(
        Period(_DAY_BEFORE, _NOON),
        25.5,
        21.5,
        84.31,
        HealthCount(degraded=1),
        vehicles=DeviceCount(total=1, online=1),
        meters=DeviceCount(total=1, online=1),
    ),
    FaultPage(None, None, [_fault]),
    FaultHistory(**msgspec.structs.asdict(_fault), changes=_steps),
    WebhookMessage("fault.opened", _NOON, _new_fault),
    DevicesChanged(matched=120, changed=118),
    PricesInForce(
        _NOON,
        _NOON + timedelta(hours=24),
        "EUR",
        [
            Price(_NOON, _NOON + timedelta(hours=8), 0.3125),
            Price(_NOON + timedelta(hours=8), _NOON + timedelta(hours=16), 0.25),
            Price(_NOON + timedelta(hours=16), _NOON + timedelta(hours=24), None),
        ],
    ),
    SeriesStored(stored=8, removed=0),
    JobMessage("job.failed", _NOON, JobRow("roll_up", _NOON, 1, "OperationalError")),
)
# Examples of serializers, which are no structs.
_settings: Final = {
    "name": "Yard, bay 4",
    "externalId": "DE-8PY-E123-1",
    "site": "Depot",
    "energyRegister": "counter",
    "scale": 0.001,
    "maxPowerKw": 22.0,
    "intervalSeconds": None,
    "rollsOverAtKwh": None,
    "clockOffsetSeconds": 0.0,
    "retiredAt": None,
}
_registered: Final = {"registeredAt": "2026-07-15T12:00:00Z"}
_meter_row: Final = {"meterId": "M123", **_settings, **_registered}
_vehicle_row: Final = {"vehicleId": "V123", **_settings, **_registered}
_site_settings: Final = {
    "name": "Depot",
    "timeZone": "Europe/Berlin",
    "tariffPerKwh": 0.3125,
    "currency": "EUR",
}
_site_row: Final = {"id": 1, **_site_settings}
_tariff_settings: Final = {
    "validFrom": "2026-07-01",
    "kind": "time_of_use",
    "pricePerKwh": 0.3125,
    "rules": [
        {
            "weekdays": ["mon", "tue", "wed", "thu", "fri"],
            "start": "22:00",
            "end": "06:00",
            "pricePerKwh": 0.25,
        }
    ],
}
_tariff_row: Final = {"id": 1, **_tariff_settings, "gaps": []}
_series: Final = {
    "start": "2026-07-15T22:00:00Z",
    "intervalMinutes": 60,
    "pricesPerKwh": [0.0873, -0.012, None],
}
_ends: Final = {"next": None, "previous": None}
_change: Final = {"energyRegister": "counter", "scale": 0.001}
_bulk: Final = {"filter": {"site": "Depot", "retired": False}, "set": _change}
_SERIALIZED: Final[dict[str, Any]] = {
    "RegisteredMeter": _meter_row,
    "RegisteredVehicle": _vehicle_row,
    "RegisteredMeterPage": {**_ends, "results": [_meter_row]},
    "RegisteredVehiclePage": {**_ends, "results": [_vehicle_row]},
    "PatchedMeterSettings": _change,
    "PatchedVehicleSettings": _change,
    "PatchedMeterBulk": _bulk,
    "PatchedVehicleBulk": _bulk,
    "SiteRow": _site_row,
    "SitePage": {**_ends, "results": [_site_row]},
    "SiteSettings": _site_settings,
    "PatchedSiteSettings": {"tariffPerKwh": 0.3125},
    "TariffSettings": _tariff_settings,
    "TariffRow": _tariff_row,
    "TariffList": {"results": [_tariff_row]},
    "SeriesOrder": _series,
}
_BY_NAME: Final[dict[str, Any]] = _SERIALIZED | {
    type(example).__name__: example for example in _EXAMPLES
}

_FIGURE: Final = "/v1/analytics/performance/V123"
_ERRORS: Final[dict[HTTPStatus, tuple[str, str]]] = {
    HTTPStatus.BAD_REQUEST: ("invalid", "start must be before end"),
    HTTPStatus.UNAUTHORIZED: (
        "key_required",
        "A valid API key is required: Authorization: Bearer …",
    ),
    HTTPStatus.FORBIDDEN: ("scope_required", "This needs a key with the scope {scope}"),
    HTTPStatus.NOT_FOUND: ("not_found", "Vehicle not found"),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("internal_error", "Internal error"),
    HTTPStatus.REQUEST_TIMEOUT: (
        "stalled",
        "Timed out waiting for the rest of the request body; send it again",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "too_large",
        "A JSON body may have at most 10,485,760 bytes (10 MiB)",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "unsupported_media_type",
        "The body must be application/json in UTF-8, plain or with Content-Encoding: gzip",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "throttled",
        "Limit of 6,000 requests per minute reached; see Retry-After",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "storage_unavailable",
        "The database is not available; send the request again",
    ),
}


def of_schema(schema: dict[str, Any], status: HTTPStatus | None) -> dict[str, Any]:
    """Return an example of each alternative of `schema`, by name; empty if there is none.

    `status` is that of a response, None for a request body.
    """
    if status is HTTPStatus.CREATED and schema.get("$ref", "").endswith("/Outcome"):
        return {"Outcome": {"value": _on_the_wire(Outcome(1, 0, []))}}
    found = {_name(option): _value(option) for option in schema.get("oneOf", [schema])}
    return {name: {"value": value} for name, value in found.items() if value is not None}


def error(struct: type[Error], status: HTTPStatus) -> dict[str, Any]:
    """Return an example of the response with `status`, as a `struct`."""
    code, message = _ERRORS[status]
    if struct is IngestError and status is HTTPStatus.BAD_REQUEST:
        return _on_the_wire(
            IngestError(
                status,
                "/v1/ingest",
                f"No reading was accepted: {_SOC}",
                "rejected",
                _NOON,
                _REQUEST_ID,
                errors=[ItemError(0, "soc", "out_of_range", _SOC)],
                accepted=0,
                rejected=1,
            )
        )
    path, scope = ("/v1/ingest", "ingest") if struct is IngestError else (_FIGURE, "read")
    message = message.format(scope=scope)
    return _on_the_wire(Error(status, path, message, code, _NOON, _REQUEST_ID, []))


def _name(schema: dict[str, Any]) -> str:
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else "several"


def _value(schema: dict[str, Any]) -> Any:
    if schema.get("type") == "array":
        values = [_value(item) for item in schema["items"].get("oneOf", [schema["items"]])]
        return values if all(values) else None
    example = _BY_NAME.get(_name(schema))
    return example and _on_the_wire(example)


def _on_the_wire(example: msgspec.Struct | dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(example)
    return found
