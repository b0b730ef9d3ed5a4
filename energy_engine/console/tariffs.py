"""Tariffs of sites: their prices, shown as a week, and the rules of those by time of use."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
)

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column, column_of_row
from energy_engine.console.words.weeks import end_words, picture, price_words, week_picture
from fleet.models import Site
from fleet.tariffs.models import Tariff, TariffKind, TariffRule, weekday_words
from fleet.tariffs.prices import (
    QUARTER,
    PlannedTariff,
    PriceStretch,
    price_stretches,
    series_stretches,
)
from fleet.tariffs.weeks import QUARTERS_PER_DAY, WEEKDAYS, Gap, Run, gaps, overlap, time_of

_QUARTERS: Final = [time_of(quarter) for quarter in range(QUARTERS_PER_DAY)]
_DAY: Final = timedelta(days=1)


def _time_choices(times: Iterable[time]) -> list[tuple[str, str]]:
    return [(f"{moment:%H:%M}", f"{moment:%H:%M}") for moment in times]


def _time_field(label: str, choices: list[tuple[str, str]]) -> forms.TypedChoiceField:
    return forms.TypedChoiceField(
        label=label,
        choices=choices,
        coerce=time.fromisoformat,
        widget=UnfoldAdminSelectWidget,
    )


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """A rule, whose weekdays are ticked and whose times are chosen."""

    days = forms.MultipleChoiceField(
        label="Weekdays",
        choices=[(day, day.capitalize()) for day in WEEKDAYS],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    start = _time_field("From", _time_choices(_QUARTERS))
    end = _time_field("To", [*_time_choices(_QUARTERS[1:]), ("00:00", "24:00")])

    class Meta:
        model = TariffRule
        fields = ["start", "end", "price_per_kwh"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["days"] = [WEEKDAYS[day - 1] for day in self.instance.weekdays]
            for name in ("start", "end"):
                self.initial[name] = f"{getattr(self.instance, name):%H:%M}"

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        self.instance.weekdays = sorted(WEEKDAYS.index(day) + 1 for day in values.get("days", []))
        return values


class RuleFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # not subscriptable at run time
    """The rules of a tariff, of which no two cover the same quarter hour."""

    def clean(self) -> None:
        super().clean()
        kept = [
            form
            for form in self.forms
            if form.has_changed() or form.instance.pk
            if form not in self.deleted_forms
        ]
        if any(form.errors for form in kept):
            return
        rules = [form.instance for form in kept]
        if rules and self.instance.kind != TariffKind.TIME_OF_USE:
            raise forms.ValidationError("Only a time-of-use tariff has rules.")
        if found := overlap([rule.as_rule() for rule in rules]):
            when = f"{WEEKDAYS[found.weekday - 1].capitalize()} {found.start:%H:%M}"
            raise forms.ValidationError(
                f"“{rules[found.first]}” and “{rules[found.second]}” overlap: "
                f"both have a price for {when}."
            )


class RulesOfTariff(TabularInline):
    """The rules of a time-of-use tariff."""

    model = TariffRule
    form = RuleForm
    formset = RuleFormSet
    fields = ["days", "start", "end", "price_per_kwh"]
    extra = 0
    verbose_name_plural = "Rules of a time-of-use tariff"


@admin.display(description="Prices")
def week(tariff: Tariff) -> SafeString | str:
    """Return the picture of a tariff: its week, or the current week of a series."""
    if not tariff.pk:
        return "-"
    of_week = tariff.week()
    if of_week is None:
        return _series_picture(tariff.site)
    return format_html("{}{}", week_picture(of_week, tariff.site.currency), _gap_list(tariff))


def _gap_list(tariff: Tariff) -> SafeString:
    """Return the times of the week without a price, in words; empty if there are none."""
    found = gaps(tariff.week() or [])
    lines = format_html_join("", "<li>{}</li>", ((_gap_words(gap),) for gap in found))
    if not found:
        return SafeString("")
    return format_html('<p>Without a price:</p><ul class="week-gaps">{}</ul>', lines)


def _gap_words(gap: Gap) -> str:
    return f"{weekday_words(gap.weekdays)} {gap.start:%H:%M} to {end_words(gap.end)}"


def _series_picture(site: Site) -> SafeString:
    """Return the prices of the series in the current week, by the site's local time."""
    zone = ZoneInfo(site.time_zone)
    today = timezone.now().astimezone(zone).date()
    monday = today - today.weekday() * _DAY
    days = [monday + number * _DAY for number in range(len(WEEKDAYS))]
    first, last = (datetime.combine(day, time(), zone) for day in (monday, monday + 7 * _DAY))
    series = series_stretches([site.pk], first, last).get(site.pk, [])
    prices = price_stretches([PlannedTariff(None, None)], series, zone, first, last)
    named = [(f"{day:%a} {day.day}", list(_runs_of(day, prices, zone))) for day in days]
    return picture(named, site.currency)


