"""Links and their changes, as messages and the audit log describe them."""

from collections.abc import Sequence
from typing import Final

from django.utils import timezone

from fleet.links import SpanChange
from fleet.models import VehicleMeterLink
from fleet.timeline import Part

_MINUTE: Final = "%Y-%m-%d %H:%M UTC"
_NAMED_AT_MOST: Final = 5


def since(link: VehicleMeterLink) -> str:
    """Return the meter of a link, and when the link began or will begin."""
    if link.valid_during.lower > timezone.now():
        return f"{link.meter_id} from {link.valid_during.lower:{_MINUTE}}"
    return f"{link.meter_id} since {link.valid_during.lower:{_MINUTE}}"


def ended(link: VehicleMeterLink) -> str:
    return f"ended {link.valid_during.upper:{_MINUTE}}"


def span(part: Part) -> str:
    """Return the meter of a link or of a part of one, and its time."""
    until = f" to {part.ends_at:{_MINUTE}}" if part.ends_at else ""
    return f"{part.meter_id} from {part.starts_at:{_MINUTE}}{until}"


def spans(parts: Sequence[Part]) -> str:
    return ", ".join(map(span, parts)) or "no link"


def linked(change: SpanChange) -> str:
    """Return the text that a vehicle was linked, and what that superseded."""
    text = f"{change.vehicle_id} is linked to {spans(change.became)}"
    gone = [span(part) for part in change.superseded]
    return f"{text}. Superseded: {some(gone)}" if gone else text


def some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
