"""Energy of devices over spans of time: from hourly sums that are current, else from history.

All energies in figures come from here. Other modules read history or its sums for other purposes:
explanations, traces, cadences, estimates for thresholds, roll-ups, exports and the archive.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from analytics.figures.curve import Step, Stretch
from analytics.figures.history import METERS, VEHICLES, History, Run, Source, histories


class Span(NamedTuple):
    """A device over a span of time, half-open."""

    device_id: str
    starts_at: datetime
    ends_at: datetime

    @property
    def seconds(self) -> float:
        return (self.ends_at - self.starts_at).total_seconds()


# Spans of a device that lie further apart are read by themselves: nobody asked for what is between.
_APART: Final = timedelta(days=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Energy(NamedTuple):
    """The energy and readings of a device over a span, each timestamp counted once.

    `hours_rolled_up` hours of the span came from hourly sums, the rest from history. `first_step`
    and `last_step` are the steps that the bounds of the span cut. `gaps` are the parts of the span
    that are in no step's interval, `unseen` those that may have more gaps. `ends_with` are the last
    readings of the span, as one step.
    """

    energy_kwh: float = 0.0
    readings: int = 0
    suspect_steps: int = 0
    battery_temp_celsius: float | None = None
    cadence_seconds: float | None = None
    hours_rolled_up: int = 0
    first_step: Step | None = None
    last_step: Step | None = None
    gaps: Sequence[Stretch] = ()
    unseen: Sequence[Stretch] = ()
    ends_with: Step | None = None


def meter_energies(spans: Iterable[Span]) -> dict[Span, Energy]:
    """Return AC energies of meters. A span of an unknown meter is absent.

    One statement for interval registers; counters may take more, however many there are.
    Errors: `ArchivedHistory`, if part of any span's history is only in the archive.
    """
    return _energies(METERS, spans)


def vehicle_energies(spans: Iterable[Span]) -> dict[Span, Energy]:
    """Return DC energies of vehicles, as `meter_energies` does for meters."""
    return _energies(VEHICLES, spans)


def _energies(source: Source, spans: Iterable[Span]) -> dict[Span, Energy]:
    asked = dict.fromkeys(spans)
    runs = _runs(span for span in asked if span.starts_at < span.ends_at)
    found = {
        span: energy
        for run, history in histories(source, _bounds(runs)).items()
        for span, energy in _of_spans(history, runs[run])
    }
    return {span: Energy() for span in asked if span.starts_at >= span.ends_at} | found


def _runs(spans: Iterable[Span]) -> dict[Run, list[Span]]:
    """Return spans by what is read together: of a device, what lies at most a day apart."""
    runs: dict[Run, list[Span]] = {}
    run, until = Run(""), _NEVER
    for span in sorted(spans):
        if span.device_id != run.device_id:
            run, until = Run(span.device_id), span.ends_at
        elif span.starts_at - until > _APART:
            run = run._replace(number=run.number + 1)
        runs.setdefault(run, []).append(span)
        until = max(until, span.ends_at)
    return runs


def _bounds(runs: Mapping[Run, Iterable[Span]]) -> dict[Run, list[datetime]]:
    return {run: sorted({bound for span in own for bound in span[1:]}) for run, own in runs.items()}


def _of_spans(history: History, spans: Iterable[Span]) -> Iterator[tuple[Span, Energy]]:
    curve = Curve(history)
    for span in spans:
        yield span, curve.energy(span.starts_at, span.ends_at)


class Curve:
    """The curve of a device over the pieces of its history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._bounds = history.bounds
        pieces = len(history.bounds) - 1
        self._energies_kwh = [0.0] * pieces
        self._suspect_steps = [0] * pieces
        self._crossing: dict[datetime, Step] = {}
        self._covered: list[Stretch] = []
        self._unseen: list[Stretch] = []
        self._last: dict[int, Step] = {}
        judged = history.judged
        for (block, piece, _), step, is_ignored in zip(
            history.held, judged.steps, judged.is_ignored, strict=True
        ):
            if step is not None:
                self._add(step)
                self._cover(step.starts_at, step.ends_at)
            if not is_ignored:
                if piece is not None:
                    self._energies_kwh[piece] += block.energy_kwh
                    is_single = block.last_at == block.first_at
                    last = (
                        step if is_single else Step(block.first_at, block.last_at, block.energy_kwh)
                    )
                    if last is not None and last.starts_at < last.ends_at:
                        self._last[piece] = last
                self._cover(block.first_at, block.last_at)
                self._unseen.extend(block.unseen)

    def _piece_of(self, at: datetime) -> int | None:
        piece = bisect_right(self._bounds, at) - 1
        return piece if 0 <= piece < len(self._energies_kwh) else None

    def _add(self, step: Step) -> None:
        starts_at, ends_at, energy_kwh = step
        if energy_kwh is None:
            piece = self._piece_of(ends_at)
            if piece is not None:
                self._suspect_steps[piece] += 1
        elif starts_at >= ends_at:
            piece = self._piece_of(ends_at)
            if piece is not None:
                self._energies_kwh[piece] += energy_kwh
        else:
            self._cut(step, energy_kwh)

    def _cut(self, step: Step, energy_kwh: float) -> None:
        """Give each piece the part of a step that lies in it."""
        starts_at, ends_at, _ = step
        bounds = self._bounds
        length = ends_at - starts_at
        piece = max(bisect_right(bounds, starts_at) - 1, 0)
        while piece < len(bounds) - 1 and bounds[piece] < ends_at:
            first, last = bounds[piece], bounds[piece + 1]
            if first <= starts_at and ends_at <= last:
                self._energies_kwh[piece] += energy_kwh
            elif last > starts_at:
                overlap = min(last, ends_at) - max(first, starts_at)
                self._energies_kwh[piece] += energy_kwh * (overlap / length)
            if starts_at < first:
                self._crossing[first] = step
            piece += 1
        if piece == len(bounds) - 1 and starts_at < bounds[piece] < ends_at:
            self._crossing[bounds[piece]] = step

    def _cover(self, starts_at: datetime, ends_at: datetime) -> None:
        if starts_at >= ends_at:
            return
        if self._covered and starts_at <= self._covered[-1][1]:
            before = self._covered[-1]
            self._covered[-1] = (before[0], max(before[1], ends_at))
        else:
            self._covered.append((starts_at, ends_at))

    def energy(self, starts_at: datetime, ends_at: datetime) -> Energy:
        """Return the energy between two of the bounds."""
        first = bisect_right(self._bounds, starts_at) - 1
        last = bisect_right(self._bounds, ends_at) - 1
        counted = self._history.counted[first:last]
        temps = sum(piece.battery_temp_readings for piece in counted)
        return Energy(
            energy_kwh=sum(self._energies_kwh[first:last]),
            readings=sum(piece.readings for piece in counted),
            suspect_steps=sum(piece.suspect_steps for piece in counted)
            + sum(self._suspect_steps[first:last]),
            battery_temp_celsius=(
                sum(piece.battery_temp_celsius_sum for piece in counted) / temps if temps else None
            ),
            cadence_seconds=self._history.register.cadence_seconds,
            hours_rolled_up=sum(piece.hours_rolled_up for piece in counted),
            first_step=self._crossing.get(starts_at),
            last_step=self._crossing.get(ends_at),
            gaps=gaps_between(self._covered, starts_at, ends_at),
            unseen=_within(self._unseen, starts_at, ends_at),
            ends_with=self._last.get(last - 1),
        )


