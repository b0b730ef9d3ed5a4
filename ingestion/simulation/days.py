"""What a vehicle does: it drives by day, and charges at its depot or, now and then, elsewhere.

A day, in UTC: between 06:00 and 07:00 the vehicle leaves for rounds of an hour, each 48 minutes on
the road and 12 on its charger. Between 18:00 and 20:00 it plugs in for the night, and the depot's
load management spreads the charge evenly until it leaves. Vehicles that share a charger take turns:
the night is divided among them. On some days a vehicle ends a round at a public charger, on some
nights its charge is interrupted. The plan of a day depends only on seed, vehicle and date.
"""

import random
from collections.abc import Iterator
from itertools import count
from typing import Final, NamedTuple

HOUR_SECONDS: Final = 3_600

_DAY_SECONDS: Final = 24 * HOUR_SECONDS
_ROUND_SECONDS: Final = HOUR_SECONDS
_ROAD_SECONDS: Final = 48 * 60
_LEAVES_AT_HOUR: Final = (6.0, 7.0)
_RETURNS_AT_HOUR: Final = (18.0, 20.0)
# When all vehicles are in, and none has left.
_NIGHT_FROM_HOUR: Final = 20
_NIGHT_HOURS: Final = 10
# A van: about 25 km per round at 20 kWh per 100 km; an on-board charger of 11 kW.
_BATTERY_KWH: Final = 75.0
_ROAD_KW: Final = (5.0, 7.0)
_TOP_UP_KW: Final = (10.0, 11.0)
_MORNING_SOC_PERCENT: Final = (88.0, 94.0)
# A public charger of 22 kW, on one of the later rounds: the battery has room by then.
_PUBLIC_KW: Final = (15.0, 19.0)
_PUBLIC_ROUNDS: Final = (5, 9)
_PUBLIC_ROAD_SECONDS: Final = 20 * 60
# Longer than the pause that a session lasts through, shorter than an hour.
_INTERRUPTION_SECONDS: Final = (20 * 60, 50 * 60)


class Habits(NamedTuple):
    """How a vehicle charges.

    Shares are of its days and nights, from 0 to 1. Of `sharing` vehicles at its charger, it is the
    one whose turn is `turn`, counted from 0.
    """

    public_share: float = 0.0
    interrupted_share: float = 0.0
    turn: int = 0
    sharing: int = 1


class Phase(NamedTuple):
    """A period in which a vehicle's battery charges or discharges at constant power."""

    starts_at: float  # Unix seconds, as `ends_at`
    ends_at: float
    battery_kw: float  # negative on the road
    soc_percent: float  # at the start
    is_public: bool = False  # at a public charger

    def soc_at(self, instant: float) -> float:
        """Return the state of charge at an instant of the phase, in percent."""
        energy_kwh = self.battery_kw * (instant - self.starts_at) / HOUR_SECONDS
        return self.soc_percent + 100 * energy_kwh / _BATTERY_KWH

    def charged_kwh(self, since: float, until: float) -> float:
        """Return the DC energy taken between two instants of the phase."""
        return max(self.battery_kw, 0.0) * (until - since) / HOUR_SECONDS


class _Day(NamedTuple):
    """A vehicle's plan for a day; `public_round` is null if it charges at its depot alone."""

    leaves_at: float  # Unix seconds, as `returns_at`
    returns_at: float
    road_kw: float
    top_up_kw: float
    soc_percent: float  # when it leaves
    public_round: int | None
    public_kw: float
    interruption_seconds: float
    interrupted_after: float  # of the night's charge, as a share

    @property
    def midnight(self) -> float:
        return self.leaves_at // _DAY_SECONDS * _DAY_SECONDS


class _Leg(NamedTuple):
    """A part of a day, before the state of charge is known."""

    starts_at: float
    ends_at: float
    battery_kw: float
    is_public: bool = False


