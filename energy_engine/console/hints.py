"""Hints: settings of devices that must be wrong, with the button that mends each."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from analytics.hints import hints
from analytics.hints.hints import SettingChanged, device_of
from analytics.hints.words import remedy, why
from analytics.models import Hint
from energy_engine.console.lists.exports import ExportedList
from energy_engine.console.lists.listing import column, column_of_row, meter_link, vehicle_links
from energy_engine.console.words import changes
from energy_engine.console.words.badges import second
from fleet.models import Meter, Vehicle

_TITLE: Final = "To check"
_TO_CHECK: Final = "admin:analytics_hint_changelist"


class Shown(NamedTuple):
    """A hint as a page shows it, with what its user may do."""

    pk: int
    title: str
    why: str
    remedy: str
    may_follow: bool
    may_dismiss: bool


def hints_of(request: HttpRequest, device: Meter | Vehicle) -> list[Shown]:
    """Return the hints about a device that are neither followed nor dismissed."""
    if not request.user.has_perm("analytics.view_hint"):
        return []
    own = {f"{device._meta.model_name}_id": device.pk}
    pending = Hint.objects.filter(followed_at=None, dismissed_at=None, **own).order_by("kind")
    return [shown(request, hint) for hint in pending]


def shown(request: HttpRequest, hint: Hint) -> Shown:
    """Return a hint with its words and buttons."""
    return Shown(
        hint.pk,
        f"Check the {hint.get_kind_display()}",
        why(hint),
        remedy(hint),
        may_follow(request, hint),
        hint.dismissed_at is None and request.user.has_perm("analytics.change_hint"),
    )


def may_follow(request: HttpRequest, hint: Hint) -> bool:
    """Return whether the user may change the settings of the hint's device."""
    model, _ = device_of(hint)
    return bool(request.user.has_perm(f"fleet.change_{model._meta.model_name}"))


def _device(hint: Hint) -> str:
    return vehicle_links([hint.vehicle_id]) if hint.vehicle_id else meter_link(str(hint.meter_id))


def _label(device: Meter | Vehicle, field: str) -> str:
    """Return the name of a setting as the device's form has it."""
    name = str(getattr(device._meta.get_field(field), "verbose_name", field))
    return name[:1].upper() + name[1:]


def _words(hint: Hint) -> str:
    return format_html('<div class="hint-why">{}</div>', why(hint))


KIND: Final = column_of_row("Check", "kind", lambda hint: hint.get_kind_display().capitalize())
DEVICE: Final = column_of_row(
    "Device",
    "kind",
    _device,
    "device_id",
    {"Vehicle": lambda hint: hint.vehicle_id, "Meter": lambda hint: hint.meter_id},
)
WHY: Final = column_of_row("Why", "kind", _words, exports={"Why": why})
REMEDY: Final = column_of_row("What to do", "field", remedy)
SINCE: Final = column("Since, UTC", "opened_at", second)
DISMISSED: Final = column("Dismissed by", "dismissed_by__username")


