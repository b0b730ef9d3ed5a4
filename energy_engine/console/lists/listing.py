"""Columns and filters of the admin's lists."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Exists, F, Model, OrderBy, OuterRef, Q, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import conditional_escape, format_html, format_html_join
from unfold.decorators import display

from analytics.formulas import Health
from energy_engine.console.words.badges import (
    below,
    health_badge,
    is_online,
    local_time,
    online_mark,
    second,
    soc_bar,
)
from fleet.device_ids import are_device_ids
from fleet.models import EnergyRegister, VehicleMeterLink

IN_FORCE: Final = "in force"
ENDED: Final = "ended"
BEGINS_LATER: Final = "begins later"

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_ID_LENGTH_OF_A_LINE: Final = 24
_SHOWN_AT_MOST: Final = 2

Conditions = dict[str, tuple[str, Q | Combinable]]
# The values of a row in CSV, by column heading.
Exports = dict[str, Callable[[Any], Any]]


# --- Columns ----------------------------------------------------------------------------------


class EmptyLast(F):
    """An ordering with empty values last in either direction."""

    def asc(self, **_: Any) -> OrderBy:
        return super().asc(nulls_last=True)

    def desc(self, **_: Any) -> OrderBy:
        return super().desc(nulls_last=True)


class Column:
    """A column of a list: heading, cell, ordering and CSV values."""

    def __init__(
        self,
        heading: str,
        path: str,
        show: Callable[[Any], str],
        order_by: str | None = None,
        exports: Exports | None = None,
    ) -> None:
        self.short_description = heading
        self.admin_order_field = EmptyLast(order_by or path)
        self.exports: Exports = exports or {heading: lambda row: at(path, row)}
        self.__name__ = path
        self._show = show

    def __call__(self, row: Model) -> str:
        return self._show(row)


def column(
    heading: str, path: str, show: Callable[[Any], str] = str, order_by: str | None = None
) -> Column:
    """Return a column of the value at `path`; a dash if the row or its relation has none."""
    return column_of_row(heading, path, lambda row: show(at(path, row)), order_by)


def column_of_row(
    heading: str,
    path: str,
    show: Callable[[Any], str],
    order_by: str | None = None,
    exports: Exports | None = None,
) -> Column:
    """Return a column computed from the whole row; a dash if there is no value at `path`."""

    def cell(row: Model) -> str:
        return admin.site.empty_value_display if at(path, row) is None else show(row)

    return Column(heading, path, cell, order_by, exports)


def at(path: str, row: Any) -> Any:
    """Return the value at `path`, such as `site__name`; None if any part of the path is missing."""
    # Django's error for a missing related object is an AttributeError too.
    return reduce(lambda found, name: getattr(found, name, None), path.split("__"), row)


def places(number_of_them: int) -> Callable[[float], str]:
    return lambda number: f"{number:.{number_of_them}f}"


def shown_id(device_id: str) -> str:
    """Return an id; a long one in small type that may wrap, so that it fits the row height."""
    if len(device_id) <= _ID_LENGTH_OF_A_LINE:
        return device_id
    return format_html('<span class="long-id">{}</span>', device_id)


def device_column(heading: str, path: str) -> Column:
    """Return the column of a device's id, with its name, and a warning if it looks like another."""
    exports: Exports = {heading: lambda row: row.pk, "Name": lambda row: row.name}
    return column_of_row(heading, path, _id_with_name, exports=exports)


def _id_with_name(row: Any) -> str:
    shown = below(conditional_escape(shown_id(row.pk)), row.name)
    if not row.look_alike:
        return shown
    return below(conditional_escape(shown), f"⚠ {row.look_alike} differs only by case or .0")


def last_seen(live_state: str) -> Column:
    """Return the column of a device's newest reading, marked online or offline."""
    measured, received = f"{live_state}measured_at", f"{live_state}received_at"
    exports: Exports = {
        "Last seen, UTC": lambda row: at(measured, row),
        "Online": lambda row: _yes_or_no(at(received, row)),
    }
    return column_of_row(
        "Last seen, UTC",
        measured,
        lambda row: _seen(at(measured, row), at(received, row), row),
        exports=exports,
    )


def _seen(measured_at: datetime, received_at: datetime, device: Any) -> str:
    mark, local = online_mark(received_at, device), local_time(measured_at, device.site)
    return below(second(measured_at), format_html("{} {}", mark, local) if local else mark)


def _yes_or_no(received_at: datetime | None) -> str:
    return "yes" if received_at and is_online(received_at) else "no"


def meter_columns(live_state: str) -> list[Column]:
    return [column("Voltage, V", f"{live_state}voltage_v", places(1))]


def vehicle_columns(live_state: str) -> list[Column]:
    return [
        column("SoC, %", f"{live_state}soc_percent", soc_bar),
        column("Battery, °C", f"{live_state}battery_temp_celsius", places(1)),
    ]


