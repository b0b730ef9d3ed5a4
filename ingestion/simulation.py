"""The readings of a simulated fleet that drives by day and charges at its depot.

Pure and deterministic: no database, no network, no clock. A scenario always yields the same
deliveries, byte for byte and in the same order.

The day of a vehicle, in UTC: between 06:00 and 07:00 it leaves for rounds of an hour, each 48
minutes on the road and 12 on its charger. Between 18:00 and 20:00 it plugs in for the night, and
the depot's load management spreads the charge evenly until it leaves. So every hour of every
vehicle includes some charging, and one simulated hour shows figures as a month does. The plan of a
day depends only on seed, vehicle and date, and readings fall on multiples of the interval. So two
scenarios of one fleet report the same energy for the same minute, and it counts once.

Registers are of the kind `interval`: a reading carries the kWh since the previous one. A charger
draws AC = DC / efficiency, or a little standby power if nobody charges.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count, islice
from typing import Final, NamedTuple

from ingestion.readings import MeterReading, Reading, VehicleReading

HEALTHY_EFFICIENCY: Final = (0.86, 0.91)
FAULTY_EFFICIENCY: Final = (0.60, 0.80)

_HOUR_SECONDS: Final = 3_600
_DAY_SECONDS: Final = 24 * _HOUR_SECONDS
_ROUND_SECONDS: Final = _HOUR_SECONDS
_ROAD_SECONDS: Final = 48 * 60
_LEAVES_AT_HOUR: Final = (6.0, 7.0)
_RETURNS_AT_HOUR: Final = (18.0, 20.0)
# A van: about 25 km per round at 20 kWh per 100 km; an on-board charger of 11 kW.
_BATTERY_KWH: Final = 75.0
_ROAD_KW: Final = (5.0, 7.0)
_TOP_UP_KW: Final = (10.0, 11.0)
_MORNING_SOC_PERCENT: Final = (88.0, 94.0)
# 0.5% of what a vehicle draws in its lowest hour, 0.05% of a day's: too little to make a healthy
# vehicle look faulty.
_STANDBY_KW: Final = 0.003
_VOLTAGE_V: Final = (229.0, 233.0)
_SAG_V_PER_KW: Final = 0.2
_BATTERY_TEMP_CELSIUS: Final = 22.0
_WARMING_CELSIUS_PER_KW: Final = 1.0
_TEMP_LAG_SECONDS: Final = 1_800

_LATE_SECONDS: Final = (5 * 60, 3 * _HOUR_SECONDS)
_REPEATED_SECONDS: Final = (0, 10 * 60)


class Pairing(NamedTuple):
    """A vehicle, its charger's meter, and the share of the charger's AC that arrives as DC."""

    vehicle_id: str
    meter_id: str
    efficiency: float
    is_faulty: bool


@dataclass(frozen=True)
class Scenario:
    """A fleet over a half-open period; shares are from 0 to 1.

    A device reports at each multiple of `interval_seconds` of Unix time in the period.
    """

    vehicles: int
    meters: int
    starts_at: datetime
    ends_at: datetime
    interval_seconds: int = 60
    seed: int = 1
    faulty_share: float = 0.1
    late_share: float = 0.01
    repeated_share: float = 0.01
    out_of_order_share: float = 0.01

    @property
    def ticks(self) -> range:
        """When every device reports, in Unix seconds."""
        step = self.interval_seconds
        first = math.ceil(self.starts_at.timestamp() / step) * step
        return range(first, math.ceil(self.ends_at.timestamp()), step)

    @property
    def reading_count(self) -> int:
        """How many readings there are, each counted once."""
        return len(self.ticks) * (self.vehicles + self.meters)

    @property
    def late_count(self) -> int:
        """How many readings are delivered late."""
        return round(self.reading_count * self.late_share)

    @property
    def repeated_count(self) -> int:
        """How many readings are delivered twice; none of them is late."""
        wanted = round(self.reading_count * self.repeated_share)
        return min(wanted, self.reading_count - self.late_count)

    @property
    def delivery_count(self) -> int:
        """How many deliveries there are, including repeated ones."""
        return self.reading_count + self.repeated_count

    @property
    def meter_ids(self) -> list[str]:
        """The meters of the depot: `SIM-M0001` and so on."""
        return [f"SIM-M{number:04d}" for number in range(1, self.meters + 1)]

    @cached_property
    def pairings(self) -> list[Pairing]:
        """Each vehicle with its meter, in order; vehicles share meters if those are fewer."""
        meter_ids, faulty = self.meter_ids, self._faulty_meters()
        return [
            self._pairing(f"SIM-V{index + 1:04d}", meter_ids[index % self.meters], faulty)
            for index in range(self.vehicles)
        ]

    def _faulty_meters(self) -> set[str]:
        """Draw the faulty chargers among those in use: at least one, unless the share is 0."""
        in_use = self.meter_ids[: self.vehicles]
        wanted = max(round(len(in_use) * self.faulty_share), self.faulty_share > 0)
        return set(_random(self.seed, "faulty").sample(in_use, wanted))

    def _pairing(self, vehicle_id: str, meter_id: str, faulty: set[str]) -> Pairing:
        """A faulty charger wastes the same share for every vehicle; healthy pairs differ."""
        if meter_id in faulty:
            efficiency = _random(self.seed, meter_id).uniform(*FAULTY_EFFICIENCY)
        else:
            efficiency = _random(self.seed, vehicle_id, meter_id).uniform(*HEALTHY_EFFICIENCY)
        return Pairing(vehicle_id, meter_id, efficiency, meter_id in faulty)


def batches(scenario: Scenario, size: int) -> Iterator[list[Reading]]:
    """Yield the deliveries, `size` at a time, with `out_of_order_share` of each out of order."""
    shuffler = _random(scenario.seed, "order")
    stream = deliveries(scenario)
    while batch := list(islice(stream, size)):
        _swap_some(batch, scenario.out_of_order_share, shuffler)
        yield batch


def deliveries(scenario: Scenario) -> Iterator[Reading]:
    """Yield the readings as they arrive: late ones after newer ones, repeated ones twice."""
    chance = _random(scenario.seed, "deliveries")
    mishaps = _mishaps(scenario, chance)
    held: defaultdict[int, list[Reading]] = defaultdict(list)
    for index, fresh in enumerate(_readings(scenario)):
        for number, reading in enumerate(fresh, index * len(fresh)):
            is_late = mishaps.get(number)
            if not is_late:
                yield reading
            if is_late is not None:
                delay = _delay_ticks(chance, is_late, scenario.interval_seconds)
                held[index + delay].append(reading)
        yield from held.pop(index, ())
    for index in sorted(held):
        yield from held[index]


def _mishaps(scenario: Scenario, chance: random.Random) -> dict[int, bool]:
    """Draw the readings, by number, that are late (True) or repeated (False)."""
    late, repeated = scenario.late_count, scenario.repeated_count
    drawn = chance.sample(range(scenario.reading_count), late + repeated)
    return {number: position < late for position, number in enumerate(drawn)}


def _delay_ticks(chance: random.Random, is_late: bool, interval_seconds: int) -> int:
    """Draw how many ticks later a late reading, or the second copy of one, arrives."""
    if is_late:
        return max(1, round(chance.uniform(*_LATE_SECONDS) / interval_seconds))
    return round(chance.uniform(*_REPEATED_SECONDS) / interval_seconds)


def _swap_some(batch: list[Reading], share: float, shuffler: random.Random) -> None:
    """Swap pairs of `batch`, so that `share` of it is out of order."""
    pairs = int(len(batch) * share / 2)
    places = shuffler.sample(range(len(batch)), 2 * pairs)
    for here, there in zip(places[:pairs], places[pairs:], strict=True):
        batch[here], batch[there] = batch[there], batch[here]


def _readings(scenario: Scenario) -> Iterator[list[Reading]]:
    """Yield the readings of each tick: one of every vehicle, then one of every meter."""
    vehicles = [_vehicle_readings(scenario, pairing.vehicle_id) for pairing in scenario.pairings]
    depot = _Depot(scenario)
    for of_vehicles in zip(*vehicles, strict=True):
        yield [*of_vehicles, *depot.meter_readings(of_vehicles)]


class _Depot:
    """The chargers, as their meters see them."""

    def __init__(self, scenario: Scenario) -> None:
        self._noise = _random(scenario.seed, "voltage")
        self._hours = scenario.interval_seconds / _HOUR_SECONDS
        self._efficiencies = [pairing.efficiency for pairing in scenario.pairings]
        self._meters = [
            (meter_id, self._noise.uniform(*_VOLTAGE_V)) for meter_id in scenario.meter_ids
        ]

    def meter_readings(self, of_vehicles: Sequence[VehicleReading]) -> Iterator[MeterReading]:
        """Yield each meter's reading at the tick of `of_vehicles`: what their charging drew."""
        measured_at = of_vehicles[0].measured_at
        energies_kwh = self._energies_ac_kwh(of_vehicles)
        for (meter_id, idle_v), energy_kwh in zip(self._meters, energies_kwh, strict=True):
            sag_v = energy_kwh / self._hours * _SAG_V_PER_KW
            voltage_v = round(idle_v - sag_v + self._noise.random(), 1)
            energy_kwh = round(energy_kwh or _STANDBY_KW * self._hours, 6)
            yield MeterReading(
                meter_id=meter_id,
                energy_ac_kwh=energy_kwh,
                voltage_v=voltage_v,
                measured_at=measured_at,
            )

    def _energies_ac_kwh(self, of_vehicles: Sequence[VehicleReading]) -> list[float]:
        energies_kwh = [0.0] * len(self._meters)
        for index, (reading, efficiency) in enumerate(
            zip(of_vehicles, self._efficiencies, strict=True)
        ):
            energies_kwh[index % len(energies_kwh)] += reading.energy_dc_kwh / efficiency
        return energies_kwh


