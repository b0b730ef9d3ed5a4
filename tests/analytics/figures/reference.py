"""What figures are, in plain Python over all of history: the judge of the truth test.

Slow and obvious, from the rules alone. Shares no line with the product, and knows neither sums,
marks nor caches. `docs/energy.md` has the rules, with examples.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from django.conf import settings
from django.db import connection

MINUTE = timedelta(minutes=1)
INSTANT = timedelta(0)
# Below this number of readings, coverage says nothing.
ENOUGH_READINGS = 10
# Where a window ends between two readings, coverage of this time is an estimate.
OPEN_END = 15 * MINUTE

Link = tuple[str, str, datetime, datetime | None]


class Reading(NamedTuple):
    """A counted reading; `value` is as reported, in the device's unit."""

    at: datetime
    value: float
    temp: float | None = None


class Step(NamedTuple):
    """Energy over an interval, spread evenly; at an instant if `begins` equals `ends`."""

    begins: datetime
    ends: datetime
    kwh: float

    def part(self, start: datetime, end: datetime) -> float:
        """Return how much of the step lies in [start, end), from 0 to 1."""
        if self.begins == self.ends:
            return 1.0 if start <= self.ends < end else 0.0
        overlap = min(self.ends, end) - max(self.begins, start)
        return max(overlap, INSTANT) / (self.ends - self.begins)


class Device(NamedTuple):
    """A device's counted readings in time order, and the settings that say what they mean."""

    readings: list[Reading]
    register: str = "interval"
    scale: float = 1.0
    max_power_kw: float | None = None
    rolls_over_at_kwh: float | None = None
    cadence_seconds: float | None = None


class Verdict(NamedTuple):
    """What a reading of a counter means; `rule` is its number in the rules.

    `kwh` is None where the reading adds no step. Counting goes on from it, unless it is ignored.
    """

    rule: int
    kwh: float | None
    goes_on: bool = True
    is_suspect: bool = False


class Curve:
    """The energy of a device over time."""

    def __init__(self, device: Device) -> None:
        self.readings = device.readings
        self.steps: list[Step] = []
        self.suspects: list[datetime] = []
        self.rules: set[str] = set()
        if device.register == "interval":
            self._follow_intervals(device)
        else:
            self._follow_counter(device)

    def _follow_intervals(self, device: Device) -> None:
        before: datetime | None = None
        for at, value, _ in device.readings:
            begins = _interval_begins(before, at, device.cadence_seconds)
            kwh = value * device.scale
            power_kw = device.max_power_kw
            if power_kw is not None and begins < at and kwh > most_kwh(power_kw, at - begins):
                self.suspects.append(at)
                self.rules.add("interval: not plausible")
                self.steps.append(Step(begins, at, 0.0))  # left out, but the device reported
            else:
                self.steps.append(Step(begins, at, kwh))
                kind = "at its instant" if begins == at else "spread over a cadence"
                kind = "spread from the one before" if begins == before else kind
                self.rules.add(f"interval: {kind}")
            before = at

    def _follow_counter(self, device: Device) -> None:
        readings = [(at, value * device.scale) for at, value, _ in device.readings]
        if not readings:
            return
        # Counting goes on from `b`, read last at `b_at`; it last rose at `rose_at`.
        b_at, b = readings[0]
        rose_at = b_at
        power_kw = device.max_power_kw
        if power_kw is None:
            power_kw = settings.DEFAULT_MAX_POWER_KW
        for number, (at, v) in enumerate(readings[1:], 1):
            w = next((later for _, later in readings[number + 1 :] if later != v), None)
            most = most_kwh(power_kw, at - rose_at)
            verdict = judged(b, v, w, lambda rise, most=most: rise <= most, device)
            self.rules.add(f"{device.register}: rule {verdict.rule}")
            if verdict.is_suspect:
                self.suspects.append(at)
            if verdict.kwh is not None or verdict.goes_on:
                self.steps.append(Step(b_at, at, verdict.kwh or 0.0))
            if verdict.goes_on:
                if v > b or verdict.kwh:
                    rose_at = at
                b_at, b = at, v

    def kwh(self, start: datetime, end: datetime) -> float:
        return sum(step.kwh * step.part(start, end) for step in self.steps)

    def covered(self, start: datetime, end: datetime) -> float:
        """Return the part of [start, end) that lies in intervals of steps; of an instant 0 or 1."""
        if start == end:
            return float(
                any(
                    step.begins < start <= step.ends or step.begins == step.ends == start
                    for step in self.steps
                )
            )
        inside = (min(step.ends, end) - max(step.begins, start) for step in self.steps)
        return sum((max(part, INSTANT) for part in inside), INSTANT) / (end - start)

    def read_in(self, start: datetime, end: datetime) -> list[Reading]:
        return [reading for reading in self.readings if start <= reading.at < end]

    def suspects_in(self, start: datetime, end: datetime) -> int:
        return sum(start <= at < end for at in self.suspects)