def phases(seed: int, vehicle_id: str, habits: Habits, begin: float) -> Iterator[Phase]:
    """Yield the phases of a vehicle in order, without end, starting with the one at `begin`."""
    number = int(begin // _DAY_SECONDS)
    today = _day(seed, vehicle_id, habits, number - 1)
    for following in count(number):
        tomorrow = _day(seed, vehicle_id, habits, following)
        day = _day_and_night(today, tomorrow, habits)
        yield from (phase for phase in day if phase.ends_at > begin)
        today = tomorrow


def generator(*names: object) -> random.Random:
    """Return a generator seeded with these names: the same numbers always and everywhere."""
    return random.Random(" ".join(map(str, names)))  # noqa: S311 -- a fleet, not a secret


def _day(seed: int, vehicle_id: str, habits: Habits, number: int) -> _Day:
    """Return the plan of day `number` of Unix time."""
    draw = generator(seed, vehicle_id, number).uniform
    chance = generator(seed, vehicle_id, number, "habits")
    is_public = chance.random() < habits.public_share
    public_round = chance.randint(*_PUBLIC_ROUNDS)
    public_kw = chance.uniform(*_PUBLIC_KW)
    is_interrupted = chance.random() < habits.interrupted_share
    return _Day(
        leaves_at=number * _DAY_SECONDS + draw(*_LEAVES_AT_HOUR) * HOUR_SECONDS,
        returns_at=number * _DAY_SECONDS + draw(*_RETURNS_AT_HOUR) * HOUR_SECONDS,
        road_kw=draw(*_ROAD_KW),
        top_up_kw=draw(*_TOP_UP_KW),
        soc_percent=draw(*_MORNING_SOC_PERCENT),
        public_round=public_round if is_public else None,
        public_kw=public_kw,
        interruption_seconds=is_interrupted * chance.uniform(*_INTERRUPTION_SECONDS),
        interrupted_after=chance.uniform(0.2, 0.8),
    )


def _day_and_night(today: _Day, tomorrow: _Day, habits: Habits) -> Iterator[Phase]:
    """Yield the rounds of `today`, then the night, which ends when `tomorrow` begins."""
    soc_percent = today.soc_percent
    for leg in _rounds(today):
        phase = Phase(leg.starts_at, leg.ends_at, leg.battery_kw, soc_percent, leg.is_public)
        soc_percent = phase.soc_at(leg.ends_at)
        yield phase
    missing_kwh = (tomorrow.soc_percent - soc_percent) / 100 * _BATTERY_KWH
    for leg in _night(today, tomorrow, habits, missing_kwh):
        phase = Phase(leg.starts_at, leg.ends_at, leg.battery_kw, soc_percent)
        soc_percent = phase.soc_at(leg.ends_at)
        yield phase


def _rounds(day: _Day) -> Iterator[_Leg]:
    """Yield each stretch on the road, and the charge that follows it."""
    starts_at = day.leaves_at
    for number in count():
        if starts_at >= day.returns_at:
            return
        ends_at = min(starts_at + _ROUND_SECONDS, day.returns_at)
        is_public = number == day.public_round
        road_seconds = _PUBLIC_ROAD_SECONDS if is_public else _ROAD_SECONDS
        back_at = min(starts_at + road_seconds, day.returns_at)
        yield _Leg(starts_at, back_at, -day.road_kw)
        yield _Leg(back_at, ends_at, day.public_kw if is_public else day.top_up_kw, is_public)
        starts_at = ends_at


def _night(today: _Day, tomorrow: _Day, habits: Habits, energy_kwh: float) -> Iterator[_Leg]:
    """Yield the night: the vehicle waits for its turn, charges, and waits until it leaves."""
    starts_at, ends_at = _turn(today, tomorrow, habits)
    paused_at = starts_at + today.interrupted_after * (ends_at - starts_at)
    goes_on_at = min(paused_at + today.interruption_seconds, ends_at)
    hours = (ends_at - starts_at - (goes_on_at - paused_at)) / HOUR_SECONDS
    battery_kw = energy_kwh / hours
    yield _Leg(today.returns_at, starts_at, 0.0)
    yield _Leg(starts_at, paused_at, battery_kw)
    yield _Leg(paused_at, goes_on_at, 0.0)
    yield _Leg(goes_on_at, ends_at, battery_kw)
    yield _Leg(ends_at, tomorrow.leaves_at, 0.0)


def _turn(today: _Day, tomorrow: _Day, habits: Habits) -> tuple[float, float]:
    """Return when in the night the charger is the vehicle's, in Unix seconds."""
    turn_seconds = _NIGHT_HOURS * HOUR_SECONDS / habits.sharing
    starts_at = today.midnight + _NIGHT_FROM_HOUR * HOUR_SECONDS + habits.turn * turn_seconds
    is_first, is_last = habits.turn == 0, habits.turn == habits.sharing - 1
    return (
        today.returns_at if is_first else starts_at,
        tomorrow.leaves_at if is_last else starts_at + turn_seconds,
    )
