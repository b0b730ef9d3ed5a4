"""Devices as they are in the field: set up, linked, heard and asked about through the HTTP API."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from urllib.parse import quote

from analytics.figures.cache import redis
from analytics.models import MeterHour, VehicleHour
from analytics.rollups import hourly
from fleet.models import Meter, Vehicle
from tests.conftest import Api

PERFORMANCE = "/v1/analytics/performance"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

Readings = Iterable[tuple[datetime, float]]


def every(
    pause: timedelta, start: datetime, end: datetime, kwh: float, first_kwh: float | None = None
) -> Iterator[tuple[datetime, float]]:
    """Yield readings of `kwh` at each end of a pause in [start, end].

    With `first_kwh`, one more at the start, so that the first pause has a beginning.
    """
    if first_kwh is not None:
        yield start, first_kwh
    at = start + pause
    while at <= end:
        yield at, kwh
        at += pause


class Field:
    """Meters (ids that begin with M) and vehicles; their hours are summed up if it is said so."""

    def __init__(self, api: Api, clock, is_summed_up: bool) -> None:
        self._api = api
        self._clock = clock
        self._is_summed_up = is_summed_up

    def device(self, device_id: str, **settings: object) -> None:
        """Register a device, or change its settings."""
        model, _ = _kind(device_id)
        model.objects.update_or_create(pk=device_id, defaults=settings)

    def delivers(self, device_id: str, readings: Readings) -> None:
        _, names = _kind(device_id)
        body = [
            {names[0]: device_id, names[1]: kwh, "timestamp": at.isoformat()}
            for at, kwh in readings
        ]
        answer = self._api.post("/v1/ingest", body)
        assert answer.status_code == 201, answer.content

    def link(
        self, vehicle_id: str, meter_id: str, start: datetime, end: datetime | None = None
    ) -> None:
        body = {"vehicleId": vehicle_id, "meterId": meter_id, "validFrom": start.isoformat()}
        if end:
            body["validTo"] = end.isoformat()
        answer = self._api.put("/v1/links", body)
        assert answer.status_code in (200, 201), answer.content

    def gap(self, vehicle_id: str, start: datetime, end: datetime) -> None:
        span = f"from={quote(start.isoformat())}&to={quote(end.isoformat())}"
        answer = self._api.delete(f"/v1/links/{vehicle_id}?{span}")
        assert answer.status_code == 200, answer.content

    def sum_up(self) -> None:
        """Sum up the hours that are over, unless figures are to come from history alone."""
        if self._is_summed_up:
            self._clock.shift(hourly.QUIET + hourly.GRACE)
            hourly.roll_up()
            assert hourly.pending() == 0
            assert MeterHour.objects.exists() or VehicleHour.objects.exists()

    def figure(self, vehicle_id: str, start: datetime, end: datetime) -> dict:
        """Return the figures of a window, once the hours are summed up."""
        self.sum_up()
        return self.figure_at_once(vehicle_id, start, end)

    def figure_at_once(self, vehicle_id: str, start: datetime, end: datetime) -> dict:
        return self._get(f"{PERFORMANCE}/{vehicle_id}?{_window(start, end)}")

    def series(
        self,
        vehicle_id: str,
        start: datetime,
        end: datetime,
        granularity: str = "hour",
        tz: str = "UTC",
    ) -> list[dict]:
        """Return the points of a window, once the hours are summed up."""
        self.sum_up()
        query = f"{_window(start, end)}&granularity={granularity}&tz={tz}"
        return self._get(f"{PERFORMANCE}/{vehicle_id}/series?{query}")["points"]

    def open_faults(self) -> set[tuple[str, str]]:
        """Return kind and device of the faults that are open."""
        results = self._get("/v1/faults?state=open")["results"]
        return {(one["kind"], one["vehicleId"] or one["meterId"]) for one in results}

    def _get(self, path: str) -> dict:
        redis().incr("analytics:unlinked-generation")  # not what was so a minute ago
        answer = self._api.get(path)
        assert answer.status_code == 200, answer.content
        return answer.json()


def _kind(device_id: str) -> tuple[type[Meter] | type[Vehicle], tuple[str, str]]:
    if device_id.startswith("M"):
        return Meter, ("meterId", "kwhConsumedAc")
    return Vehicle, ("vehicleId", "kwhDeliveredDc")


def _window(start: datetime, end: datetime) -> str:
    return f"start={quote(start.isoformat())}&end={quote(end.isoformat())}"