def health() -> Column:
    return column_of_row(
        "Health",
        "day__health",
        lambda row: health_badge(row.day.health, row.day.reason),
        exports={
            "Health": lambda row: at("day__health", row),
            "Reason": lambda row: at("day__reason", row),
        },
    )


def meter_link(meter_id: str) -> str:
    return _link("meter", meter_id)


def vehicle_links(vehicle_ids: list[str]) -> str:
    """Return links to the first few vehicles, and the number of the others."""
    more = len(vehicle_ids) - _SHOWN_AT_MOST
    shown = [(_link("vehicle", vehicle_id),) for vehicle_id in vehicle_ids[:_SHOWN_AT_MOST]]
    links = format_html_join(", ", "{}", shown)
    return format_html("{} and {} more", links, more) if more > 0 else links or "-"


def _link(kind: str, device_id: str) -> str:
    page = reverse(f"admin:fleet_{kind}_change", args=[quote(device_id)])
    return format_html('<a class="console-link" href="{}">{}</a>', page, shown_id(device_id))


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


def words(register: str) -> str:
    return register.replace("_", " ").capitalize()


def _in_service(now: datetime) -> Q:
    return Q(retired_at__isnull=True) | Q(retired_at__gt=now)


SITE: Final = column("Site", "site__name")
REGISTER: Final = column("Register", "energy_register", words)
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
        """Return the label and the condition of each choice, by its value in the address."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        choices = self.conditions(timezone.now())
        return [(value, words) for value, (words, _) in choices.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.conditions(timezone.now()).get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class SeenFilter(_ConditionFilter):
    """How long ago the newest reading was measured, if there is one."""

    title = "last seen"
    parameter_name = "seen"

    def conditions(self, now: datetime) -> Conditions:
        return {
            "hour": ("In the last hour", Q(live_state__measured_at__gte=now - _HOUR)),
            "day": ("In the last 24 hours", Q(live_state__measured_at__gte=now - _DAY)),
            "silent": ("Not for 24 hours", Q(live_state__measured_at__lt=now - _DAY)),
            "never": ("Never", Q(live_state__isnull=True)),
        }


class OnlineFilter(_ConditionFilter):
    """Whether a reading was received within ONLINE_WINDOW, whatever its timestamp."""

    title = "online"
    parameter_name = "online"

    def conditions(self, now: datetime) -> Conditions:
        online = Q(live_state__received_at__gte=now - settings.ONLINE_WINDOW)
        return {
            "yes": ("Online", online),
            # Not `~online`, which would query the live states a second time.
            "no": (
                "Offline",
                Q(live_state__received_at__lt=now - settings.ONLINE_WINDOW) & _in_service(now)
                | Q(live_state__isnull=True) & _in_service(now),
            ),
        }


class RetiredFilter(_ConditionFilter):
    """Whether a device is out of service."""

    title = "retired"
    parameter_name = "retired"

    def conditions(self, now: datetime) -> Conditions:
        return {
            "no": ("In service", _in_service(now)),
            "yes": ("Retired", Q(retired_at__lte=now)),
        }


class RegisterFilter(_ConditionFilter):
    """Devices by energy register, in one word each."""

    title = "register"
    parameter_name = "register"

    def conditions(self, now: datetime) -> Conditions:
        return {
            register.value: (words(register), Q(energy_register=register))
            for register in EnergyRegister
        }


class HealthFilter(_ConditionFilter):
    """Health by the efficiency of the last 24 hours."""

    title = "health"
    parameter_name = "health"

    def conditions(self, now: datetime) -> Conditions:
        return {health: (health.capitalize(), Q(day__health=health)) for health in Health}


class LinkedFilter(_ConditionFilter):
    """Whether a vehicle or a meter is linked now."""

    title = "linked now"
    parameter_name = "linked"

    def __init__(self, request: HttpRequest, params: Any, model: type[Model], *args: Any) -> None:
        self._kind = str(model._meta.model_name)
        super().__init__(request, params, model, *args)

    def conditions(self, now: datetime) -> Conditions:
        in_force = Exists(links_in_force(now).filter(Q((self._kind, OuterRef("pk")))))
        return {"yes": ("Linked", in_force), "no": ("Not linked", ~in_force)}


class LinkStateFilter(_ConditionFilter):
    """Past, current and future links."""

    title = "state"
    parameter_name = "state"

    def conditions(self, now: datetime) -> Conditions:
        return {
            "in-force": ("In force", Q(valid_during__contains=now)),
            "ended": ("Ended", Q(valid_during__endswith__lte=now)),
            "later": ("Begins later", Q(valid_during__startswith__gt=now)),
        }


class _DeviceFilter(admin.SimpleListFilter):
    """Links of the device named in the address; without one, no menu of 10,000 devices."""

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
    """Return a filter by the site of a link's vehicle or meter, with a title that says which."""

    class SiteFilter(admin.RelatedFieldListFilter):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.title = f"site of the {kind}"

    return f"{kind}__site", SiteFilter


def links_in_force(now: datetime) -> QuerySet[VehicleMeterLink]:
    return VehicleMeterLink.objects.filter(valid_during__contains=now)
