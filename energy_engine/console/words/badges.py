"""Badges and marks of lists and pages. No information is conveyed by colour alone."""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from analytics.formulas import Health, Reason
from fleet.models import Meter, Site, Vehicle

REASONS: Final[dict[str, str]] = {
    Reason.NO_AC: "no AC known",
    Reason.NOT_CHARGING: "took no DC",
    Reason.TOO_LITTLE_ENERGY: "too little energy",
    Reason.LOW_COVERAGE: "readings missing",
}
# Applies to meters only: a vehicle without a link is compared with its share of the fleet's AC.
_NOT_COMPARED: Final = "no link in 24 h"
_COLOURS: Final[dict[str, str]] = {
    Health.HEALTHY: "success",
    Health.DEGRADED: "warning",
    Health.CRITICAL: "danger",
    Health.SUSPECT: "info",
}


def health_badge(health: str, reason: str | None = None) -> SafeString:
    """Return the health as a badge, with the reason below it if it is unknown or suspect."""
    label = render_to_string(
        "unfold/helpers/label.html",
        {"text": health, "type": _COLOURS.get(health, ""), "size": "md"},
    )
    why = ""
    if health == Health.SUSPECT:
        why = "over 100 %"
    elif health == Health.UNKNOWN:
        why = REASONS[reason] if reason else _NOT_COMPARED
    return below(SafeString(label.strip()), why)


def is_online(received_at: datetime) -> bool:
    """Return whether a device whose latest reading was received then counts as online."""
    return received_at >= timezone.now() - settings.ONLINE_WINDOW


def online_mark(received_at: datetime, device: Meter | Vehicle) -> SafeString:
    is_on, word = ("console-online", "online") if is_online(received_at) else ("", "offline")
    if device.is_retired:
        is_on, word = "", "retired"
    return format_html('<span class="console-mark {}">{}</span>', is_on, word)


def second(instant: datetime) -> SafeString:
    shown = f"{instant:%Y-%m-%d %H:%M:%S}"
    return format_html('<span class="whitespace-nowrap">{}</span>', shown)


def local_time(instant: datetime, site: Site | None) -> SafeString:
    """Return the local time at a site; empty if that is UTC."""
    if site is None or site.time_zone == "UTC":
        return SafeString()
    local = instant.astimezone(ZoneInfo(site.time_zone))
    day = "" if local.date() == instant.date() else f"{local:%d %b} "
    shown = f"{day}{local:%H:%M:%S %Z}"
    return format_html('<span title="{}">{}</span>', site.time_zone, shown)


def soc_bar(soc_percent: float) -> SafeString:
    """Return a state of charge as a bar with its number."""
    return format_html(
        '<span class="console-soc"><span class="console-track" aria-hidden="true">'
        '<span style="width:{}%"></span></span>{}</span>',
        f"{soc_percent:.0f}",
        f"{soc_percent:.1f}",
    )


def below(first: SafeString, then: str) -> SafeString:
    """Return `first`, with `then` in small type below it if it is not empty."""
    if not then:
        return first
    return format_html(
        '<span class="console-two">{}<span class="console-below">{}</span></span>', first, then
    )