def gaps_between(
    covered: Iterable[Stretch], starts_at: datetime, ends_at: datetime
) -> list[Stretch]:
    """Return what `covered`, in time order, leaves of a span."""
    gaps = []
    reached = starts_at
    for first, last in covered:
        if last <= reached:
            continue
        if first >= ends_at:
            break
        if first > reached:
            gaps.append((reached, first))
        reached = last
        if reached >= ends_at:
            return gaps
    return [*gaps, (reached, ends_at)]


def _within(stretches: Iterable[Stretch], starts_at: datetime, ends_at: datetime) -> list[Stretch]:
    clipped = ((max(first, starts_at), min(last, ends_at)) for first, last in stretches)
    return [(first, last) for first, last in clipped if first < last]


# --- Step by step -----------------------------------------------------------------------------


class Steps(NamedTuple):
    """The steps of a device that overlap spans, in time order, without those that are left out.

    All readings that they follow from lie within `reads`; None if that is still open.
    """

    steps: list[Step]
    reads: Stretch | None


def meter_steps(spans: Iterable[Span]) -> dict[str, Steps]:
    """Return the steps of meters, by id."""
    return _steps(METERS, spans)


def vehicle_steps(spans: Iterable[Span]) -> dict[str, Steps]:
    """Return the steps of vehicles, by id."""
    return _steps(VEHICLES, spans)


def _steps(source: Source, spans: Iterable[Span]) -> dict[str, Steps]:
    runs = _runs(spans)
    bounds = _bounds(runs)
    opened = {
        run: {
            piece
            for span in own
            for piece in range(
                bisect_left(bounds[run], span.starts_at), bisect_left(bounds[run], span.ends_at)
            )
        }
        for run, own in runs.items()
    }
    of_devices: dict[str, list[History]] = defaultdict(list)
    for run, history in histories(source, bounds, opened).items():
        of_devices[run.device_id].append(history)
    return {device_id: _joint_steps(own) for device_id, own in of_devices.items()}


def _joint_steps(of_runs: Sequence[History]) -> Steps:
    """Return the steps of all runs of a device; what is around one run may lie in another."""
    steps = {
        step
        for history in of_runs
        for step in history.judged.steps
        if step and step.energy_kwh is not None
    }
    reads = [history.reads for history in of_runs]
    known = [stretch for stretch in reads if stretch]
    return Steps(
        sorted(steps, key=lambda step: (step.ends_at, step.starts_at)),
        (min(known)[0], max(last for _, last in known)) if len(known) == len(reads) else None,
    )
