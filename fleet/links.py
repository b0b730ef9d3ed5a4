"""Change which meter serves which vehicle: the only writer of links, for the API and the admin."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, cast

from django.conf import settings
from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import QuerySet
from django.dispatch import Signal
from django.utils import timezone
from psqlextra.manager import PostgresManager
from psqlextra.types import ConflictAction

from fleet.models import Meter, Vehicle, VehicleMeterLink

# An instant outside these limits is a typing error, and some can't be represented at all.
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
MAX_AHEAD: Final = timedelta(days=3650)

# Sent after the commit, with `vehicle_id`. Figures derived from the vehicle's links are stale.
links_changed = Signal()


class UnknownDevice(Exception):
    """The device is not in the registry, and INGEST_UNKNOWN_DEVICES is reject."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} not found")


class OutOfBounds(Exception):
    """The link would begin outside the allowed range; the message states the range."""

    def __init__(self) -> None:
        super().__init__("validFrom must be in the year 2000 or later and at most 10 years ahead")


class NoLinkInForce(Exception):
    """The vehicle is not linked to any meter at this time."""


class LinkHasBegun(Exception):
    """The link is in force or past, or it no longer exists."""


class LinkChange(NamedTuple):
    """The link that was asked for, whether it `is_new`, and the links that it superseded.

    `ended` is the link to another meter that was in force and ends when this one begins.
    """

    link: VehicleMeterLink
    is_new: bool
    superseded: list[VehicleMeterLink]
    ended: VehicleMeterLink | None = None


def link_vehicle(vehicle_id: str, meter_id: str, valid_from: datetime | None = None) -> LinkChange:
    """Link the vehicle to the meter from `valid_from` (default now) until further notice.

    The link in force at that instant ends then. Links that begin then or later are superseded and
    removed. If a link between the two ends at that instant, it is extended instead of adding a new
    one. Unknown devices are registered, unless INGEST_UNKNOWN_DEVICES is reject.
    Repeating a link changes nothing.
    Errors: `UnknownDevice`, `OutOfBounds`.
    """
    if valid_from and not EARLIEST <= valid_from <= timezone.now() + MAX_AHEAD:
        raise OutOfBounds
    with transaction.atomic():
        # Meters first, in the same order as the writer, so that the two can't deadlock.
        _register(Meter, "meter_id", meter_id)
        _register(Vehicle, "vehicle_id", vehicle_id)
        _lock(vehicle_id)
        valid_from = valid_from or timezone.now()
        in_force = _links_of(vehicle_id).filter(valid_during__contains=valid_from).first()
        if in_force and in_force.meter_id == meter_id and in_force.valid_during.upper is None:
            return LinkChange(in_force, False, [])
        superseded, ended = _cut_off(vehicle_id, valid_from)
        before = _links_of(vehicle_id).filter(valid_during__endswith=valid_from).first()
        if before and before.meter_id == meter_id:
            link, ended = before, None
            link.valid_during = _span(before.valid_during.lower, None)
        else:
            link = VehicleMeterLink(
                vehicle_id=vehicle_id, meter_id=meter_id, valid_during=_span(valid_from, None)
            )
        link.save()
        _announce(vehicle_id)
        return LinkChange(link, True, superseded, ended)


def end_link(vehicle_id: str) -> VehicleMeterLink:
    """End the vehicle's link in force now, and return it. Errors: `NoLinkInForce`."""
    with transaction.atomic():
        _lock(vehicle_id)
        now = timezone.now()
        link = _links_of(vehicle_id).filter(valid_during__contains=now).first()
        if link is None:
            raise NoLinkInForce
        began_at = link.valid_during.lower
        link.valid_during = _span(began_at, now)
        if began_at == now:
            link.delete()
        else:
            link.save(update_fields=["valid_during"])
        _announce(vehicle_id)
        return link


def withdraw_link(link_id: int) -> VehicleMeterLink:
    """Remove a link that has not begun yet, and return it.

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
        link.delete()
        link.pk = link_id
        begins_at, ends_at = link.valid_during.lower, link.valid_during.upper
        for before in _links_of(link.vehicle_id).filter(valid_during__endswith=begins_at):
            before.valid_during = _span(before.valid_during.lower, ends_at)
            before.save(update_fields=["valid_during"])
        _announce(link.vehicle_id)
        return link


def _links_of(vehicle_id: str) -> QuerySet[VehicleMeterLink]:
    return VehicleMeterLink.objects.filter(vehicle_id=vehicle_id)


def _register(model: type[Vehicle | Meter], key: str, device_id: str) -> None:
    if settings.INGEST_UNKNOWN_DEVICES == "register":
        registry = cast("PostgresManager", model.objects)
        registry.on_conflict([key], ConflictAction.NOTHING).insert(**{key: device_id})
    elif not model.objects.filter(pk=device_id).exists():
        raise UnknownDevice(model.__name__)


def _lock(vehicle_id: str) -> None:
    """Serialize changes of a vehicle's links."""
    Vehicle.objects.select_for_update(no_key=True).filter(pk=vehicle_id).first()


def _cut_off(
    vehicle_id: str, at: datetime
) -> tuple[list[VehicleMeterLink], VehicleMeterLink | None]:
    """Remove the links that begin at `at` or later and end the one in force; return both."""
    later = _links_of(vehicle_id).filter(valid_during__startswith__gte=at)
    superseded = list(later)
    later.delete()
    in_force = _links_of(vehicle_id).filter(valid_during__contains=at).first()
    if in_force:
        in_force.valid_during = _span(in_force.valid_during.lower, at)
        in_force.save(update_fields=["valid_during"])
    return superseded, in_force


def _span(start: datetime, end: datetime | None) -> DateTimeTZRange:
    return DateTimeTZRange(start, end, "[)")


def _announce(vehicle_id: str) -> None:
    transaction.on_commit(lambda: links_changed.send(VehicleMeterLink, vehicle_id=vehicle_id))
