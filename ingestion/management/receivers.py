"""Where the readings of a simulated fleet go: to an engine's HTTP API, or to its database."""

import sys
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import sleep
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from django.core.management.base import CommandError
from django.db import transaction
from django.utils import timezone
from tqdm import tqdm

from fleet.http.wire import DECODE_ERRORS, instant
from fleet.links import link_vehicle, unlink_vehicle
from fleet.models import Meter, Site, Vehicle
from fleet.registry.changes import change_devices
from fleet.registry.serializers import SiteSettings
from fleet.registry.strict import validated
from fleet.registry.tariffs import TariffSettings
from fleet.tariffs.changes import save_tariff
from fleet.tariffs.models import Tariff
from ingestion.readings import MeterReading, Reading, VehicleReading
from ingestion.simulation.scenario import Away
from ingestion.simulation.sites import Depot
from ingestion.writer import record

DEFAULT_URL: Final = "http://127.0.0.1:8000"

_TIMEOUT_SECONDS: Final = 30
_ATTEMPTS: Final = 8
_TAKEN: Final = (HTTPStatus.OK, HTTPStatus.CREATED)
_NOT_NOW: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
# By kind: an array of one kind is decoded in one pass, a mixed one item by item.
_PATHS: Final[dict[type[Reading], str]] = {
    MeterReading: "/v1/ingest/meter/batch",
    VehicleReading: "/v1/ingest/vehicle/batch",
}


class Receiver(Protocol):
    """An engine that a simulated fleet reports to; repeating any of this changes nothing."""

    def link(self, vehicle_id: str, meter_id: str, valid_from: datetime) -> None:
        """Link a vehicle to a meter until further notice."""

    def unlink(self, away: Away) -> None:
        """Leave a vehicle without a link for some time."""

    def settle(self, depot: Depot) -> None:
        """Assign devices to a site; create it with its tariff, unless it exists."""

    def deliver(self, batch: Sequence[Reading]) -> None:
        """Deliver readings."""

    def close(self) -> None:
        """Let go of the engine."""


class Database:
    """The database of this engine, by the same functions as its API uses.

    Errors: `UnknownDevice`, `UnknownDevices`, `OperationalError`.
    """

    def link(self, vehicle_id: str, meter_id: str, valid_from: datetime) -> None:
        link_vehicle(vehicle_id, meter_id, valid_from)

    def unlink(self, away: Away) -> None:
        unlink_vehicle(*away)

    def settle(self, depot: Depot) -> None:
        with transaction.atomic():
            site = Site.objects.filter(name=depot.name).first() or _new_site(depot)
            change_devices(Meter.objects.filter(pk__in=depot.meter_ids), {"site": site})
            change_devices(Vehicle.objects.filter(pk__in=depot.vehicle_ids), {"site": site})

    def deliver(self, batch: Sequence[Reading]) -> None:
        record(batch, timezone.now())

    def close(self) -> None:
        """Do nothing: Django closes its connection."""


def _new_site(depot: Depot) -> Site:
    settings = SiteSettings(data=depot.settings)
    validated(settings)
    site: Site = settings.save()
    values = validated(TariffSettings(data=depot.tariff))
    rules = values.pop("rules")
    save_tariff(Tariff(site=site, **values), rules)
    return site


class _Problem(msgspec.Struct):
    """The error of one item, as far as it is needed here."""

    message: str = ""


class _Answer(msgspec.Struct):
    """A response of the engine, as far as it is needed here."""

    message: str = ""
    accepted: int = 0
    errors: list[_Problem] = []
    id: int = 0
    name: str = ""
    results: list["_Answer"] = []

    def words(self) -> str:
        """Return its message and that of its first error."""
        messages = [self.message, *(error.message for error in self.errors[:1])]
        return ": ".join(filter(None, messages)) or "no reason given"


