"""Change which meter serves which vehicle: the only writer of links, for the API and the admin."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import Q, QuerySet
from django.dispatch import Signal
from django.utils import timezone

from fleet.models import Meter, Vehicle, VehicleMeterLink
from fleet.registration import register, registers_unknown
from fleet.timeline import Part, inside, joined, outside

# An instant outside these limits is a typing error, and some can't be represented at all.
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD: Final = timedelta(days=3650)

# Sent after the commit, with `vehicle_id` and the `meter_ids` of the links that were changed or
# removed. Figures derived from the vehicle's links are stale.
links_changed = Signal()


class UnknownDevice(Exception):
    """The device is not in the registry, and INGEST_UNKNOWN_DEVICES is reject."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} not found")


class OutOfBounds(Exception):
    """An instant is outside the allowed range; the message names its field and the range."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} must be in the year 2000 or later and at most 10 years ahead")
        self.field = field


class EndsBeforeItBegins(Exception):
    """The end of a span is not after its beginning; the message names both fields."""

    def __init__(self, names: "SpanNames", begins_now: bool) -> None:
        begins = f"{names.starts_at} (now, because it is absent)" if begins_now else names.starts_at
        super().__init__(f"{names.ends_at} must be after {begins}")
        self.field = names.ends_at


class NoLinkInForce(Exception):
    """The vehicle is not linked to any meter at this time."""


class LinkHasBegun(Exception):
    """The link is in force or past, or it no longer exists."""


class LinksHaveChanged(Exception):
    """The vehicle's links are no longer those that the change to be undone has left."""


class SpanNames(NamedTuple):
    """How the caller names the two ends of a span, for error messages."""

    starts_at: str
    ends_at: str


class SpanChange(NamedTuple):
    """What a vehicle's links were in a span of time, and what they have become.

    `superseded` is what was there before: links, or the parts of them that lay in the span. To
    restore the state before, clear the span and put these back; `undo` does both.
    """

    vehicle_id: str
    starts_at: datetime
    ends_at: datetime | None
    superseded: list[Part]
    became: list[Part]

    @property
    def is_new(self) -> bool:
        """Whether anything has changed."""
        return self.superseded != self.became


class LinkChange(NamedTuple):
    """The link that was asked for or ended, and what changed for it."""

    link: VehicleMeterLink
    change: SpanChange

    @property
    def is_new(self) -> bool:
        return self.change.is_new

    @property
    def superseded(self) -> list[Part]:
        """What the link superseded; nothing if it was in force already."""
        return self.change.superseded if self.is_new else []


IN_BODY: Final = SpanNames("validFrom", "validTo")
IN_QUERY: Final = SpanNames("from", "to")


def link_vehicle(
    vehicle_id: str,
    meter_id: str,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    names: SpanNames = IN_BODY,
) -> LinkChange:
    """Link the vehicle to the meter from `valid_from` (default now) to `valid_to`.

    Without `valid_to` it is until further notice. Whatever lies in that span is superseded; links
    that reach beyond it keep the rest. Adjacent links to the same meter become one, which is
    returned. Unknown devices are registered, unless INGEST_UNKNOWN_DEVICES is reject.
    Repeating a link changes nothing, and then nothing is superseded.
    Errors: `UnknownDevice`, `OutOfBounds`, `EndsBeforeItBegins`.
    """
    _require_bounds(valid_from, valid_to, names)
    with transaction.atomic():
        # Meters first, in the same order as the writer, so that the two can't deadlock.
        _register(Meter, meter_id)
        _register(Vehicle, vehicle_id)
        _lock(vehicle_id)
        starts_at = _beginning(valid_from, valid_to, names)
        change = _replace(vehicle_id, starts_at, valid_to, [Part(meter_id, starts_at, valid_to)])
        return LinkChange(_links_of(vehicle_id).get(valid_during__contains=starts_at), change)


def unlink_vehicle(
    vehicle_id: str,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    names: SpanNames = IN_QUERY,
) -> SpanChange:
    """Leave the vehicle without a link from `starts_at` (default now) to `ends_at` (default ever).

    Links that reach beyond that span keep the rest. Repeating it changes nothing.
    Errors: `UnknownDevice`, `OutOfBounds`, `EndsBeforeItBegins`.
    """
    _require_bounds(starts_at, ends_at, names)
    with transaction.atomic():
        if not _lock(vehicle_id):
            raise UnknownDevice("Vehicle")
        return _replace(vehicle_id, _beginning(starts_at, ends_at, names), ends_at, [])


def end_link(vehicle_id: str) -> LinkChange:
    """End the vehicle's link in force now, and return it. Errors: `NoLinkInForce`."""
    with transaction.atomic():
        _lock(vehicle_id)
        now = timezone.now()
        link = _links_of(vehicle_id).filter(valid_during__contains=now).first()
        if link is None:
            raise NoLinkInForce
        change = _replace(vehicle_id, now, link.valid_during.upper, [])
        link.valid_during = _span(link.valid_during.lower, now)
        return LinkChange(link, change)


