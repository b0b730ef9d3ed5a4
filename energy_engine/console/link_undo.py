"""The button "Undo" in a message about changed links: it carries, signed, what is to be undone."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from django.core import signing
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html

from fleet.links import SpanChange
from fleet.timeline import Part

_SALT: Final = "energy_engine.console.link_undo"
# A message that goes with more is too large, and nobody reads what it undoes.
_UNDONE_AT_MOST: Final = 50
_LINKS_AT_MOST: Final = 500


def offer(request: HttpRequest, text: str, changes: Sequence[SpanChange]) -> str:
    """Return a message with a button that undoes `changes`, for the same user."""
    size = sum(1 + len(change.superseded) for change in changes)
    if not changes or len(changes) > _UNDONE_AT_MOST or size > _LINKS_AT_MOST:
        return text
    value = signing.dumps(
        {"user": request.user.pk, "changes": [_plain(change) for change in changes]},
        salt=_SALT,
        compress=True,
    )
    button = render_to_string("console/link_undo.html", {"value": value}, request)
    return format_html("{} {}", text, button)


def asked_for(request: HttpRequest) -> list[SpanChange]:
    """Return the changes that the pressed button undoes.

    Errors: `BadSignature` when it was not made for this user.
    """
    found = signing.loads(request.POST.get("undo", ""), salt=_SALT)
    if found["user"] != request.user.pk:
        raise signing.BadSignature("made for another user")
    return [_change(values) for values in found["changes"]]


def _plain(change: SpanChange) -> list[Any]:
    return [
        change.vehicle_id,
        _text(change.starts_at),
        _text(change.ends_at),
        _plain_parts(change.superseded),
        _plain_parts(change.became),
    ]


def _plain_parts(parts: Iterable[Part]) -> list[list[str | None]]:
    return [[part.meter_id, _text(part.starts_at), _text(part.ends_at)] for part in parts]


def _change(values: list[Any]) -> SpanChange:
    vehicle_id, starts_at, ends_at, superseded, became = values
    return SpanChange(
        vehicle_id,
        datetime.fromisoformat(starts_at),
        _instant(ends_at),
        _parts(superseded),
        _parts(became),
    )


def _parts(values: list[list[Any]]) -> list[Part]:
    return [
        Part(meter_id, datetime.fromisoformat(starts_at), _instant(ends_at))
        for meter_id, starts_at, ends_at in values
    ]


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
