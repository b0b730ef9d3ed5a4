"""Deliver the readings of a simulated fleet, through the HTTP API or directly to the writer."""

import math
import time
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils import timezone
from tqdm import tqdm

from fleet.http.wire import instant
from fleet.links import UnknownDevice
from ingestion.management.arguments import instant_of
from ingestion.management.receivers import DEFAULT_URL, Api, Database, Receiver
from ingestion.readings import MAX_AHEAD
from ingestion.simulation.deliveries import batches
from ingestion.simulation.scenario import Scenario
from ingestion.simulation.sites import MOST_SITES, depots
from ingestion.writer import UnknownDevices

BATCH_SIZE: Final = 5_000


class Command(BaseCommand):
    """Link a simulated fleet, deliver its readings, and say which chargers are faulty."""

    help = "Deliver the readings of a simulated fleet: vehicles SIM-V0001 …, meters SIM-M0001 …"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        share = partial(add, type=_share, metavar="SHARE")
        add("--vehicles", type=_count, default=20, metavar="N", help="default: 20")
        add(
            "--meters",
            type=_count,
            metavar="N",
            help="default: one in ten vehicles shares its charger",
        )
        add(
            "--sites",
            type=int,
            choices=range(MOST_SITES + 1),
            default=MOST_SITES,
            metavar="N",
            help=f"depots with a tariff, up to {MOST_SITES}; default: {MOST_SITES}",
        )
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
        share(
            "--leaking",
            default=0.05,
            help="share of chargers that draw about 100 W while nobody charges; default: 0.05",
        )
        share(
            "--public",
            default=0.1,
            help="share of days on which a vehicle charges at a public charger too; default: 0.1",
        )
        share(
            "--interrupted",
            default=0.1,
            help="share of nights with a pause in the charge; default: 0.1",
        )
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
    receiver = Database() if options["via"] == "writer" else Api(options["url"])
    with closing(receiver):
        _prepare(scenario, options["sites"], receiver)
        return _deliver(scenario, receiver)


def _prepare(scenario: Scenario, sites: int, receiver: Receiver) -> None:
    """Link the fleet and settle it at its sites."""
    for pairing in tqdm(scenario.pairings, desc="links", unit=" vehicles"):
        receiver.link(pairing.vehicle_id, pairing.meter_id, scenario.starts_at)
    for away in tqdm([*scenario.away()], desc="public chargers", unit=" sessions"):
        receiver.unlink(away)
    for depot in depots(scenario, sites):
        receiver.settle(depot)


def _deliver(scenario: Scenario, receiver: Receiver) -> float:
    """Deliver the readings of the fleet; return how many seconds they took."""
    began = time.perf_counter()
    with tqdm(
        total=scenario.delivery_count, desc="readings", unit=" readings", unit_scale=True
    ) as progress:
        for batch in batches(scenario, BATCH_SIZE):
            receiver.deliver(batch)
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
        *_leaking(scenario),
        "\nCompare the efficiency with efficiencyRatio from the engine, for example:",
        f"  /v1/analytics/performance/{(faulty or scenario.pairings)[0].vehicle_id}",
    ]
    return "\n".join(lines)


def _leaking(scenario: Scenario) -> list[str]:
    """Return lines about the leaking chargers; none if there are none."""
    leaking = [charger for charger in scenario.chargers if charger.is_leaking]
    if not leaking:
        return []
    return [
        f"\n{_counted(len(leaking), 'leaking charger')}, with the draw while nobody charges:",
        *(f"  {charger.meter_id}  {1000 * charger.standby_kw:.0f} W" for charger in leaking),
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _scenario(options: dict[str, Any]) -> Scenario:
    """Return the scenario that `options` describe. Errors: `CommandError`."""
    if options["late"] + options["repeated"] > 1:
        raise CommandError("--late and --repeated must add up to at most 1")
    if options["interval"] > options["hours"] * 3600:
        raise CommandError("--interval must not be longer than --hours")
    starts_at, ends_at = _span(options)
    return Scenario(
        vehicles=options["vehicles"],
        meters=options["meters"] or options["vehicles"] - options["vehicles"] // 10,
        starts_at=starts_at,
        ends_at=ends_at,
        interval_seconds=options["interval"],
        seed=options["seed"],
        faulty_share=options["faulty"],
        leaking_share=options["leaking"],
        public_share=options["public"],
        interrupted_share=options["interrupted"],
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
