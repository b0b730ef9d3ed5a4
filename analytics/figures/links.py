"""Which vehicles were linked to a meter, and when: the links of a window, split into slices.

How vehicles share the AC of a slice: `sharing`.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from analytics.figures.energy import Span
from analytics.figures.window import Window
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement

_links_in_window = Statement(STATEMENTS / "links_in_window.sql")


class Slice(NamedTuple):
    """A span of a meter with the same vehicles linked to it."""

    meter: Span
    vehicle_ids: frozenset[str]

    @property
    def is_shared(self) -> bool:
        return len(self.vehicle_ids) > 1

    def of(self, vehicle_id: str) -> Span:
        """Return the same span of a vehicle."""
        return Span(vehicle_id, self.meter.starts_at, self.meter.ends_at)

    def within(self, window: Window) -> "Slice":
        """Return the piece that lies in `window`, which overlaps the slice."""
        return Slice(_clipped(self.meter, window.starts_at, window.ends_at), self.vehicle_ids)


class LinkInWindow(NamedTuple):
    """A link within a window, and all links to its meter that overlap it, including itself."""

    meter: Span
    beside: list[Span]


def links_in(window: Window, vehicle_ids: Sequence[str]) -> dict[str, list[LinkInWindow]]:
    """Return the links of vehicles in `window`, in time order; one statement.

    Adjacent links of a vehicle to the same meter are joined. A vehicle without a link has an empty
    list; an unknown vehicle is absent.
    """
    rows = _links_in_window.rows(
        {
            "vehicle_ids": list(vehicle_ids),
            "starts_at": window.starts_at,
            "ends_at": window.ends_at,
        }
    )
    links: dict[str, dict[Span, LinkInWindow]] = defaultdict(dict)
    for row in rows:
        of_vehicle = links[row.vehicle_id]
        if row.meter_id is None:
            continue
        own = Span(row.meter_id, row.starts_at, row.ends_at)
        other = Span(row.other_vehicle_id, row.other_starts_at, row.other_ends_at or row.ends_at)
        of_vehicle.setdefault(own, LinkInWindow(own, [])).beside.append(other)
    return {vehicle_id: _joined(of_vehicle.values()) for vehicle_id, of_vehicle in links.items()}


def _joined(links: Iterable[LinkInWindow]) -> list[LinkInWindow]:
    joined: list[LinkInWindow] = []
    for (meter_id, starts_at, ends_at), beside in links:
        before = joined[-1] if joined else None
        if before and before.meter.device_id == meter_id and before.meter.ends_at == starts_at:
            starts_at, beside = before.meter.starts_at, before.beside + beside
            joined.pop()
        joined.append(LinkInWindow(Span(meter_id, starts_at, ends_at), beside))
    return [LinkInWindow(link.meter, _union(link.beside)) for link in joined]


def _union(spans: Iterable[Span]) -> list[Span]:
    """Return spans, with those of the same device that overlap or touch joined."""
    union: list[Span] = []
    for span in sorted(spans):
        before = union[-1] if union else None
        if before and before.device_id == span.device_id and span.starts_at <= before.ends_at:
            span = before._replace(ends_at=max(before.ends_at, span.ends_at))
            union.pop()
        union.append(span)
    return union


def slices(links: Iterable[LinkInWindow]) -> list[Slice]:
    """Split a vehicle's links, in time order, where others begin or end.

    Shape: in time order; none overlaps another.
    """
    return [cut for link in links for cut in _cut(link)]


def pieces(whole: Sequence[Slice], window: Window) -> list[Slice]:
    """Return the parts of slices, in the order of `slices`, that lie in `window`."""
    first = bisect_right(whole, window.starts_at, key=lambda cut: cut.meter.ends_at)
    last = bisect_left(whole, window.ends_at, key=lambda cut: cut.meter.starts_at)
    return [cut.within(window) for cut in whole[first:last]]


def _clipped(span: Span, starts_at: datetime, ends_at: datetime) -> Span:
    return Span(span.device_id, max(span.starts_at, starts_at), min(span.ends_at, ends_at))


def _cut(link: LinkInWindow) -> list[Slice]:
    meter_id, starts_at, ends_at = link.meter
    beside = [_clipped(span, starts_at, ends_at) for span in link.beside]
    bounds = sorted({bound for span in beside for bound in (span.starts_at, span.ends_at)})
    cut = []
    for part in pairwise(bounds):
        vehicle_ids = frozenset(
            span.device_id
            for span in beside
            if span.starts_at <= part[0] and part[1] <= span.ends_at
        )
        cut.append(Slice(Span(meter_id, *part), vehicle_ids))
    return cut
