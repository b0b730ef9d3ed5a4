"""The fleet manager's pages: devices and sites to edit, links to make, live state to read."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import DataError, IntegrityError, transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSplitDateTimeWidget

from fleet.links import NoLinkInForce, OutOfBounds, UnknownDevice, end_link, link_vehicle
from fleet.listing import (
    IN_FORCE,
    LINK_COLUMNS,
    REGISTERED,
    SITE,
    Column,
    DeviceSeenFilter,
    LinkedFilter,
    LinkStateFilter,
    MeterFilter,
    SeenFilter,
    VehicleFilter,
    column,
    last_seen,
    link_state,
    links_in_force,
    meter_columns,
    places,
    second,
    shown_id,
    site_of,
    vehicle_columns,
)
from fleet.models import Meter, MeterLiveState, Site, Vehicle, VehicleLiveState, VehicleMeterLink
from fleet.registers import REGISTER_FIELDS, announce_register

_NAMED_AT_MOST: Final = 5
# An id of 64 characters must not widen a table, a message or a form beyond the screen.
_STYLE: Final = format_html(
    "<style>{}</style>",
    ".long-id { display: inline-block; min-width: 8rem; max-width: 18rem; font-size: 11px;"
    " line-height: 1.2; overflow-wrap: anywhere }"
    "li { overflow-wrap: anywhere }"
    ".related-widget-wrapper .select2-container { contain: inline-size; min-width: 0 }",
)

# --- Registry ---------------------------------------------------------------------------------


class FleetAdmin(ModelAdmin):
    """What all pages of the fleet have in common."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": [_STYLE]}


@admin.register(Site)
class SiteAdmin(FleetAdmin):
    list_display = [
        "name",
        "time_zone",
        column("Vehicles", "vehicles"),
        column("Meters", "meters"),
    ]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Site]:
        sites: QuerySet[Site] = super().get_queryset(request)
        return sites.annotate(vehicles=_number_at_site(Vehicle), meters=_number_at_site(Meter))


def _number_at_site(model: type[Vehicle | Meter]) -> Coalesce:
    """Return the number of devices of a site; a join of both kinds would multiply them."""
    of_site = model.objects.filter(site=OuterRef("pk")).order_by().values("site")
    return Coalesce(Subquery(of_site.annotate(number=Count("pk")).values("number")), 0)


