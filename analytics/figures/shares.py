"""How vehicles share the AC of a meter while several are linked to it: step by step.

Each step of the meter is split by the DC that each vehicle took within the step's interval, equally
where none took any. So shares do not depend on how a window, a series or a link cuts time.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import accumulate

from analytics import formulas
from analytics.figures.curve import Step
from analytics.figures.energy import Span, meter_steps, vehicle_steps
from analytics.figures.sharing import Slice

# The AC of each vehicle of a slice, in kWh, by id.
Shares = dict[str, float]


def shared_energies(slices: Iterable[Slice]) -> dict[Slice, Shares]:
    """Return how the vehicles of each slice share the AC of its meter."""
    asked = list(dict.fromkeys(cut for cut in slices if cut.is_shared))
    if not asked:
        return {}
    meters = meter_steps(cut.meter for cut in asked)
    around: dict[str, Span] = {}
    for cut in asked:
        steps = meters.get(cut.meter.device_id, [])
        first, last = _overlapping(steps, cut.meter)
        if first < last:
            for vehicle_id in cut.vehicle_ids:
                span = Span(vehicle_id, steps[first].starts_at, steps[last - 1].ends_at)
                around[vehicle_id] = _hull(around.get(vehicle_id), span)
    spans = [span for span in around.values() if span.starts_at < span.ends_at]
    taken = {
        vehicle_id: Taken(steps) for vehicle_id, steps in vehicle_steps(spans).items()
    }
    return {
        cut: _split(cut, meters.get(cut.meter.device_id, []), taken) for cut in asked
    }


def _hull(one: Span | None, other: Span) -> Span:
    if one is None:
        return other
    return Span(
        one.device_id,
        min(one.starts_at, other.starts_at),
        max(one.ends_at, other.ends_at),
    )


def _overlapping(steps: Sequence[Step], span: Span) -> tuple[int, int]:
    """Return the first step that has a part in `span`, and the one after the last."""
    first = bisect_left(steps, span.starts_at, key=lambda step: step.ends_at)
    last = bisect_left(steps, span.ends_at, key=lambda step: step.starts_at)
    return first, last


def _split(cut: Slice, steps: Sequence[Step], taken: dict[str, "Taken"]) -> Shares:
    vehicle_ids = sorted(cut.vehicle_ids)
    shares: dict[str, float] = defaultdict(float, dict.fromkeys(vehicle_ids, 0.0))
    nothing = Taken([])
    for step in steps[slice(*_overlapping(steps, cut.meter))]:
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
        so_far_kwh = self._so_far_kwh[whole] + self._at_instants_kwh[bisect_left(self._instants, at)]
        if whole < len(self._steps):
            step = self._steps[whole]
            if step.starts_at < at:
                part = (at - step.starts_at) / (step.ends_at - step.starts_at)
                so_far_kwh += (step.energy_kwh or 0.0) * part
        return so_far_kwh


def _summed_up(steps: Iterable[Step]) -> list[float]:
    return [0.0, *accumulate(step.energy_kwh or 0.0 for step in steps)]
