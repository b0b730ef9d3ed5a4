"""The readings of a scenario, in the order in which they arrive.

Registers are of the kind `interval`: a reading carries the kWh since the previous one. A charger
draws AC = DC / efficiency, or its standby power if nobody charges.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from ingestion.readings import MeterReading, Reading, VehicleReading
from ingestion.simulation.days import HOUR_SECONDS, Phase, generator, phases
from ingestion.simulation.scenario import Pairing, Scenario

_VOLTAGE_V: Final = (229.0, 233.0)
_SAG_V_PER_KW: Final = 0.2
_BATTERY_TEMP_CELSIUS: Final = 22.0
_WARMING_CELSIUS_PER_KW: Final = 1.0
_TEMP_LAG_SECONDS: Final = 1_800

_LATE_SECONDS: Final = (5 * 60, 3 * HOUR_SECONDS)
_REPEATED_SECONDS: Final = (0, 10 * 60)


def batches(scenario: Scenario, size: int) -> Iterator[list[Reading]]:
    """Yield the deliveries, `size` at a time, with `out_of_order_share` of each out of order."""
    shuffler = generator(scenario.seed, "order")
    stream = deliveries(scenario)
    while batch := list(islice(stream, size)):
        _swap_some(batch, scenario.out_of_order_share, shuffler)
        yield batch


def deliveries(scenario: Scenario) -> Iterator[Reading]:
    """Yield the readings as they arrive: late ones after newer ones, repeated ones twice."""
    chance = generator(scenario.seed, "deliveries")
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
    vehicles = [_vehicle_readings(scenario, pairing) for pairing in scenario.pairings]
    depot = _Depot(scenario)
    for of_vehicles in zip(*vehicles, strict=True):
        readings, at_depot_kwh = zip(*of_vehicles, strict=True)
        yield [*readings, *depot.meter_readings(readings[0].measured_at, at_depot_kwh)]


class _Depot:
    """The chargers, as their meters see them."""

    def __init__(self, scenario: Scenario) -> None:
        self._noise = generator(scenario.seed, "voltage")
        self._hours = scenario.interval_seconds / HOUR_SECONDS
        self._efficiencies = [pairing.efficiency for pairing in scenario.pairings]
        self._chargers = [
            (charger, self._noise.uniform(*_VOLTAGE_V)) for charger in scenario.chargers
        ]

    def meter_readings(
        self, measured_at: datetime, energies_dc_kwh: Sequence[float]
    ) -> Iterator[MeterReading]:
        """Yield each meter's reading at a tick: what was drawn for the DC of each vehicle here."""
        energies_kwh = self._energies_ac_kwh(energies_dc_kwh)
        for (charger, idle_v), energy_kwh in zip(self._chargers, energies_kwh, strict=True):
            sag_v = energy_kwh / self._hours * _SAG_V_PER_KW
            voltage_v = round(idle_v - sag_v + self._noise.random(), 1)
            energy_kwh = round(energy_kwh or charger.standby_kw * self._hours, 6)
            yield MeterReading(
                meter_id=charger.meter_id,
                energy_ac_kwh=energy_kwh,
                voltage_v=voltage_v,
                measured_at=measured_at,
            )

    def _energies_ac_kwh(self, energies_dc_kwh: Sequence[float]) -> list[float]:
        energies_kwh = [0.0] * len(self._chargers)
        for index, (energy_dc_kwh, efficiency) in enumerate(
            zip(energies_dc_kwh, self._efficiencies, strict=True)
        ):
            energies_kwh[index % len(energies_kwh)] += energy_dc_kwh / efficiency
        return energies_kwh


def _vehicle_readings(
    scenario: Scenario, pairing: Pairing
) -> Iterator[tuple[VehicleReading, float]]:
    """Yield the vehicle's reading of each tick, and how much of its DC it took at the depot."""
    noise = generator(scenario.seed, pairing.vehicle_id, "temperature")
    lag = min(1.0, scenario.interval_seconds / _TEMP_LAG_SECONDS)
    battery_celsius = _BATTERY_TEMP_CELSIUS
    for tick, energy_kwh, at_depot_kwh, phase in _charged(scenario, pairing):
        warm_celsius = _BATTERY_TEMP_CELSIUS + _WARMING_CELSIUS_PER_KW * abs(phase.battery_kw)
        battery_celsius += lag * (warm_celsius - battery_celsius)
        reading = VehicleReading(
            vehicle_id=pairing.vehicle_id,
            energy_dc_kwh=round(energy_kwh, 6),
            soc_percent=round(phase.soc_at(tick), 1),
            battery_temp_celsius=round(battery_celsius + noise.random(), 1),
            measured_at=datetime.fromtimestamp(tick, UTC),
        )
        yield reading, round(at_depot_kwh, 6)


def _charged(scenario: Scenario, pairing: Pairing) -> Iterator[tuple[int, float, float, Phase]]:
    """Yield each tick, the DC energy since the tick before, at the depot too, and the phase.

    Energies are in kWh.
    """
    begin: float = scenario.ticks.start - scenario.interval_seconds
    following = phases(scenario.seed, pairing.vehicle_id, pairing.habits, begin)
    phase = next(following)
    for tick in scenario.ticks:
        energy_kwh = at_depot_kwh = 0.0
        while begin < tick:
            until = min(phase.ends_at, tick)
            charged_kwh = phase.charged_kwh(begin, until)
            energy_kwh += charged_kwh
            at_depot_kwh += 0.0 if phase.is_public else charged_kwh
            begin = until
            if phase.ends_at <= tick:
                phase = next(following)
        yield tick, energy_kwh, at_depot_kwh, phase
