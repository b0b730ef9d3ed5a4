"""Sites: where devices are, their time zone and tariffs; defaults of new devices."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline

from analytics.models import FaultThresholds
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column, column_of_row, words
from energy_engine.console.tariffs import price_in_force, tariffs_of
from fleet.models import DeviceDefaults, DeviceKind, Meter, Site, Vehicle
from fleet.tariffs.models import Tariff

_ENERGY: Final = (
    "energy_register",
    "scale",
    "max_power_kw",
    *("interval_seconds", "rolls_over_at_kwh"),
)


class DefaultsOfSite(TabularInline):
    """The defaults of new meters and of new vehicles at a site."""

    model = DeviceDefaults
    fields = ["kind", *_ENERGY]
    extra = 0
    max_num = len(DeviceKind)
    verbose_name_plural = "Defaults of new devices, which register with a key of this site"


@admin.register(DeviceDefaults)
class DeviceDefaultsAdmin(ConsoleAdmin):
    """The settings of devices that register themselves, for one site or for all others."""

    list_display = [
        column_of_row("New devices", "pk", str, "kind"),
        column("Site", "site__name"),
        column("Register", "energy_register", words),
        column("Scale, kWh per unit", "scale"),
        column("Max power, kW", "max_power_kw"),
        column("Interval, seconds", "interval_seconds"),
        column("Rolls over at, kWh", "rolls_over_at_kwh"),
    ]
    list_select_related = ["site"]
    list_filter = ["kind", "site"]
    fieldsets = [
        ("Which devices", {"fields": ["kind", "site"]}),
        ("How their energy is counted", {"fields": _ENERGY}),
    ]


@admin.register(Site)
class SiteAdmin(ConsoleAdmin):
    list_display = [
        "name",
        "time_zone",
        price_in_force,
        "currency",
        column("Vehicles", "vehicles"),
        column("Meters", "meters"),
    ]
    search_fields = ["name"]
    inlines = [DefaultsOfSite]
    change_form_outer_after_template = "console/site_tariffs.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Site]:
        sites: QuerySet[Site] = super().get_queryset(request)
        counted = sites.annotate(vehicles=_number_at_site(Vehicle), meters=_number_at_site(Meter))
        return counted.prefetch_related("tariffs__rules", "tariffs__site")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Return the page of a site, with its tariffs for those who may view them."""
        site = self.get_object(request, unquote(object_id))
        context = dict(extra_context or {})
        if site and request.user.has_perm("fleet.view_tariff"):
            context["tariffs"] = tariffs_of(site)
            context["may_add_tariff"] = request.user.has_perm("fleet.add_tariff")
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """Log the deleted sites, with what is deleted with them."""
        sites = list(queryset)
        of_sites: tuple[type[Model], ...] = (FaultThresholds, DeviceDefaults, Tariff)
        gone = [
            row
            for model in of_sites
            for row in model._default_manager.filter(site__in=sites).select_related("site")
        ]
        return super().log_deletions(request, [*sites, *gone])


def _number_at_site(model: type[Vehicle | Meter]) -> Coalesce:
    """Return the number of devices at a site; joining both kinds would multiply the counts."""
    of_site = model.objects.filter(site=OuterRef("pk")).order_by().values("site")
    return Coalesce(Subquery(of_site.annotate(number=Count("pk")).values("number")), 0)