class _Phase(NamedTuple):
    """A period in which a vehicle's battery charges or discharges at constant power."""

    starts_at: float  # Unix seconds, as `ends_at`
    ends_at: float
    battery_kw: float  # negative on the road
    soc_percent: float  # at the start

    def soc_at(self, instant: float) -> float:
        energy_kwh = self.battery_kw * (instant - self.starts_at) / _HOUR_SECONDS
        return self.soc_percent + 100 * energy_kwh / _BATTERY_KWH

    def charged_kwh(self, since: float, until: float) -> float:
        return max(self.battery_kw, 0.0) * (until - since) / _HOUR_SECONDS


class _Day(NamedTuple):
    """A vehicle's plan for a day."""

    leaves_at: float  # Unix seconds, as `returns_at`
    returns_at: float
    road_kw: float
    top_up_kw: float
    soc_percent: float  # when it leaves


def _vehicle_readings(scenario: Scenario, vehicle_id: str) -> Iterator[VehicleReading]:
    """Yield the vehicle's reading of each tick."""
    noise = _random(scenario.seed, vehicle_id, "temperature")
    lag = min(1.0, scenario.interval_seconds / _TEMP_LAG_SECONDS)
    battery_celsius = _BATTERY_TEMP_CELSIUS
    for tick, energy_kwh, phase in _charged(scenario, vehicle_id):
        warm_celsius = _BATTERY_TEMP_CELSIUS + _WARMING_CELSIUS_PER_KW * abs(phase.battery_kw)
        battery_celsius += lag * (warm_celsius - battery_celsius)
        yield VehicleReading(
            vehicle_id=vehicle_id,
            energy_dc_kwh=round(energy_kwh, 6),
            soc_percent=round(phase.soc_at(tick), 1),
            battery_temp_celsius=round(battery_celsius + noise.random(), 1),
            measured_at=datetime.fromtimestamp(tick, UTC),
        )


