"""What the lists of the admin show and filter by."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final

from django.contrib import admin
from django.db.models import Exists, F, Model, OrderBy, OuterRef, Q, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display

from fleet.device_ids import are_device_ids
from fleet.models import VehicleMeterLink

IN_FORCE: Final = "in force"
ENDED: Final = "ended"
BEGINS_LATER: Final = "begins later"

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_ID_LENGTH_OF_A_LINE: Final = 24

Column = Callable[[Any], str]
Conditions = dict[str, tuple[str, Q | Combinable]]


# --- Columns ----------------------------------------------------------------------------------


class EmptyLast(F):
    """What to order by, with the rows that have no value last, whichever way it goes."""

    def asc(self, **_: Any) -> OrderBy:
        return super().asc(nulls_last=True)

    def desc(self, **_: Any) -> OrderBy:
        return super().desc(nulls_last=True)


def column(
    heading: str, path: str, show: Callable[[Any], str] = str, order_by: str | None = None
) -> Column:
    """Return a column of what is at `path`; a dash where a row, or what it joins, has nothing."""

    @admin.display(description=heading, ordering=EmptyLast(order_by or path))
    def cell(row: Model) -> str:
        value = _at(path, row)
        return admin.site.empty_value_display if value is None else show(value)

    cell.__name__ = path
    return cell


def _at(path: str, row: Any) -> Any:
    # What Django raises for a relation that leads nowhere is an AttributeError too.
    return reduce(lambda found, name: getattr(found, name, None), path.split("__"), row)


def places(number_of_them: int) -> Callable[[float], str]:
    return lambda number: f"{number:.{number_of_them}f}"


def second(instant: datetime) -> str:
    shown = f"{instant:%Y-%m-%d %H:%M:%S}"
    return format_html('<span class="whitespace-nowrap">{}</span>', shown)


def shown_id(device_id: str) -> str:
    """Return an id; a long one small and free to break, so that it fits into a row's height."""
    if len(device_id) <= _ID_LENGTH_OF_A_LINE:
        return device_id
    return format_html('<span class="long-id">{}</span>', device_id)


def last_seen(live_state: str) -> Column:
    return column("Last seen, UTC", f"{live_state}measured_at", second)


def meter_columns(live_state: str) -> list[Column]:
    return [column("Voltage, V", f"{live_state}voltage_v", places(1))]


def vehicle_columns(live_state: str) -> list[Column]:
    return [
        column("SoC, %", f"{live_state}soc_percent", places(1)),
        column("Battery, °C", f"{live_state}battery_temp_celsius", places(1)),
    ]


@display(
    description="State",
    ordering=EmptyLast("valid_during__endswith"),
    label={IN_FORCE: "success", BEGINS_LATER: "info"},
)
def link_state(link: VehicleMeterLink) -> str:
    span, now = link.valid_during, timezone.now()
    if span.lower > now:
        return BEGINS_LATER
    return ENDED if span.upper and span.upper <= now else IN_FORCE


SITE: Final = column("Site", "site__name")
REGISTERED: Final = column("Registered, UTC", "registered_at", second)
LINK_COLUMNS: Final = [
    column("Vehicle", "vehicle_id", shown_id),
    column("Meter", "meter_id", shown_id),
    column("Valid from, UTC", "valid_during__lower", second, "valid_during__startswith"),
    column("Valid to, UTC", "valid_during__upper", second, "valid_during__endswith"),
    link_state,
]


# --- Filters ----------------------------------------------------------------------------------


class _ConditionFilter(admin.SimpleListFilter):
    """A filter whose choices are conditions on the rows."""

    def conditions(self, now: datetime) -> Conditions:
        """Return, by its value in the address, the words of each choice and what it keeps."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        choices = self.conditions(timezone.now())
        return [(value, words) for value, (words, _) in choices.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.conditions(timezone.now()).get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class SeenFilter(_ConditionFilter):
    """How long ago the newest reading was measured; some devices have never sent any."""

    title = "last seen"
    parameter_name = "seen"

    def conditions(self, now: datetime) -> Conditions:
        return {
            "hour": ("In the last hour", Q(live_state__measured_at__gte=now - _HOUR)),
            "day": ("In the last 24 hours", Q(live_state__measured_at__gte=now - _DAY)),
            "silent": ("Not for 24 hours", Q(live_state__measured_at__lt=now - _DAY)),
            "never": ("Never", Q(live_state__isnull=True)),
        }


class LinkedFilter(_ConditionFilter):
    """Whether a vehicle is linked to a meter now."""

    title = "linked now"
    parameter_name = "linked"

    def conditions(self, now: datetime) -> Conditions:
        in_force = Exists(links_in_force(now).filter(vehicle=OuterRef("pk")))
        return {"yes": ("Linked", in_force), "no": ("Not linked", ~in_force)}


class LinkStateFilter(_ConditionFilter):
    """Links of the past, the present and the future."""

    title = "state"
    parameter_name = "state"

    def conditions(self, now: datetime) -> Conditions:
        return {
            "in-force": ("In force", Q(valid_during__contains=now)),
            "ended": ("Ended", Q(valid_during__endswith__lte=now)),
            "later": ("Begins later", Q(valid_during__startswith__gt=now)),
        }


class _DeviceFilter(admin.SimpleListFilter):
    """Links of the device that the address names; no menu of 10,000 devices where it names none."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = self.value() or ""
        return [(named, named)] if are_device_ids([named]) else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(Q((f"{self.parameter_name}_id", self.value())))


class VehicleFilter(_DeviceFilter):
    title = parameter_name = "vehicle"


class MeterFilter(_DeviceFilter):
    title = parameter_name = "meter"


def site_of(kind: str) -> tuple[str, type[admin.FieldListFilter]]:
    """Return a filter by the site of a link's vehicle or meter, named so."""

    class SiteFilter(admin.RelatedFieldListFilter):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.title = f"site of the {kind}"

    return f"{kind}__site", SiteFilter


def links_in_force(now: datetime) -> QuerySet[VehicleMeterLink]:
    return VehicleMeterLink.objects.filter(valid_during__contains=now)