def _runs_of(day: date, prices: Iterable[PriceStretch], zone: ZoneInfo) -> Iterator[Run]:
    """Yield the prices of one day by its local time."""
    midnight = datetime.combine(day, time())
    for starts_at, ends_at, price in prices:
        bounds = (
            (moment.astimezone(zone).replace(tzinfo=None) - midnight) // QUARTER
            for moment in (starts_at, ends_at)
        )
        first, after = (min(max(quarter, 0), QUARTERS_PER_DAY) for quarter in bounds)
        if first < after:
            yield Run(first, after, price)


def in_force(site: Site) -> Tariff | None:
    """Return the tariff of today, by the site's local time, of those that are read already."""
    today = timezone.now().astimezone(ZoneInfo(site.time_zone)).date()
    begun = [one for one in site.tariffs.all() if one.valid_from is None or one.valid_from <= today]
    return max(begun, key=lambda tariff: tariff.valid_from or date.min, default=None)


@admin.display(description="Tariff, per kWh")
def price_in_force(site: Site) -> str:
    """Return the price or prices of today's tariff."""
    tariff = in_force(site)
    return prices_in_words(tariff) if tariff else "-"


class ShownTariff(NamedTuple):
    """A tariff on the page of its site."""

    tariff: Tariff
    words: str
    is_in_force: bool
    week: str


def tariffs_of(site: Site) -> list[ShownTariff]:
    """Return the tariffs of a site, the latest first; three statements and one for each series."""
    tariffs = site.tariffs.select_related("site").prefetch_related("rules")
    now = in_force(site)
    return [
        ShownTariff(one, f"{_since(one)}: {prices_in_words(one)}", one == now, week(one))
        for one in reversed(tariffs)
    ]


def _since(tariff: Tariff) -> str:
    since = f"From {tariff.valid_from}" if tariff.valid_from else "At all times"
    return f"{since}, {kind_words(tariff.kind)}"


def kind_words(kind: str) -> str:
    return str(TariffKind(kind).label).split(":")[0]


def prices_in_words(tariff: Tariff) -> str:
    """Return the price of a tariff, or the range of its prices."""
    of_week = tariff.week()
    if of_week is None:
        return "as sent"
    prices = sorted({price for price in of_week if price is not None})
    if not prices:
        return "none"
    words = [price_words(price) for price in dict.fromkeys((prices[0], prices[-1]))]
    return f"{' to '.join(words)} {tariff.site.currency}"


@admin.register(Tariff)
class TariffAdmin(ConsoleAdmin):
    """The tariffs of all sites; each page has the rules of one, and its week as a picture."""

    list_display = [
        column_of_row("Tariff", "pk", str, "site__name"),
        column("Valid from", "valid_from"),
        column("Kind", "kind", kind_words),
        column_of_row("Price, per kWh", "pk", prices_in_words, "price_per_kwh"),
    ]
    list_filter = ["kind", "site"]
    list_select_related = ["site"]
    fields = ["site", "valid_from", "kind", "price_per_kwh", week]
    readonly_fields = [week]
    inlines = [RulesOfTariff]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tariff]:
        tariffs: QuerySet[Tariff] = super().get_queryset(request)
        return tariffs.prefetch_related("rules")