def judged(
    b: float, v: float, w: float | None, is_plausible: Callable[[float], bool], device: Device
) -> Verdict:
    """Return what `v` means where counting goes on from `b`, and `w` is the next other value."""
    if w is not None and b <= w < v and w - b < v - w:
        return Verdict(1, None, goes_on=False, is_suspect=not is_plausible(v - b))
    if v >= b and is_plausible(v - b):
        return Verdict(2, v - b)
    if v >= b:
        return Verdict(3, None, goes_on=w is not None and w >= v, is_suspect=True)
    if device.register == "session_counter":
        return _fresh_start(4, v, is_plausible)
    if device.rolls_over_at_kwh is not None:
        over = v + device.rolls_over_at_kwh - b
        if over >= 0 and is_plausible(over):
            return Verdict(5, over)
    if w is not None and w >= b:
        return Verdict(6, None, goes_on=False)
    if v <= b / 10:
        return _fresh_start(7, v, is_plausible)
    return Verdict(8, 0.0)


def _fresh_start(rule: int, v: float, is_plausible: Callable[[float], bool]) -> Verdict:
    if is_plausible(v):
        return Verdict(rule, v)
    return Verdict(rule, None, is_suspect=True)


def _interval_begins(
    before: datetime | None, at: datetime, cadence_seconds: float | None
) -> datetime:
    if cadence_seconds is None:
        return before if before and at - before <= 75 * MINUTE else at
    cadence = timedelta(seconds=cadence_seconds)
    if before and at - before <= max(3 * cadence, 15 * MINUTE):
        return before
    return at - cadence


def most_kwh(power_kw: float, length: timedelta) -> float:
    """Return the energy up to which a rise in that time is plausible."""
    return 1.1 * power_kw * (length + MINUTE).total_seconds() / 3600


class World(NamedTuple):
    """All that figures follow from."""

    meters: dict[str, Device]
    vehicles: dict[str, Device]
    links: list[Link]

    @classmethod
    def now(cls) -> "World":
        """Return what is committed at this moment."""
        return cls(_devices("meter", "ac", "NULL"), _devices("vehicle", "dc"), _links())

    def rules_hit(self) -> set[str]:
        """Return which rules of registers decide something in it."""
        devices = (*self.meters.values(), *self.vehicles.values())
        return set().union(*(Curve(device).rules for device in devices))


class Weighed(NamedTuple):
    """Energy, and the least and the most of it that flowed while the other device reported.

    The two differ by what an hour that is covered in part may be taken for (the energy that flowed
    in its covered part, or as large a part of its energy) and by what is an estimate.
    """

    kwh: float = 0.0
    least_covered_kwh: float = 0.0
    most_covered_kwh: float = 0.0

    def plus(self, kwh: float, *covered_kwh: float) -> "Weighed":
        least_kwh, most_kwh = min(covered_kwh), max(covered_kwh)
        return Weighed(
            self.kwh + kwh, self.least_covered_kwh + least_kwh, self.most_covered_kwh + most_kwh
        )

    def coverage(self, readings: int) -> tuple[float, float] | None:
        """Return the covered part, at least and at most; None if there is nothing to judge by."""
        if readings < ENOUGH_READINGS or self.kwh <= 0:
            return None
        return self.least_covered_kwh / self.kwh, self.most_covered_kwh / self.kwh


class Account(NamedTuple):
    """A vehicle's AC, and the DC that it is compared with."""

    source: str = "none"
    ac: Weighed = Weighed()
    dc: Weighed = Weighed()
    meter_readings: int = 0
    suspects: int = 0


