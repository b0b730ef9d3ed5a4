"""Thresholds: when faults open and close, for one site or for all others."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from analytics.alerting import thresholds
from analytics.models import FaultKind, FaultThresholds
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import EmptyLast, column_of_row


class ThresholdsForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Thresholds, checked so that none closes a fault that would open again at once."""

    class Meta:
        model = FaultThresholds
        fields = [
            "site",
            "efficiency_opens_percent",
            "efficiency_closes_percent",
            "battery_opens_celsius",
            "battery_closes_celsius",
            "silent_opens_cadences",
            "silent_opens_minutes",
            "site_silent_devices",
        ]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        opens, closes = _both(values, "efficiency", "percent")
        if opens is not None and closes is not None and closes < opens:
            self.add_error(
                "efficiency_closes_percent",
                f"must be at least {opens:g} %, the threshold at which faults open",
            )
        opens, closes = _both(values, "battery", "celsius")
        if opens is not None and closes is not None and closes > opens:
            self.add_error(
                "battery_closes_celsius",
                f"must be at most {opens:g} °C, the threshold at which faults open",
            )
        return values


def _both(values: dict[str, Any], measure: str, unit: str) -> tuple[float | None, float | None]:
    return values.get(f"{measure}_opens_{unit}"), values.get(f"{measure}_closes_{unit}")


def estimate(values: FaultThresholds) -> dict[str, Any]:
    """Return how many faults would have opened last week, in total and by kind."""
    counts = thresholds.faults_last_week(values)
    rows = [(kind.label, counts.get(kind, 0)) for kind in FaultKind]
    return {"total": sum(number for _, number in rows), "rows": rows}


WHERE = column_of_row("Site", "pk", str, "site__name")
EFFICIENCY = column_of_row(
    "Efficiency",
    "efficiency_opens_percent",
    lambda row: (
        f"below {row.efficiency_opens_percent:g} %, closes at {row.efficiency_closes_percent:g} %"
    ),
)
BATTERY = column_of_row(
    "Battery",
    "battery_opens_celsius",
    lambda row: (
        f"above {row.battery_opens_celsius:g} °C, closes below {row.battery_closes_celsius:g} °C"
    ),
)
SILENCE = column_of_row(
    "Silence",
    "silent_opens_minutes",
    lambda row: f"{row.silent_opens_cadences:g} intervals and {row.silent_opens_minutes:g} min",
)
TOGETHER = column_of_row(
    "Many devices silent",
    "site_silent_devices",
    lambda row: f"{row.site_silent_devices} or more",
)


@admin.register(FaultThresholds)
class FaultThresholdsAdmin(ConsoleAdmin):
    form = ThresholdsForm
    list_display = [WHERE, EFFICIENCY, BATTERY, SILENCE, TOGETHER]
    list_select_related = ["site"]
    list_before_template = "console/threshold_list.html"
    change_form_after_template = "console/threshold_estimate.html"
    fieldsets = [
        (None, {"fields": ["site"]}),
        ("Efficiency", {"fields": ["efficiency_opens_percent", "efficiency_closes_percent"]}),
        ("Battery", {"fields": ["battery_opens_celsius", "battery_closes_celsius"]}),
        (
            "Silent devices",
            {"fields": ["silent_opens_cadences", "silent_opens_minutes", "site_silent_devices"]},
        ),
    ]

    def get_urls(self) -> list[URLPattern]:
        trial = self.admin_site.admin_view(require_POST(self.estimate_view))
        own = path("estimate/", trial, name="analytics_faultthresholds_estimate")
        return [own, *super().get_urls()]

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        return [EmptyLast("site__name").asc(), "pk"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[FaultThresholds]:
        rows: QuerySet[FaultThresholds] = super().get_queryset(request)
        return rows.select_related("site")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = (extra_context or {}) | {"general": thresholds.default_thresholds()}
        page: HttpResponse = super().changelist_view(request, context)
        return page

    def estimate_view(self, request: HttpRequest) -> HttpResponse:
        """Return the faults that the form's values would have opened, or the form's errors."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        site = request.POST.get("site", "")
        # An estimate saves nothing: existing thresholds of the site are not an error.
        those_of_site = FaultThresholds.objects.filter(site=site if site.isdecimal() else None)
        form = ThresholdsForm(request.POST, instance=those_of_site.first())
        context: dict[str, Any] = {}
        if form.is_valid():
            context["estimate"] = estimate(form.instance)
        else:
            context["errors"] = [
                f"{form.fields[name].label if name in form.fields else 'Thresholds'}: {error}"
                for name, errors in form.errors.items()
                for error in errors
            ]
        return render(request, "console/threshold_counts.html", context)
