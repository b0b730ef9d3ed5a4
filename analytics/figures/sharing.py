"""How vehicles share the AC of a meter while several are linked to it: step by step.

Each step of the meter is split by the DC that each vehicle took within the step's interval, equally
where none took any. So shares do not depend on how a window, a series or a link cuts time.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final, NamedTuple

from django.conf import settings

from analytics import formulas
from analytics.figures.curve import Step, Stretch
from analytics.figures.energy import Span, Steps, meter_steps, vehicle_steps
from analytics.figures.links import Slice
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement

_shared_hours: Final = Statement(STATEMENTS / "shared_hours.sql")

# The AC of each vehicle of a slice, in kWh, by id.
Shares = dict[str, float]


class Calculated(NamedTuple):
    """The shares of a slice; all readings that they follow from lie within `reads`."""

    shares: Shares
    reads: Stretch | None


def shared_energies(slices: Iterable[Slice]) -> dict[Slice, Shares]:
    """Return how the vehicles of each slice share the AC of its meter.

    Full hours come from what is stored of them, if it is current; the rest step by step.
    """
    asked = list(dict.fromkeys(cut for cut in slices if cut.is_shared))
    if not asked:
        return {}
    rows = _shared_hours.rows(
        {
            "meter_ids": [cut.meter.device_id for cut in asked],
            "starts_at": [cut.meter.starts_at for cut in asked],
            "ends_at": [cut.meter.ends_at for cut in asked],
            "vehicle_ids": ["\n".join(sorted(cut.vehicle_ids)) for cut in asked],
            "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
        }
    )
    found = {cut: dict.fromkeys(sorted(cut.vehicle_ids), 0.0) for cut in asked}
    rest: dict[Slice, Slice] = {}
    for row in rows:
        cut = asked[row.number - 1]
        if row.energies_kwh:
            found[cut] = dict(zip(found[cut], row.energies_kwh, strict=True))
        for starts_at, ends_at in zip(row.starts_at or (), row.ends_at or (), strict=True):
            piece = Slice(Span(cut.meter.device_id, starts_at, ends_at), cut.vehicle_ids)
            rest[piece] = cut
    for piece, calculated in calculated_shares(rest).items():
        whole = found[rest[piece]]
        for vehicle_id, energy_kwh in calculated.shares.items():
            whole[vehicle_id] += energy_kwh
    return found


def calculated_shares(slices: Iterable[Slice]) -> dict[Slice, Calculated]:
    """Return the shares of slices step by step, from history; four statements for intervals."""
    asked = list(slices)
    meters = meter_steps(cut.meter for cut in asked)
    spans = [
        Span(vehicle_id, *bounds)
        for cut in asked
        if (bounds := _intervals_of(meters, cut.meter))
        for vehicle_id in cut.vehicle_ids
    ]
    vehicles = vehicle_steps(spans)
    taken = {vehicle_id: Taken(own.steps) for vehicle_id, own in vehicles.items()}
    return {
        cut: Calculated(
            _split(cut, _steps_of(meters, cut.meter), taken),
            _reads([meters.get(cut.meter.device_id), *map(vehicles.get, cut.vehicle_ids)]),
        )
        for cut in asked
    }


def _steps_of(meters: Mapping[str, Steps], span: Span) -> Sequence[Step]:
    """Return the steps that have a part in `span`."""
    found = meters.get(span.device_id)
    steps = found.steps if found else []
    first = bisect_left(steps, span.starts_at, key=lambda step: step.ends_at)
    last = bisect_left(steps, span.ends_at, key=lambda step: step.starts_at)
    return steps[first:last]


def _intervals_of(meters: Mapping[str, Steps], span: Span) -> Stretch | None:
    """Return the span of the intervals of all steps that have a part in `span`."""
    steps = _steps_of(meters, span)
    if not steps or steps[0].starts_at >= steps[-1].ends_at:
        return None
    return steps[0].starts_at, steps[-1].ends_at


def _reads(of_devices: Iterable[Steps | None]) -> Stretch | None:
    reads = [own.reads if own else None for own in of_devices]
    known = [span for span in reads if span]
    if len(known) < len(reads):
        return None
    return min(first for first, _ in known), max(last for _, last in known)


def _split(cut: Slice, steps: Sequence[Step], taken: dict[str, "Taken"]) -> Shares:
    vehicle_ids = sorted(cut.vehicle_ids)
    shares: dict[str, float] = defaultdict(float, dict.fromkeys(vehicle_ids, 0.0))
    nothing = Taken([])
    for step in steps:
        ac_kwh = _part(step, cut.meter)
        if not ac_kwh:
            continue
        dc_kwh = [
            taken.get(vehicle_id, nothing).between(step.starts_at, step.ends_at)
            for vehicle_id in vehicle_ids
        ]
        all_dc_kwh = sum(dc_kwh)
        for vehicle_id, own_kwh in zip(vehicle_ids, dc_kwh, strict=True):
            shares[vehicle_id] += ac_kwh * formulas.share(own_kwh, all_dc_kwh, len(vehicle_ids))
    return dict(shares)


def _part(step: Step, span: Span) -> float:
    """Return the energy of `step` that lies in `span`, in kWh."""
    energy_kwh = step.energy_kwh or 0.0
    if step.starts_at >= step.ends_at:
        return energy_kwh if span.starts_at <= step.ends_at < span.ends_at else 0.0
    overlap = min(step.ends_at, span.ends_at) - max(step.starts_at, span.starts_at)
    return energy_kwh * max(0.0, overlap / (step.ends_at - step.starts_at))


class Taken:
    """The curve of a vehicle, summed up from its first step on."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = [step for step in steps if step.starts_at < step.ends_at]
        self._ends_at = [step.ends_at for step in self._steps]
        self._so_far_kwh = _summed_up(self._steps)
        instants = [step for step in steps if step.starts_at >= step.ends_at]
        self._instants = [step.ends_at for step in instants]
        self._at_instants_kwh = _summed_up(instants)

    def between(self, starts_at: datetime, ends_at: datetime) -> float:
        """Return the energy of a span, in kWh."""
        return max(0.0, self._until(ends_at) - self._until(starts_at))

    def _until(self, at: datetime) -> float:
        whole = bisect_right(self._ends_at, at)
        so_far_kwh = (
            self._so_far_kwh[whole] + self._at_instants_kwh[bisect_left(self._instants, at)]
        )
        if whole < len(self._steps):
            step = self._steps[whole]
            if step.starts_at < at:
                part = (at - step.starts_at) / (step.ends_at - step.starts_at)
                so_far_kwh += (step.energy_kwh or 0.0) * part
        return so_far_kwh


def _summed_up(steps: Iterable[Step]) -> list[float]:
    return [0.0, *accumulate(step.energy_kwh or 0.0 for step in steps)]