def figures(
    world: World,
    vehicle_id: str,
    start: datetime,
    end: datetime,
    around: tuple[datetime, datetime] | None = None,
) -> dict[str, object]:
    """Return the figures of a vehicle over [start, end), by their names on the wire.

    A vehicle without a link in the window `around` a piece shares the AC of all meters without one,
    over that window. Nothing else depends on what cuts time.
    """
    around = around or (start, end)
    own = Curve(world.vehicles[vehicle_id])
    links = [
        link
        for link in world.links
        if link[2] < around[1] and (link[3] is None or link[3] > around[0])
    ]
    readings, dc_kwh = own.read_in(start, end), own.kwh(start, end)
    account = Account()
    if any(vehicle == vehicle_id for vehicle, *_ in links):
        account = _of_its_meters(world, vehicle_id, start, end, around, links)
    elif readings or dc_kwh:
        account = _of_the_fleet(world, dc_kwh, around, links)
    temps = [reading.temp for reading in readings if reading.temp is not None]
    ac_kwh, compared_kwh = account.ac.kwh, account.dc.kwh
    is_metered = account.source in ("linked", "shared")
    return {
        "energyConsumedAc": ac_kwh,
        "energyDeliveredDc": dc_kwh,
        "efficiencyRatio": 100 * compared_kwh / ac_kwh if ac_kwh > 0 else None,
        "averageBatteryTemp": sum(temps) / len(temps) if temps else None,
        "acSource": account.source,
        "dataPoints": {"vehicle": len(readings), "meter": account.meter_readings},
        "coverage": {
            "vehicle": account.ac.coverage(len(readings)) if is_metered else None,
            "meter": account.dc.coverage(account.meter_readings) if is_metered else None,
        },
        "suspectSteps": own.suspects_in(start, end) + account.suspects,
    }


def _of_its_meters(
    world: World,
    vehicle_id: str,
    start: datetime,
    end: datetime,
    around: tuple[datetime, datetime],
    links: list[Link],
) -> Account:
    vehicles = {i: Curve(device) for i, device in world.vehicles.items()}
    own = vehicles[vehicle_id]
    source, ac, dc, readings, suspects = "linked", Weighed(), Weighed(), 0, 0
    for meter_id, begins, ends, beside in _together(vehicle_id, *around, links):
        source = "shared" if len(beside) > 1 else source
        begins, ends = max(begins, start), min(ends, end)
        if begins >= ends:
            continue
        meter = Curve(world.meters[meter_id])
        readings += len(meter.read_in(begins, ends))
        suspects += meter.suspects_in(begins, ends)
        for hour in _hours(begins, ends, end - OPEN_END):
            shares = [_share(step, vehicle_id, beside, vehicles) for step in meter.steps]
            is_estimated = hour[0] >= end - OPEN_END
            ac = _weighed(ac, meter.steps, shares, hour, own, is_estimated)
            dc = _weighed(dc, own.steps, [1.0] * len(own.steps), hour, meter, is_estimated)
    return Account(source, ac, dc, readings, suspects)


def _of_the_fleet(
    world: World, dc_kwh: float, around: tuple[datetime, datetime], links: list[Link]
) -> Account:
    linked = {device_id for link in links for device_id in link[:2]}
    free = [Curve(device) for i, device in world.meters.items() if i not in linked]
    alike = [Curve(device) for i, device in world.vehicles.items() if i not in linked]
    readings = sum(len(meter.read_in(*around)) for meter in free)
    ac_kwh = sum(meter.kwh(*around) for meter in free)
    if not readings and not ac_kwh:
        return Account()
    share = dc_kwh / sum(vehicle.kwh(*around) for vehicle in alike) if dc_kwh else 0.0
    return Account("fleet", Weighed(ac_kwh * share), Weighed(dc_kwh), readings)


