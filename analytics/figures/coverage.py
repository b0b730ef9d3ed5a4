"""Coverage: how much energy flowed while the device at the other end was silent.

A device that sleeps between charges was not silent while energy flowed. See docs/energy.md.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.conf import settings

from analytics.figures.curve import Step, Stretch
from analytics.figures.energy import Energy, Span, meter_energies, vehicle_energies
from analytics.figures.history import METERS, VEHICLES, Source
from analytics.figures.links import Slice
from analytics.figures.sharing import shared_energies

# A gap that the window ends in, and that is no longer than this, is weighed by the mean power of
# the readings before: nearly every window that ends now has one.
_OPEN_END: Final = timedelta(minutes=15)


class Pair(NamedTuple):
    """A slice of a vehicle's links, with the energies of the meter and of the vehicle over it."""

    vehicle_id: str
    slice: Slice
    meter: Energy
    vehicle: Energy
    energy_ac_kwh: float


class Silent(NamedTuple):
    """AC that flowed while the vehicle was silent, and DC while the meter was, in kWh."""

    energy_ac_kwh: float = 0.0
    energy_dc_kwh: float = 0.0


def silent_energies(pairs: Sequence[Pair]) -> list[Silent]:
    """Return what flowed in the gaps of the devices of each pair.

    No statement, unless there are gaps while energy flowed.
    """
    gaps_of_vehicles = _gaps(
        VEHICLES, {pair.slice.of(pair.vehicle_id): pair.vehicle for pair in pairs}
    )
    gaps_of_meters = _gaps(METERS, {pair.slice.meter: pair.meter for pair in pairs})
    ac = _Weighing(lambda pair, gap: Slice(Span(pair.slice.meter.device_id, *gap), _sharers(pair)))
    dc = _Weighing(lambda pair, gap: Slice(Span(pair.vehicle_id, *gap), frozenset()))
    for pair in pairs:
        vehicle, meter = pair.slice.of(pair.vehicle_id), pair.slice.meter
        ac.add(pair, gaps_of_vehicles[vehicle], meter, pair.meter, pair.energy_ac_kwh)
        dc.add(pair, gaps_of_meters[meter], vehicle, pair.vehicle, pair.vehicle.energy_kwh)
    shares = shared_energies(ac.asked)
    alone = meter_energies(cut.meter for cut in ac.asked if not cut.is_shared)
    taken = vehicle_energies(cut.meter for cut in dc.asked)
    return [
        Silent(
            ac.estimated[number]
            + sum(
                shares[cut][pair.vehicle_id]
                if cut.is_shared
                else alone.get(cut.meter, _NOTHING).energy_kwh
                for cut in ac.of_pairs[number]
            ),
            dc.estimated[number]
            + sum(taken.get(cut.meter, _NOTHING).energy_kwh for cut in dc.of_pairs[number]),
        )
        for number, pair in enumerate(pairs)
    ]


_NOTHING: Final = Energy()


def _sharers(pair: Pair) -> frozenset[str]:
    return pair.slice.vehicle_ids


class _Weighing:
    """The gaps to be weighed, by pair: those that the window ends in are estimated."""

    def __init__(self, span_of: Callable[[Pair, Stretch], Slice]) -> None:
        self._span_of = span_of
        self.of_pairs: list[list[Slice]] = []
        self.estimated: list[float] = []

    @property
    def asked(self) -> list[Slice]:
        return [cut for own in self.of_pairs for cut in own]

    def add(
        self, pair: Pair, gaps: Sequence[Stretch], other: Span, flowed: Energy, energy_kwh: float
    ) -> None:
        """Add the gaps of one end of a pair; `flowed` is the energy at the `other` end."""
        self.of_pairs.append([])
        self.estimated.append(0.0)
        if not flowed.energy_kwh:
            return
        for gap in gaps:
            last = _open_end(flowed, other) if gap[1] == other.ends_at else None
            if last is not None:
                starts_at, ends_at, last_kwh = last
                if ends_at <= gap[0]:
                    continue
                if starts_at <= gap[0] and ends_at - gap[0] <= _OPEN_END:
                    part = (ends_at - gap[0]) / (ends_at - starts_at)
                    share = energy_kwh / flowed.energy_kwh
                    self.estimated[-1] += (last_kwh or 0.0) * part * share
                    continue
            self.of_pairs[-1].append(self._span_of(pair, gap))


def _open_end(flowed: Energy, span: Span) -> Step | None:
    """Return the last readings of a span, if nothing flowed after them up to its end."""
    last = flowed.ends_with
    if last is None or list(flowed.gaps[-1:]) != [(last.ends_at, span.ends_at)]:
        return None
    return last


# --- Gaps -------------------------------------------------------------------------------------


def _gaps(source: Source, energies: Mapping[Span, Energy]) -> dict[Span, list[Stretch]]:
    """Return when devices reported nothing, within spans; at most one statement."""
    gaps = {span: list(energy.gaps) for span, energy in energies.items()}
    asked = [
        (span, Span(span.device_id, *stretch))
        for span, energy in energies.items()
        for stretch in energy.unseen
    ]
    if not asked:
        return gaps
    after = timedelta(microseconds=1)
    rows = source.pauses.rows(
        {
            "device_ids": [part.device_id for _, part in asked],
            "starts_at": [part.starts_at for _, part in asked],
            "ends_at": [part.ends_at + after for _, part in asked],
            "first": min(part.starts_at for _, part in asked),
            "last": max(part.ends_at for _, part in asked) + after,
            "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
        }
    )
    for row in rows:
        span, _ = asked[row.number - 1]
        starts_at = _step_starts_at(row.after_at, energies[span].cadence_seconds)
        if starts_at > row.before_at:
            gaps[span].append((row.before_at, starts_at))
    return {span: sorted(own) for span, own in gaps.items()}


def _step_starts_at(at: datetime, cadence_seconds: float | None) -> datetime:
    """Return when the step of a reading after a long pause begins."""
    return at - timedelta(seconds=cadence_seconds or 0.0)
