"""Vehicles and meters: lists and pages."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, FilteredRelation, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action

from energy_engine.console.devices.pages import MeterPage, VehiclePage
from energy_engine.console.devices.settings import SettingsOfMany
from energy_engine.console.lists.exports import ExportedList
from energy_engine.console.lists.listing import (
    REGISTER,
    SITE,
    HealthFilter,
    LinkedFilter,
    OnlineFilter,
    RegisterFilter,
    RetiredFilter,
    SeenFilter,
    column,
    device_column,
    health,
    last_seen,
    links_in_force,
    meter_columns,
    meter_link,
    places,
    vehicle_columns,
    vehicle_links,
)
from fleet.look_alikes import look_alike
from fleet.models import Meter, Vehicle
from fleet.registers import REGISTER_FIELDS, announce_register


class DeviceAdmin(SettingsOfMany, ExportedList):
    """Meters and vehicles. History refers to them by id: they cannot be renamed or deleted."""

    list_filter = [
        *("site", RegisterFilter, RetiredFilter),
        *(HealthFilter, OnlineFilter, LinkedFilter, SeenFilter),
    ]
    list_select_related = ["site", "live_state", "day"]
    actions_detail = ["show_links", "add_link"]

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
class VehicleAdmin(VehiclePage, DeviceAdmin):
    list_display = [
        device_column("Vehicle", "vehicle_id"),
        SITE,
        REGISTER,
        *vehicle_columns("live_state__"),
        last_seen("live_state__"),
        column("DC 24 h, kWh", "day__energy_dc_kwh", places(2)),
        column("AC 24 h, kWh", "day__energy_ac_kwh", places(2)),
        column("Efficiency, %", "day__efficiency_percent", places(2)),
        health(),
        column("Meter now", "meter_now", meter_link),
    ]
    search_fields = ["vehicle_id", "name", "external_id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Vehicle]:
        vehicles: QuerySet[Vehicle] = super().get_queryset(request)
        # A join, because at most one link is in force: ordering by a subquery would run it for
        # each vehicle.
        in_force = FilteredRelation(
            "links", condition=Q(links__valid_during__contains=timezone.now())
        )
        return vehicles.annotate(
            link_now=in_force, meter_now=F("link_now__meter_id"), look_alike=look_alike(Vehicle)
        )


@admin.register(Meter)
class MeterAdmin(MeterPage, DeviceAdmin):
    list_display = [
        device_column("Meter", "meter_id"),
        SITE,
        REGISTER,
        *meter_columns("live_state__"),
        last_seen("live_state__"),
        column("AC 24 h, kWh", "day__energy_ac_kwh", places(2)),
        column("DC while linked, kWh", "day__linked_dc_kwh", places(2)),
        column("Efficiency, %", "day__efficiency_percent", places(2)),
        health(),
        column("Vehicles now", "vehicles_now", vehicle_links, "vehicles_now__len"),
    ]
    search_fields = ["meter_id", "name", "external_id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Meter]:
        in_force = links_in_force(timezone.now()).filter(meter=OuterRef("pk"))
        meters: QuerySet[Meter] = super().get_queryset(request)
        vehicle_ids = in_force.order_by("vehicle_id").values("vehicle_id")
        return meters.annotate(
            vehicles_now=ArraySubquery(vehicle_ids), look_alike=look_alike(Meter)
        )