def _charged(scenario: Scenario, vehicle_id: str) -> Iterator[tuple[int, float, _Phase]]:
    """Yield each tick with the DC energy since the tick before, in kWh, and the phase it is in."""
    begin: float = scenario.ticks.start - scenario.interval_seconds
    phases = _phases(scenario.seed, vehicle_id, begin)
    phase = next(phases)
    for tick in scenario.ticks:
        energy_kwh = 0.0
        while phase.ends_at <= tick:
            energy_kwh += phase.charged_kwh(begin, phase.ends_at)
            begin = phase.ends_at
            phase = next(phases)
        yield tick, energy_kwh + phase.charged_kwh(begin, tick), phase
        begin = tick


def _phases(seed: int, vehicle_id: str, begin: float) -> Iterator[_Phase]:
    """Yield the phases of a vehicle in order, starting with the one at `begin`."""
    today = _day(seed, vehicle_id, int(begin // _DAY_SECONDS) - 1)
    for number in count(int(begin // _DAY_SECONDS)):
        tomorrow = _day(seed, vehicle_id, number)
        yield from (phase for phase in _day_and_night(today, tomorrow) if phase.ends_at > begin)
        today = tomorrow


def _day(seed: int, vehicle_id: str, number: int) -> _Day:
    """Return the plan of day `number` of Unix time."""
    draw = _random(seed, vehicle_id, number).uniform
    return _Day(
        leaves_at=number * _DAY_SECONDS + draw(*_LEAVES_AT_HOUR) * _HOUR_SECONDS,
        returns_at=number * _DAY_SECONDS + draw(*_RETURNS_AT_HOUR) * _HOUR_SECONDS,
        road_kw=draw(*_ROAD_KW),
        top_up_kw=draw(*_TOP_UP_KW),
        soc_percent=draw(*_MORNING_SOC_PERCENT),
    )


def _day_and_night(today: _Day, tomorrow: _Day) -> Iterator[_Phase]:
    """Yield the rounds of `today`, then the night's charge, which ends when `tomorrow` begins."""
    soc_percent = today.soc_percent
    for starts_at, ends_at, battery_kw in _rounds(today):
        phase = _Phase(starts_at, ends_at, battery_kw, soc_percent)
        soc_percent = phase.soc_at(ends_at)
        yield phase
    night_hours = (tomorrow.leaves_at - today.returns_at) / _HOUR_SECONDS
    missing_kwh = (tomorrow.soc_percent - soc_percent) / 100 * _BATTERY_KWH
    yield _Phase(today.returns_at, tomorrow.leaves_at, missing_kwh / night_hours, soc_percent)


def _rounds(day: _Day) -> Iterator[tuple[float, float, float]]:
    """Yield start, end and power into the battery of each stretch on the road and each top-up."""
    starts_at = day.leaves_at
    while starts_at < day.returns_at:
        back_at = min(starts_at + _ROAD_SECONDS, day.returns_at)
        ends_at = min(starts_at + _ROUND_SECONDS, day.returns_at)
        yield starts_at, back_at, -day.road_kw
        yield back_at, ends_at, day.top_up_kw
        starts_at = ends_at


def _random(*names: object) -> random.Random:
    """Return a generator seeded with these names: the same numbers always and everywhere."""
    return random.Random(" ".join(map(str, names)))  # noqa: S311 -- a fleet, not a secret
