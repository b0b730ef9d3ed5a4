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
from analytics.alerting.kinds import KINDS, KindRecord
from analytics.models import FaultThresholds
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import Column, EmptyLast, column_of_row


class ThresholdsForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Thresholds, checked so that none closes a fault that would open again at once."""

    class Meta:
        model = FaultThresholds
        fields = ["site", *(name for record in KINDS.values() for name in record.thresholds)]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        for record in KINDS.values():
            if record.opens_on_side:
                self._check_order(record, values)
        return values

    def _check_order(self, record: KindRecord, values: dict[str, Any]) -> None:
        opens, closes = (values.get(name) for name in record.thresholds)
        if opens is None or closes is None:
            return
        opens_below = record.opens_on_side == "below"
        if closes < opens if opens_below else closes > opens:
            limit = f"at {'least' if opens_below else 'most'} {opens:g} {record.symbol}"
            self.add_error(
                record.thresholds[1], f"must be {limit}, the threshold at which faults open"
            )


def estimate(values: FaultThresholds) -> dict[str, Any]:
    """Return how many faults would have opened last week, in total and by kind."""
    counts = thresholds.faults_last_week(values)
    estimated = (record.kind for record in KINDS.values() if record.last_week)
    rows = [(kind.label, counts.get(kind, 0)) for kind in estimated]
    return {"total": sum(number for _, number in rows), "rows": rows}


WHERE = column_of_row("Site", "pk", str, "site__name")


def _column(record: KindRecord) -> Column:
    return column_of_row(
        record.heading,
        record.ordered_by,
        lambda row: record.with_thresholds(record.rule, row),
    )


def _fieldsets() -> list[tuple[str | None, dict[str, Any]]]:
    fields: dict[str, list[str]] = {}
    for record in KINDS.values():
        fields.setdefault(record.fieldset, []).extend(record.thresholds)
    return [(None, {"fields": ["site"]}), *((name, {"fields": of}) for name, of in fields.items())]


def _rules(values: FaultThresholds) -> str:
    """Return in sentences when faults open and close."""
    records = KINDS.values()
    *first, last = [one.with_thresholds(one.clause, values) for one in records if one.clause]
    others = [one.with_thresholds(one.sentence, values) for one in records if one.sentence]
    return " ".join([f"A fault opens when {', '.join(first)}, or {last}.", *others])


@admin.register(FaultThresholds)
class FaultThresholdsAdmin(ConsoleAdmin):
    form = ThresholdsForm
    list_display = [WHERE, *map(_column, KINDS.values())]
    list_select_related = ["site"]
    list_before_template = "console/threshold_list.html"
    change_form_after_template = "console/threshold_estimate.html"
    fieldsets = _fieldsets()

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
        general = thresholds.default_thresholds()
        context = (extra_context or {}) | {"general": general, "rules": _rules(general)}
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