class _NotNow(Exception):
    """The engine refused a request for now; the same request may succeed later."""

    def __init__(self, reason: str, retry_after: str = "") -> None:
        super().__init__(reason)
        self._retry_after = retry_after

    def wait_seconds(self, attempt: int) -> float:
        """Return the engine's Retry-After; without one, 0.1 s, doubled with each attempt."""
        told = self._retry_after
        return int(told) if told.isdecimal() else 0.1 * 2 ** (attempt - 1)


class Api:
    """An engine's HTTP API, over one connection that is kept open.

    Errors: `CommandError`, with the engine's message.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection, self._base_path = _connection(url)

    def link(self, vehicle_id: str, meter_id: str, valid_from: datetime) -> None:
        order = {"vehicleId": vehicle_id, "meterId": meter_id, "validFrom": valid_from}
        self._send("PUT", "/v1/links", order)

    def unlink(self, away: Away) -> None:
        span = {"from": instant(away.starts_at), "to": instant(away.ends_at)}
        self._send("DELETE", f"/v1/links/{quote(away.vehicle_id)}?{urlencode(span)}", None)

    def settle(self, depot: Depot) -> None:
        known = self._send("GET", f"/v1/sites?{urlencode({'search': depot.name})}", None).results
        if depot.name not in (site.name for site in known):
            site = self._send("POST", "/v1/sites", depot.settings)
            self._send("POST", f"/v1/sites/{site.id}/tariffs", depot.tariff)
        for path, ids in (("/v1/meters", depot.meter_ids), ("/v1/vehicles", depot.vehicle_ids)):
            self._send("PATCH", path, {"ids": ids, "set": {"site": depot.name}})

    def deliver(self, batch: Sequence[Reading]) -> None:
        for kind, path in _PATHS.items():
            of_kind = [reading for reading in batch if type(reading) is kind]
            if of_kind and (answer := self._send("POST", path, of_kind)).accepted != len(of_kind):
                count = f"{answer.accepted:,} of {len(of_kind):,}"
                raise CommandError(f"The engine accepted {count} readings: {answer.words()}")

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: object) -> _Answer:
        """Send until answered; resending never changes a figure."""
        content, attempt = b"" if body is None else msgspec.json.encode(body), 1
        while True:
            try:
                return self._exchange(method, path, content)
            except _NotNow as error:
                if attempt == _ATTEMPTS:
                    raise CommandError(f"{error}; gave up after {_ATTEMPTS} attempts") from None
                tqdm.write(f"{error}; retrying", file=sys.stderr)
                sleep(error.wait_seconds(attempt))
                attempt += 1

    def _exchange(self, method: str, path: str, content: bytes) -> _Answer:
        headers = {"Content-Type": "application/json"}
        try:
            self._connection.request(method, self._base_path + path, content, headers)
            response = self._connection.getresponse()
            answer = _decoded(response.read())
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise _NotNow(f"No answer from {self._url}: {error or type(error).__name__}") from None
        if response.status in _TAKEN:
            return answer
        reason = f"{method} {path} returned {response.status}: {answer.words()}"
        if response.status in _NOT_NOW:
            raise _NotNow(reason, response.getheader("Retry-After", ""))
        raise CommandError(reason)


def _connection(url: str) -> tuple[HTTPConnection, str]:
    """Return a connection to `url`, opened on first use, and the path that `url` ends in."""
    try:
        parts = urlsplit(url)
        make = {"http": HTTPConnection, "https": HTTPSConnection}[parts.scheme]
        if not parts.hostname:
            raise ValueError("no host")
        connection = make(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
    except (KeyError, ValueError):
        raise CommandError(f"--url must look like {DEFAULT_URL}") from None
    return connection, parts.path.rstrip("/")


def _decoded(body: bytes) -> _Answer:
    """Return a parsed response; an empty one if it is not the engine's, such as a proxy's page."""
    try:
        return msgspec.json.decode(body, type=_Answer)
    except DECODE_ERRORS:
        return _Answer()
