"""Links, and what becomes of them, in the words of messages and of the audit log."""

from typing import Final

from django.utils import timezone

from fleet.links import LinkChange
from fleet.models import VehicleMeterLink

_MINUTE: Final = "%Y-%m-%d %H:%M UTC"


def since(link: VehicleMeterLink) -> str:
    """Return the meter of a link, and since when it has been in force, or will be."""
    if link.valid_during.lower > timezone.now():
        return begins(link)
    return f"{link.meter_id} since {link.valid_during.lower:{_MINUTE}}"


def begins(link: VehicleMeterLink) -> str:
    return f"{link.meter_id} from {link.valid_during.lower:{_MINUTE}}"


def ended(link: VehicleMeterLink) -> str:
    return f"ended {link.valid_during.upper:{_MINUTE}}"


def put_an_end_to(made: LinkChange) -> str:
    """Return the links that a new one has cut off or removed."""
    cut_off = VehicleMeterLink.objects.filter(
        vehicle_id=made.link.vehicle_id, valid_during__endswith=made.link.valid_during.lower
    )
    return ", ".join(map(since, [*cut_off, *made.superseded])) or "no link"