def withdraw_link(link_id: int) -> SpanChange:
    """Remove a link that has not begun yet.

    A link that was to end when this one begins is extended to this one's end.
    Errors: `LinkHasBegun`.
    """
    with transaction.atomic():
        planned = VehicleMeterLink.objects.filter(pk=link_id).first()
        if planned is None:
            raise LinkHasBegun
        _lock(planned.vehicle_id)
        link = _links_of(planned.vehicle_id).filter(pk=link_id).first()
        if link is None or link.valid_during.lower <= timezone.now():
            raise LinkHasBegun
        begins_at, ends_at = link.valid_during.lower, link.valid_during.upper
        before = _links_of(link.vehicle_id).filter(valid_during__endswith=begins_at)
        goes_on = [Part(one.meter_id, begins_at, ends_at) for one in before]
        return _replace(link.vehicle_id, begins_at, ends_at, goes_on)


def undo(change: SpanChange) -> None:
    """Restore what a vehicle's links were before `change`.

    Meters that were deleted meanwhile are registered again.
    Errors: `LinksHaveChanged` when the span is no longer as the change left it; `UnknownDevice`.
    """
    with transaction.atomic():
        for meter_id in sorted({part.meter_id for part in change.superseded}):
            _register(Meter, meter_id)
        if not _lock(change.vehicle_id):
            raise UnknownDevice("Vehicle")
        present = _inside(change.vehicle_id, change.starts_at, change.ends_at)
        if present != change.became:
            raise LinksHaveChanged
        _replace(change.vehicle_id, change.starts_at, change.ends_at, change.superseded)


def _require_bounds(starts_at: datetime | None, ends_at: datetime | None, names: SpanNames) -> None:
    latest = timezone.now() + MAX_AHEAD
    for instant, name in zip((starts_at, ends_at), names, strict=True):
        if instant and not EARLIEST <= instant <= latest:
            raise OutOfBounds(name)


def _beginning(starts_at: datetime | None, ends_at: datetime | None, names: SpanNames) -> datetime:
    """Return when a span begins: now by default, read while the vehicle is locked."""
    begins_at = starts_at or timezone.now()
    if ends_at and ends_at <= begins_at:
        raise EndsBeforeItBegins(names, begins_now=starts_at is None)
    return begins_at


def _links_of(vehicle_id: str) -> QuerySet[VehicleMeterLink]:
    return VehicleMeterLink.objects.filter(vehicle_id=vehicle_id)


def _register(model: type[Vehicle | Meter], device_id: str) -> None:
    if model.objects.filter(pk=device_id).exists():
        return
    if not registers_unknown():
        raise UnknownDevice(model.__name__)
    register(model, [device_id])


def _lock(vehicle_id: str) -> Vehicle | None:
    """Serialize changes of a vehicle's links; None if it is unknown."""
    return Vehicle.objects.select_for_update(no_key=True).filter(pk=vehicle_id).first()


def _replace(
    vehicle_id: str, starts_at: datetime, ends_at: datetime | None, parts: list[Part]
) -> SpanChange:
    """Let `parts` be the links of a locked vehicle in a span; nothing outside it changes.

    Shape: three statements at most, and one to read, however many links lie in the span. A link of
    which something stays keeps its primary key.
    """
    span = _span(starts_at, ends_at)
    found = _links_of(vehicle_id).filter(
        Q(valid_during__overlap=span) | Q(valid_during__adjacent_to=span)
    )
    links = {_part(link): link.pk for link in found}
    superseded = inside(joined(links), starts_at, ends_at)
    change = SpanChange(vehicle_id, starts_at, ends_at, superseded, parts)
    after = joined([*outside(links, starts_at, ends_at), *parts])
    if not change.is_new:
        return change
    gone = {part: pk for part, pk in links.items() if part not in after}
    new = [part for part in after if part not in links]
    VehicleMeterLink.objects.filter(pk__in=gone.values()).delete()
    keys = _keys(gone, new)
    VehicleMeterLink.objects.bulk_create(
        VehicleMeterLink(
            pk=keys.get(part),
            vehicle_id=vehicle_id,
            meter_id=part.meter_id,
            valid_during=_span(part.starts_at, part.ends_at),
        )
        for part in new
    )
    _announce(vehicle_id, {part.meter_id for part in [*superseded, *parts]})
    return change


def _keys(gone: dict[Part, int], new: list[Part]) -> dict[Part, int]:
    """Return the primary keys of new links that are what is left of former ones, or extend them."""
    keys: dict[Part, int] = {}
    for end in ("starts_at", "ends_at"):
        for part, pk in gone.items():
            for one in new:
                same = one.meter_id == part.meter_id and getattr(one, end) == getattr(part, end)
                if same and one not in keys and pk not in keys.values():
                    keys[one] = pk
    return keys


def _inside(vehicle_id: str, starts_at: datetime, ends_at: datetime | None) -> list[Part]:
    found = _links_of(vehicle_id).filter(valid_during__overlap=_span(starts_at, ends_at))
    return inside(joined(map(_part, found)), starts_at, ends_at)


def _part(link: VehicleMeterLink) -> Part:
    return Part(link.meter_id, link.valid_during.lower, link.valid_during.upper)


def _span(start: datetime, end: datetime | None) -> DateTimeTZRange:
    return DateTimeTZRange(start, end, "[)")


def _announce(vehicle_id: str, meter_ids: set[str]) -> None:
    transaction.on_commit(
        lambda: links_changed.send(VehicleMeterLink, vehicle_id=vehicle_id, meter_ids=meter_ids)
    )
