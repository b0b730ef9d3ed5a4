"""Links and their changes, as messages and the audit log describe them."""

from typing import Final

from django.utils import timezone

from fleet.links import LinkChange
from fleet.models import VehicleMeterLink

_MINUTE: Final = "%Y-%m-%d %H:%M UTC"


def since(link: VehicleMeterLink) -> str:
    """Return the meter of a link, and when the link began or will begin."""
    if link.valid_during.lower > timezone.now():
        return begins(link)
    return f"{link.meter_id} since {link.valid_during.lower:{_MINUTE}}"


def begins(link: VehicleMeterLink) -> str:
    return f"{link.meter_id} from {link.valid_during.lower:{_MINUTE}}"


def ended(link: VehicleMeterLink) -> str:
    return f"ended {link.valid_during.upper:{_MINUTE}}"


def put_an_end_to(made: LinkChange) -> str:
    """Return the links that a new link ended or removed."""
    ended = [made.ended] if made.ended else []
    return ", ".join(map(since, [*ended, *made.superseded])) or "no link"
