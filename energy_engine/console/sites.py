"""Sites: where devices are, their time zone; defaults of new devices."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from unfold.admin import TabularInline

from analytics.models import FaultThresholds
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column, column_of_row, words
from fleet.models import DeviceDefaults, DeviceKind, Meter, Site, Vehicle

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
        "currency",
        column("Vehicles", "vehicles"),
        column("Meters", "meters"),
    ]
    search_fields = ["name"]
    inlines = [DefaultsOfSite]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Site]:
        sites: QuerySet[Site] = super().get_queryset(request)
        return sites.annotate(vehicles=_number_at_site(Vehicle), meters=_number_at_site(Meter))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """Log the deleted sites, with their thresholds and defaults, which are deleted too."""
        sites = list(queryset)
        of_sites = (FaultThresholds.objects, DeviceDefaults.objects)
        rows = [one.filter(site__in=sites).select_related("site") for one in of_sites]
        gone = [*sites, *rows[0], *rows[1]]
        return super().log_deletions(request, gone)


def _number_at_site(model: type[Vehicle | Meter]) -> Coalesce:
    """Return the number of devices at a site; joining both kinds would multiply the counts."""
    of_site = model.objects.filter(site=OuterRef("pk")).order_by().values("site")
    return Coalesce(Subquery(of_site.annotate(number=Count("pk")).values("number")), 0)
