"""Sites: where devices are, their time zone and energy tariff."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from analytics.models import FaultThresholds
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column
from fleet.models import Meter, Site, Vehicle


@admin.register(Site)
class SiteAdmin(ConsoleAdmin):
    list_display = [
        "name",
        "time_zone",
        column("Tariff, per kWh", "tariff_per_kwh"),
        "currency",
        column("Vehicles", "vehicles"),
        column("Meters", "meters"),
    ]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Site]:
        sites: QuerySet[Site] = super().get_queryset(request)
        return sites.annotate(vehicles=_number_at_site(Vehicle), meters=_number_at_site(Meter))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """Log the deleted sites, and their thresholds, which are deleted with them."""
        sites = list(queryset)
        gone = [*sites, *FaultThresholds.objects.filter(site__in=sites).select_related("site")]
        return super().log_deletions(request, gone)


def _number_at_site(model: type[Vehicle | Meter]) -> Coalesce:
    """Return the number of devices at a site; joining both kinds would multiply the counts."""
    of_site = model.objects.filter(site=OuterRef("pk")).order_by().values("site")
    return Coalesce(Subquery(of_site.annotate(number=Count("pk")).values("number")), 0)
