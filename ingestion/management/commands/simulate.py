"""Deliver the readings of a simulated fleet, through the HTTP API or directly to the writer."""

import math
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import sleep
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils import timezone
from tqdm import tqdm

from fleet.http.wire import DECODE_ERRORS, instant
from fleet.links import UnknownDevice, link_vehicle
from ingestion.management.arguments import instant_of
from ingestion.readings import MAX_AHEAD, MeterReading, Reading, VehicleReading
from ingestion.simulation import Scenario, batches
from ingestion.writer import UnknownDevices, record

BATCH_SIZE: Final = 5_000
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

LinkVehicle = Callable[[str, str, datetime], object]
Deliver = Callable[[Sequence[Reading]], object]


class Command(BaseCommand):
    """Link a simulated fleet, deliver its readings, and say which chargers are faulty."""

    help = "Deliver the readings of a simulated fleet: vehicles SIM-V0001 …, meters SIM-M0001 …"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        share = partial(add, type=_share, metavar="SHARE")
        add("--vehicles", type=_count, default=20, metavar="N", help="default: 20")
        add("--meters", type=_count, metavar="N", help="default: as many as vehicles")
        add("--hours", type=_hours, default=24.0, metavar="H", help="simulated time; default: 24")
        add("--start", type=instant_of, metavar="TIME", help="RFC 3339; default: H hours ago")
        add(
            "--interval",
            type=_count,
            default=60,
            metavar="SECONDS",
            help="time between readings; default: 60",
        )
        add("--seed", type=int, default=1, help="same seed, same fleet; default: 1")
        share("--faulty", default=0.1, help="share of faulty chargers; default: 0.1")
        share("--late", default=0.01, help="share of late readings; default: 0.01")
        share("--repeated", default=0.01, help="share of repeated readings; default: 0.01")
        share("--out-of-order", default=0.01, help="share of readings out of order; default: 0.01")
        add("--via", choices=("writer", "http"), default="writer", help="default: writer")
        add(
            "--url",
            default=DEFAULT_URL,
            help=f"URL of the engine, for --via http; default: {DEFAULT_URL}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        scenario = _scenario(options)
        try:
            seconds = _run(scenario, options)
        except (UnknownDevice, UnknownDevices):
            raise CommandError(
                "The simulated devices are not registered, and INGEST_UNKNOWN_DEVICES is reject; "
                "set it to register"
            ) from None
        except OperationalError as error:
            raise CommandError(f"The database is not available: {error}") from None
        self.stdout.write(_report(scenario, seconds))


def _run(scenario: Scenario, options: dict[str, Any]) -> float:
    if options["via"] == "writer":
        return _deliver(scenario, link_vehicle, lambda batch: record(batch, timezone.now()))
    with closing(_Api(options["url"])) as api:
        return _deliver(scenario, api.link, api.deliver)


def _deliver(scenario: Scenario, link: LinkVehicle, deliver: Deliver) -> float:
    """Link the fleet, deliver its readings; return how many seconds the readings took."""
    for pairing in tqdm(scenario.pairings, desc="links", unit=" vehicles"):
        link(pairing.vehicle_id, pairing.meter_id, scenario.starts_at)
    began = time.perf_counter()
    with tqdm(
        total=scenario.delivery_count, desc="readings", unit=" readings", unit_scale=True
    ) as progress:
        for batch in batches(scenario, BATCH_SIZE):
            deliver(batch)
            progress.update(len(batch))
    return time.perf_counter() - began


def _report(scenario: Scenario, seconds: float) -> str:
    """Return what was delivered and which chargers are faulty, for comparison with the API."""
    count = scenario.delivery_count
    faulty = [pairing for pairing in scenario.pairings if pairing.is_faulty]
    lines = [
        f"{count:,} readings in {seconds:.1f} s: {count / max(seconds, 1e-3):,.0f} readings/s",
        f"{scenario.reading_count:,} of them count; {scenario.repeated_count:,} were delivered "
        f"twice, {scenario.late_count:,} late",
        f"{_counted(scenario.vehicles, 'vehicle')} on {_counted(scenario.meters, 'meter')}, "
        f"from {instant(scenario.starts_at)} until {instant(scenario.ends_at)}",
        f"\n{_counted(len(faulty), 'vehicle')} on faulty chargers, with the simulated efficiency:",
        *(f"  {p.vehicle_id}  {p.meter_id}  {100 * p.efficiency:.2f}%" for p in faulty),
        "\nCompare it with efficiencyRatio from the engine, for example:",
        f"  /v1/analytics/performance/{(faulty or scenario.pairings)[0].vehicle_id}",
    ]
    return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Problem(msgspec.Struct):
    """The error of one item, as far as it is needed here."""

    message: str = ""


class _Answer(msgspec.Struct):
    """A response of the engine, as far as it is needed here."""

    message: str = ""
    accepted: int = 0
    errors: list[_Problem] = []

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


class _Api:
    """An engine's HTTP API, over one connection that is kept open.

    Errors of `link` and `deliver`: `CommandError`, with the engine's message.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection, self._base_path = _connection(url)

    def link(self, vehicle_id: str, meter_id: str, valid_from: datetime) -> None:
        order = {"vehicleId": vehicle_id, "meterId": meter_id, "validFrom": valid_from}
        self._send("PUT", "/v1/links", order)

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
        content, attempt = msgspec.json.encode(body), 1
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


def _scenario(options: dict[str, Any]) -> Scenario:
    """Return the scenario that `options` describe. Errors: `CommandError`."""
    if options["late"] + options["repeated"] > 1:
        raise CommandError("--late and --repeated must add up to at most 1")
    if options["interval"] > options["hours"] * 3600:
        raise CommandError("--interval must not be longer than --hours")
    starts_at, ends_at = _span(options)
    return Scenario(
        vehicles=options["vehicles"],
        meters=options["meters"] or options["vehicles"],
        starts_at=starts_at,
        ends_at=ends_at,
        interval_seconds=options["interval"],
        seed=options["seed"],
        faulty_share=options["faulty"],
        late_share=options["late"],
        repeated_share=options["repeated"],
        out_of_order_share=options["out_of_order"],
    )


def _span(options: dict[str, Any]) -> tuple[datetime, datetime]:
    """Return start and end of the simulation, within what the engine accepts.

    By default, the newest readings are those of now. Errors: `CommandError`.
    """
    now, length = timezone.now(), timedelta(hours=options["hours"])
    starts_at = options["start"] or _next_tick(now, options["interval"]) - length
    horizon = timedelta(days=settings.HISTORY_HORIZON_DAYS)
    if starts_at < now - horizon:
        raise CommandError(
            "The simulation must start at most "
            f"{settings.HISTORY_HORIZON_DAYS} days (HISTORY_HORIZON_DAYS) before now"
        )
    if options["start"] and starts_at > now + MAX_AHEAD - length:
        raise CommandError("--start plus --hours must be at most 10 minutes ahead of now")
    return starts_at, starts_at + length


def _next_tick(now: datetime, interval_seconds: int) -> datetime:
    """Return the first instant after `now` at which devices report."""
    ticks_so_far = now.timestamp() // interval_seconds
    return datetime.fromtimestamp((ticks_so_far + 1) * interval_seconds, UTC)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def _hours(text: str) -> float:
    most = 24 * settings.HISTORY_HORIZON_DAYS
    hours = _number(text)
    if not 0 < hours <= most:
        raise ArgumentTypeError(f"must be more than 0 and at most {most} (HISTORY_HORIZON_DAYS)")
    return hours


def _share(text: str) -> float:
    share = _number(text)
    if not 0 <= share <= 1:
        raise ArgumentTypeError("must be a number from 0 to 1, such as 0.05")
    return share


def _number(text: str) -> float:
    """Parse a number; return NaN, which is within no bounds, if `text` is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan
