"""Filters for texts and marks on device pages."""

from datetime import datetime
from typing import Final

from django import template
from django.conf import settings
from django.utils import timezone
from django.utils.safestring import SafeString

from analytics.alerting.kinds import KINDS
from analytics.formulas import Reason
from energy_engine.console.lists.listing import (
    BEGINS_LATER,
    IN_FORCE,
    meter_link,
    shown_id,
    vehicle_links,
)
from energy_engine.console.words.badges import below, health_badge, local_time, online_mark, second
from energy_engine.console.words.durations import duration
from fleet.models import Site

register = template.Library()

_SOURCES: Final = {
    "linked": "the meter served this vehicle alone",
    "shared": "several vehicles were linked to the meter; each step of its AC is split by their DC",
    "fleet": "no link in this window; a share of the AC of all meters without a link",
    "none": "no AC to compare with",
}
_MARKS: Final = {
    "late": "warning",
    "repeat": "",
    "correction": "info",
    "replaced": "danger",
}

_STATES: Final = {IN_FORCE: "success", BEGINS_LATER: "info"}

register.filter("health_badge", health_badge)
register.filter("online_mark", online_mark)
register.filter("shown_id", shown_id)
register.filter("meter_link", meter_link)


@register.filter
def clock(instant: datetime, site: Site | None) -> SafeString:
    """Return an instant in UTC with the site's local time below it."""
    return below(second(instant), local_time(instant, site))


@register.filter
def ago(instant: datetime) -> str:
    return f"{duration(timezone.now() - instant)} ago"


@register.filter
def ac_source(source: str) -> str:
    return _SOURCES[source]


@register.filter
def reason(why: str) -> str:
    """Return a text that says why a health is unknown."""
    return {
        Reason.NO_AC: "no AC to compare with",
        Reason.NOT_CHARGING: "the vehicle reported and took no DC: idle load is no efficiency",
        Reason.TOO_LITTLE_ENERGY: (
            f"less than {settings.MIN_ENERGY_KWH:g} kWh of AC, where fixed losses dominate"
        ),
        Reason.LOW_COVERAGE: (
            f"less than {settings.MIN_COVERAGE:.0%} of the energy flowed while the vehicle, or the "
            "meter, reported"
        ),
    }[Reason(why)]


@register.filter
def percent(part: float | None) -> str:
    """Return a fraction in percent; a dash if it is unknown."""
    return "-" if part is None else f"{100 * part:.1f} %"


@register.filter
def fault_value(value: float, kind: str) -> str:
    return f"{value:.1f}".removesuffix(".0") + f" {KINDS[kind].symbol}"


@register.filter
def mark_type(mark: str) -> str:
    """Return the label type of a delivery's mark."""
    return _MARKS[mark]


@register.filter
def state_type(state: str) -> str:
    """Return the label type of a link's state."""
    return _STATES.get(state, "")


@register.filter
def vehicle_link(vehicle_id: str) -> str:
    return vehicle_links([vehicle_id])


@register.filter
def number(value: float | None, places: int) -> str:
    """Return a value with at most `places` decimals; a dash if it is absent."""
    return "-" if value is None else f"{value:.{places}f}".rstrip("0").rstrip(".")
