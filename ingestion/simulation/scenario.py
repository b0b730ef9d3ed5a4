"""Which vehicles, chargers and mishaps a simulation has."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import takewhile
from typing import Final, NamedTuple

from ingestion.simulation.days import Habits, generator, phases

HEALTHY_EFFICIENCY: Final = (0.86, 0.91)
FAULTY_EFFICIENCY: Final = (0.60, 0.80)
# At most 0.5% of what a vehicle draws in its lowest hour, 0.05% of a day's: too little to make a
# healthy vehicle look faulty.
STANDBY_KW: Final = (0.001, 0.003)
# Two or three kWh on a day without charging.
LEAKING_KW: Final = (0.09, 0.12)


class Pairing(NamedTuple):
    """A vehicle, its charger's meter, and the share of the charger's AC that arrives as DC."""

    vehicle_id: str
    meter_id: str
    efficiency: float
    is_faulty: bool
    habits: Habits


class Charger(NamedTuple):
    """A charger, by its meter, and what it draws while nobody charges."""

    meter_id: str
    standby_kw: float
    is_leaking: bool


class Away(NamedTuple):
    """When a vehicle charges elsewhere, and is not linked to its meter."""

    vehicle_id: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Scenario:
    """A fleet over a half-open period; shares are from 0 to 1.

    A device reports at each multiple of `interval_seconds` of Unix time in the period. So two
    scenarios of one fleet report the same energy for the same minute, and it counts once.
    """

    vehicles: int
    meters: int
    starts_at: datetime
    ends_at: datetime
    interval_seconds: int = 60
    seed: int = 1
    faulty_share: float = 0.1
    leaking_share: float = 0.05
    public_share: float = 0.1
    interrupted_share: float = 0.1
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
    def chargers(self) -> list[Charger]:
        """Each charger, in order."""
        leaking = set(self._drawn("leaking", self.meter_ids, self.leaking_share))
        return [self._charger(meter_id, meter_id in leaking) for meter_id in self.meter_ids]

    @cached_property
    def pairings(self) -> list[Pairing]:
        """Each vehicle with its meter, in order; vehicles share meters if those are fewer."""
        meter_ids, faulty = self.meter_ids, self._faulty_meters()
        return [
            self._pairing(index, meter_ids[index % self.meters], faulty)
            for index in range(self.vehicles)
        ]

    def away(self) -> Iterator[Away]:
        """Yield when vehicles charge elsewhere: whole ticks, so that no reading is divided."""
        step = self.interval_seconds
        begin, end = self.starts_at.timestamp(), self.ends_at.timestamp()
        for pairing in self.pairings:
            of_vehicle = phases(self.seed, pairing.vehicle_id, pairing.habits, begin)
            for phase in takewhile(lambda phase: phase.starts_at < end, of_vehicle):
                if phase.is_public:
                    yield Away(
                        pairing.vehicle_id,
                        datetime.fromtimestamp(phase.starts_at // step * step, UTC),
                        datetime.fromtimestamp(math.ceil(phase.ends_at / step) * step, UTC),
                    )

    def _faulty_meters(self) -> set[str]:
        """Draw the faulty chargers among those in use: at least one, unless the share is 0."""
        in_use = self.meter_ids[: self.vehicles]
        faulty = self._drawn("faulty", in_use, self.faulty_share)
        return set(faulty or self._drawn("faulty", in_use, 1)[: self.faulty_share > 0])

    def _drawn(self, name: str, meter_ids: list[str], share: float) -> list[str]:
        return generator(self.seed, name).sample(meter_ids, round(len(meter_ids) * share))

    def _charger(self, meter_id: str, is_leaking: bool) -> Charger:
        draw = generator(self.seed, meter_id, "standby").uniform
        return Charger(meter_id, draw(*(LEAKING_KW if is_leaking else STANDBY_KW)), is_leaking)

    def _pairing(self, index: int, meter_id: str, faulty: set[str]) -> Pairing:
        """A faulty charger wastes the same share for every vehicle; healthy pairs differ."""
        vehicle_id = f"SIM-V{index + 1:04d}"
        if meter_id in faulty:
            efficiency = generator(self.seed, meter_id).uniform(*FAULTY_EFFICIENCY)
        else:
            efficiency = generator(self.seed, vehicle_id, meter_id).uniform(*HEALTHY_EFFICIENCY)
        return Pairing(vehicle_id, meter_id, efficiency, meter_id in faulty, self._habits(index))

    def _habits(self, index: int) -> Habits:
        turn, first = divmod(index, self.meters)
        return Habits(
            self.public_share,
            self.interrupted_share,
            turn,
            sharing=len(range(first, self.vehicles, self.meters)),
        )