def _weighed(
    so_far: Weighed,
    steps: list[Step],
    shares: list[float],
    span: tuple[datetime, datetime],
    other: Curve,
    is_estimated: bool,
) -> Weighed:
    """Add the energy of a span, at most an hour, weighed by what the other device reported."""
    kwh = exactly_kwh = 0.0
    for step, share in zip(steps, shares, strict=True):
        if part_kwh := step.kwh * share * step.part(*span):
            kwh += part_kwh
            exactly_kwh += part_kwh * other.covered(*_overlap(step, *span))
    if is_estimated:
        return so_far.plus(kwh, 0.0, kwh)
    return so_far.plus(kwh, exactly_kwh, kwh * other.covered(*span))


def _hours(start: datetime, end: datetime, cut: datetime) -> Iterable[tuple[datetime, datetime]]:
    """Cut [start, end) at whole hours, and once more."""
    while start < end:
        hour = start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        stop = min(hour, end, cut if start < cut else end)
        yield start, stop
        start = stop


def _share(step: Step, vehicle_id: str, beside: list[str], vehicles: dict[str, Curve]) -> float:
    """Return a vehicle's share of a meter's step, among those linked `beside` each other."""
    taken = {other: vehicles[other].kwh(step.begins, step.ends) for other in beside}
    if sum(taken.values()) > 0:
        return taken[vehicle_id] / sum(taken.values())
    return 1 / len(beside)


def _overlap(step: Step, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the part of [start, end) in a step's interval; empty at the instant of a step."""
    begins, ends = max(step.begins, start), min(step.ends, end)
    return (step.ends, step.ends) if begins >= ends else (begins, ends)


def _together(
    vehicle_id: str, start: datetime, end: datetime, links: list[Link]
) -> Iterable[tuple[str, datetime, datetime, list[str]]]:
    """Yield the spans of a vehicle's links: meter, start, end, all vehicles linked to it then."""
    for vehicle, meter, begins, ends in links:
        if vehicle != vehicle_id:
            continue
        at_meter = [link for link in links if link[1] == meter]
        bounds = {max(begins, start), min(ends or end, end)}
        bounds |= {
            at
            for *_, other_begins, other_ends in at_meter
            for at in (other_begins, other_ends)
            if at and min(bounds) < at < max(bounds)
        }
        for piece_start, piece_end in pairwise(sorted(bounds)):
            beside = [
                other
                for other, _, other_begins, other_ends in at_meter
                if other_begins <= piece_start and (other_ends is None or piece_end <= other_ends)
            ]
            yield meter, piece_start, piece_end, beside


def _devices(kind: str, current: str, temp: str = "battery_temp_celsius") -> dict[str, Device]:
    """Return every device; a reading that went to the archive is in history if it is a register."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT {kind}_id, energy_register, scale, max_power_kw, rolls_over_at_kwh,
                coalesce(interval_seconds, cadence_seconds)
            FROM fleet_{kind} LEFT JOIN analytics_{kind}cadence USING ({kind}_id)
            """
        )
        devices = {row[0]: Device([], *row[1:]) for row in cursor.fetchall()}
        cursor.execute(
            f"""
            SELECT {kind}_id, measured_at, kwh, temp
            FROM (
                SELECT {kind}_id, measured_at, energy_{current}_kwh AS kwh, NULL::float8 AS temp,
                    '-infinity'::timestamptz AS received_at, 0 AS id
                FROM ingestion_{kind}register
                UNION ALL
                SELECT {kind}_id, measured_at, energy_{current}_kwh, {temp}, received_at, id
                FROM ingestion_{kind}reading
            ) AS delivered
            ORDER BY measured_at, received_at, id
            """
        )
        for device_id, *reading in cursor.fetchall():
            if device_id not in devices:
                continue
            counted = devices[device_id].readings
            if counted and counted[-1].at == reading[0]:
                counted.pop()
            counted.append(Reading(*reading))
    return devices


def _links() -> list[Link]:
    """Return all links, each as long as the vehicle stayed at the meter."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT vehicle_id, meter_id, lower(valid_during), upper(valid_during) "
            "FROM fleet_vehiclemeterlink ORDER BY vehicle_id, valid_during"
        )
        rows = cursor.fetchall()
    links: list[Link] = []
    for vehicle, meter, begins, ends in rows:
        if links and links[-1][:2] == (vehicle, meter) and links[-1][3] == begins:
            begins = links.pop()[2]
        links.append((vehicle, meter, begins, ends))
    return links