class DismissedFilter(admin.SimpleListFilter):
    """Hints that were dismissed or not; by default those that were not."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("dismissed", "Dismissed"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for value, words in [(None, _TITLE), *self.lookup_choices]:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": words,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(dismissed_at__isnull=self.value() != "dismissed")


@admin.register(Hint)
class HintAdmin(ExportedList):
    """The engine finds hints; people follow and dismiss them."""

    list_display = [KIND, DEVICE, WHY, REMEDY, SINCE, DISMISSED]
    fields = readonly_fields = [KIND, DEVICE, WHY, REMEDY, SINCE, DISMISSED]
    list_filter = [DismissedFilter, "kind"]
    list_select_related = ["dismissed_by"]
    search_fields = ["vehicle_id", "meter_id"]
    search_help_text = "id of a vehicle or a meter"
    change_form_template = "console/hint.html"
    actions = ["follow_selected", "dismiss_selected"]

    def get_urls(self) -> list[URLPattern]:
        views = {"follow": self.follow_view, "dismiss": self.dismiss_view}
        own = [
            path(
                f"<int:hint_id>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"analytics_hint_{name}",
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = (
            super()
            .get_queryset(request)
            .filter(followed_at=None)
            .select_related("dismissed_by")
            .annotate(device_id=Coalesce("vehicle_id", "meter_id"))
        )
        return rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_follow_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perms(["fleet.change_vehicle", "fleet.change_meter"])

    def has_dismiss_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("analytics.change_hint")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        # As the sidebar names it.
        page: HttpResponse = super().changelist_view(
            request, (extra_context or {}) | {"title": _TITLE}
        )
        return page

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        hint = kwargs.get("obj")
        page: HttpResponse = super().render_change_form(
            request, context | {"hint": hint and shown(request, hint)}, *args, **kwargs
        )
        return page

    @admin.action(description="Change the settings as proposed", permissions=["follow"])
    def follow_selected(self, request: HttpRequest, selected: QuerySet[Any]) -> None:
        self._each(request, selected, self._follow, "setting", "changed")

    @admin.action(description="Dismiss", permissions=["dismiss"])
    def dismiss_selected(self, request: HttpRequest, selected: QuerySet[Any]) -> None:
        self._each(request, selected, self._dismiss, "hint", "dismissed")

    def _each(
        self,
        request: HttpRequest,
        selected: QuerySet[Any],
        step: Callable[[HttpRequest, Hint], str],
        noun: str,
        verb: str,
    ) -> None:
        chosen = list(selected)
        done = sum(bool(step(request, hint)) for hint in chosen)
        if done:
            self.message_user(request, f"{done} {noun}{pluralize(done)} {verb}", messages.SUCCESS)
        if others := len(chosen) - done:
            told = f"{others} hint{pluralize(others)} skipped: the setting has changed meanwhile"
            self.message_user(request, told, messages.WARNING)

    def follow_view(self, request: HttpRequest, hint_id: int) -> HttpResponse:
        """Change the setting that a hint is about, and return to the page of the button."""
        hint = Hint.objects.filter(pk=hint_id, followed_at=None).first()
        if hint is not None and not may_follow(request, hint):
            raise PermissionDenied
        return self._answer(request, hint and self._follow(request, hint))

    def dismiss_view(self, request: HttpRequest, hint_id: int) -> HttpResponse:
        """Dismiss a hint, and return to the page of the button."""
        if not self.has_dismiss_permission(request):
            raise PermissionDenied
        hint = Hint.objects.filter(pk=hint_id, followed_at=None).first()
        return self._answer(request, hint and self._dismiss(request, hint))

    def _answer(self, request: HttpRequest, told: str | None) -> HttpResponse:
        if told:
            self.message_user(request, told, messages.SUCCESS)
        else:
            self.message_user(request, "This setting has changed meanwhile", messages.WARNING)
        page = request.POST.get("next", "")
        if not url_has_allowed_host_and_scheme(page, {request.get_host()}, request.is_secure()):
            page = reverse(_TO_CHECK)
        return HttpResponseRedirect(page)

    def _follow(self, request: HttpRequest, hint: Hint) -> str:
        """Follow a hint and log it; return what changed, or nothing if it is outdated."""
        try:
            with transaction.atomic():
                done = hints.follow(hint.pk)
                step = changes.step(_label(done.device, done.field), done.before, done.after)
                self.log_change(request, done.device, changes.message([step]))
        except (Hint.DoesNotExist, SettingChanged):
            return ""
        return f"{done.device}: {step}"

    def _dismiss(self, request: HttpRequest, hint: Hint) -> str:
        try:
            with transaction.atomic():
                hints.dismiss(hint.pk, request.user)  # type: ignore[arg-type]  # signed in
                step = changes.step("Dismissed", False, True)
                self.log_change(request, hint, changes.message([step]))
        except Hint.DoesNotExist:
            return ""
        return f"Dismissed: {hint}"
