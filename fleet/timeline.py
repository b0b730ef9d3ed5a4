"""What a vehicle's links are over time, as plain values: at most one meter at any instant."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

_FOREVER: Final = datetime.max.replace(tzinfo=UTC)


class Part(NamedTuple):
    """A link, or part of one: half-open; `ends_at` None means until further notice."""

    meter_id: str
    starts_at: datetime
    ends_at: datetime | None


def inside(parts: Iterable[Part], starts_at: datetime, ends_at: datetime | None) -> list[Part]:
    """Return what lies in a span: parts that it cuts, with the rest cut off."""
    clipped = [
        part._replace(
            starts_at=max(part.starts_at, starts_at), ends_at=_earlier(part.ends_at, ends_at)
        )
        for part in parts
    ]
    return [part for part in clipped if part.starts_at < (part.ends_at or _FOREVER)]


def outside(parts: Iterable[Part], starts_at: datetime, ends_at: datetime | None) -> list[Part]:
    """Return what does not lie in a span: a part around it becomes two."""
    left = [
        part._replace(ends_at=_earlier(part.ends_at, starts_at))
        for part in parts
        if part.starts_at < starts_at
    ]
    right = [
        part._replace(starts_at=max(part.starts_at, ends_at))
        for part in parts
        if ends_at and ends_at < (part.ends_at or _FOREVER)
    ]
    return [*left, *right]


def joined(parts: Iterable[Part]) -> list[Part]:
    """Return parts in time order, with adjacent ones of the same meter as one."""
    whole: list[Part] = []
    for part in sorted(parts, key=lambda part: part.starts_at):
        before = whole[-1] if whole else None
        if before and (before.meter_id, before.ends_at) == (part.meter_id, part.starts_at):
            whole[-1] = before._replace(ends_at=part.ends_at)
        else:
            whole.append(part)
    return whole


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one or _FOREVER, other or _FOREVER) if one or other else None