class DeviceAdmin(FleetAdmin):
    """Meters and vehicles: history refers to them by id, so both id and device stay."""

    list_filter = ["site", DeviceSeenFilter]
    list_select_related = ["site", "live_state"]
    actions_detail = ["show_links", "add_link"]
    last_known: list[Column]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        key = self.list_display[0] if obj else self.model._meta.pk.name
        editable = (None, {"fields": [key, "site", "energy_register", "max_power_kw"]})
        known = ("Last known", {"fields": [*self.last_known, REGISTERED]})
        return [editable, known] if obj else [editable]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [self.list_display[0], *self.last_known, REGISTERED] if obj else []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and REGISTER_FIELDS.intersection(form.changed_data):
            announce_register(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_links_permission(self, request: HttpRequest, device_id: str = "") -> bool:
        return request.user.has_perm("fleet.view_vehiclemeterlink")

    def has_add_links_permission(self, request: HttpRequest, device_id: str = "") -> bool:
        return request.user.has_perm("fleet.add_vehiclemeterlink")

    @action(description="Links", icon="link", permissions=["view_links"])
    def show_links(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._links_page("changelist", object_id)

    @action(description="New link", icon="add_link", permissions=["add_links"])
    def add_link(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._links_page("add", object_id)

    def _links_page(self, page: str, object_id: str) -> HttpResponse:
        query = urlencode({self.model._meta.model_name: unquote(object_id)})
        return HttpResponseRedirect(f"{reverse(f'admin:fleet_vehiclemeterlink_{page}')}?{query}")


@admin.register(Vehicle)
class VehicleAdmin(DeviceAdmin):
    last_known = [
        *vehicle_columns("live_state__"),
        last_seen("live_state__"),
        column("Meter now", "meter_now", shown_id),
    ]
    list_display = [column("Vehicle", "vehicle_id", shown_id), SITE, *last_known]
    list_filter = [*DeviceAdmin.list_filter, LinkedFilter]
    search_fields = ["vehicle_id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Vehicle]:
        in_force = links_in_force(timezone.now()).filter(vehicle=OuterRef("pk"))
        vehicles: QuerySet[Vehicle] = super().get_queryset(request)
        return vehicles.annotate(meter_now=in_force.order_by().values("meter_id")[:1])


@admin.register(Meter)
class MeterAdmin(DeviceAdmin):
    last_known = [*meter_columns("live_state__"), last_seen("live_state__")]
    list_display = [column("Meter", "meter_id", shown_id), SITE, *last_known]
    search_fields = ["meter_id"]


# --- Live state -------------------------------------------------------------------------------


class LiveStateAdmin(FleetAdmin):
    """Readings alone move live state, so nobody else does."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(VehicleLiveState)
class VehicleLiveStateAdmin(LiveStateAdmin):
    list_display = fields = readonly_fields = [
        column("Vehicle", "vehicle_id", shown_id),
        column("Site", "vehicle__site__name"),
        *vehicle_columns(""),
        column("DC energy, kWh", "energy_dc_kwh", places(3)),
        last_seen(""),
        column("Received, UTC", "received_at", second),
    ]
    list_filter = ["vehicle__site", SeenFilter]
    list_select_related = ["vehicle__site"]
    search_fields = ["vehicle__vehicle_id"]
    ordering = ["vehicle_id"]


@admin.register(MeterLiveState)
class MeterLiveStateAdmin(LiveStateAdmin):
    list_display = fields = readonly_fields = [
        column("Meter", "meter_id", shown_id),
        column("Site", "meter__site__name"),
        *meter_columns(""),
        column("AC energy, kWh", "energy_ac_kwh", places(3)),
        last_seen(""),
        column("Received, UTC", "received_at", second),
    ]
    list_filter = ["meter__site", SeenFilter]
    list_select_related = ["meter__site"]
    search_fields = ["meter__meter_id"]
    ordering = ["meter_id"]


# --- Links ------------------------------------------------------------------------------------


class LinkInForceAlready(Exception):
    """The vehicle is linked to the meter already; nothing has changed."""


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Link a vehicle to a meter."""

    valid_from = forms.SplitDateTimeField(
        label="Valid from, UTC",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Now, if left empty. The vehicle's link in force at that time ends, "
        "and its links that begin then or later, ended or not, are removed.",
    )

    class Meta:
        model = VehicleMeterLink
        fields = ["vehicle", "meter"]


@admin.register(VehicleMeterLink)
class VehicleMeterLinkAdmin(FleetAdmin):
    """Links begin and end through `fleet.links`; the past is not for editing."""

    form = LinkForm
    add_fieldsets = [(None, {"fields": ["vehicle", "meter", "valid_from"]})]
    autocomplete_fields = ["vehicle", "meter"]
    list_display = fields = readonly_fields = LINK_COLUMNS
    list_filter = [
        LinkStateFilter,
        site_of("vehicle"),
        site_of("meter"),
        VehicleFilter,
        MeterFilter,
    ]
    search_fields = ["vehicle__vehicle_id", "meter__meter_id"]
    ordering = ["-pk"]
    actions = ["end_links"]
    actions_detail = ["end_this_link"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest, link_id: str = "") -> bool:
        return request.user.has_perm("fleet.change_vehiclemeterlink")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        link = self.get_object(request, unquote(object_id))
        can_end = link is not None and link_state(link) == IN_FORCE
        return list(super().get_actions_detail(request, object_id)) if can_end else []

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            page: HttpResponse = super().changeform_view(request, *args, **kwargs)
            return page
        except LinkInForceAlready:
            self.message_user(request, "This link is in force already", messages.INFO)
            return HttpResponseRedirect(reverse("admin:fleet_vehiclemeterlink_changelist"))
        except (OutOfBounds, UnknownDevice) as error:
            self.message_user(request, str(error), messages.ERROR)
        except (IntegrityError, DataError):
            self.message_user(request, "This link cannot be stored", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        valid_from = form.cleaned_data["valid_from"]
        made = link_vehicle(obj.vehicle_id, obj.meter_id, valid_from)
        if not made.is_new:
            raise LinkInForceAlready
        obj.pk, obj.valid_during = made.link.pk, made.link.valid_during
        if made.superseded:
            gone = _some([f"{link}, {_span_of(link)}" for link in made.superseded])
            self.message_user(request, f"Superseded, and gone: {gone}", messages.WARNING)

    @admin.action(description="End link now", permissions=["end"])
    def end_links(self, request: HttpRequest, links: QuerySet[VehicleMeterLink]) -> None:
        self._end_each(request, links)

    @action(
        description="End link now",
        icon="link_off",
        permissions=["end"],
        dialog={
            "title": "End this link now?",
            "description": "Readings from now on belong to it no more.",
            "form_submit_text": "End link now",
        },
    )
    def end_this_link(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        link = self.get_object(request, unquote(object_id))
        if link is None:
            raise Http404
        self._end_each(request, [link])
        page = reverse("admin:fleet_vehiclemeterlink_change", args=[link.pk])
        return HttpResponse(headers={"HX-Redirect": page})

    def _end_each(self, request: HttpRequest, links: Iterable[VehicleMeterLink]) -> None:
        ended: list[str] = []
        refused: list[str] = []
        for link in links:
            (ended if self._end(request, link) else refused).append(str(link))
        if ended:
            told = f"{len(ended)} link{pluralize(len(ended))} ended: {_some(ended)}"
            self.message_user(request, told, messages.SUCCESS)
        if refused:
            self.message_user(request, f"Not in force now: {_some(refused)}", messages.WARNING)

    def _end(self, request: HttpRequest, link: VehicleMeterLink) -> bool:
        """End this link, never another one of its vehicle; return whether it was in force."""
        try:
            with transaction.atomic():
                if _beginning(end_link(link.vehicle_id)) != _beginning(link):
                    raise NoLinkInForce
                self.log_change(request, link, "Ended.")
        except NoLinkInForce:
            return False
        return True


def _beginning(link: VehicleMeterLink) -> tuple[str, datetime]:
    """Return what tells a link of a vehicle from its others, also once it is gone."""
    return link.meter_id, link.valid_during.lower


def _span_of(link: VehicleMeterLink) -> str:
    begin, end = link.valid_during.lower, link.valid_during.upper
    return f"{begin:%Y-%m-%d %H:%M} to {f'{end:%Y-%m-%d %H:%M}' if end else 'further notice'}"


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
