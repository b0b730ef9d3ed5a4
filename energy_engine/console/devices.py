"""Vehicles and meters: lists and pages."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action

from energy_engine.console.listing import (
    REGISTERED,
    SITE,
    Column,
    LinkedFilter,
    SeenFilter,
    column,
    last_seen,
    links_in_force,
    meter_columns,
    shown_id,
    vehicle_columns,
)
from energy_engine.console.pages import ConsoleAdmin
from fleet.models import Meter, Vehicle
from fleet.registers import REGISTER_FIELDS, announce_register


class DeviceAdmin(ConsoleAdmin):
    """Meters and vehicles: history refers to them by id, so both id and device stay."""

    list_filter = ["site", SeenFilter]
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
