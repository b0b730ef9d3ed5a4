"""Links: which vehicle charges at which meter, and when."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.core.signing import BadSignature
from django.db import DataError, IntegrityError, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSplitDateTimeWidget

from energy_engine.console import link_undo
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import (
    IN_FORCE,
    LINK_COLUMNS,
    LinkStateFilter,
    MeterFilter,
    VehicleFilter,
    link_state,
    site_of,
)
from energy_engine.console.words import changes, link_words
from fleet.links import (
    EndsBeforeItBegins,
    LinksHaveChanged,
    NoLinkInForce,
    OutOfBounds,
    SpanChange,
    SpanNames,
    UnknownDevice,
    end_link,
    link_vehicle,
    undo,
)
from fleet.models import Vehicle, VehicleMeterLink

_LABELS: Final = SpanNames("Valid from", "Valid to")


class LinkInForceAlready(Exception):
    """The vehicle is already linked to the meter; nothing has changed."""


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Link a vehicle to a meter."""

    valid_from = forms.SplitDateTimeField(
        label="Valid from, UTC",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Leave empty to link from now. May be in the past.",
    )
    valid_to = forms.SplitDateTimeField(
        label="Valid to, UTC",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Leave empty to link until further notice. The vehicle's other links are cut or "
        "removed where they lie in that time.",
    )

    class Meta:
        model = VehicleMeterLink
        fields = ["vehicle", "meter"]


@admin.register(VehicleMeterLink)
class VehicleMeterLinkAdmin(ConsoleAdmin):
    """Links change through `fleet.links` alone; a vehicle's page cuts and removes them."""

    form = LinkForm
    add_fieldsets = [(None, {"fields": ["vehicle", "meter", "valid_from", "valid_to"]})]
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

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.undo_view))
        own = path("undo/", view, name="fleet_vehiclemeterlink_undo")
        return [own, *super().get_urls()]

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
            self.message_user(request, "This link is already in force", messages.INFO)
            return HttpResponseRedirect(reverse("admin:fleet_vehiclemeterlink_changelist"))
        except (OutOfBounds, EndsBeforeItBegins, UnknownDevice) as error:
            self.message_user(request, str(error), messages.ERROR)
        except (IntegrityError, DataError):
            self.message_user(request, "This link cannot be stored", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        data = form.cleaned_data
        made = link_vehicle(
            obj.vehicle_id, obj.meter_id, data["valid_from"], data["valid_to"], _LABELS
        )
        if not made.is_new:
            raise LinkInForceAlready
        obj.pk, obj.valid_during, obj.change = made.link.pk, made.link.valid_during, made.change
        told = link_undo.offer(request, link_words.linked(made.change), [made.change])
        self.message_user(request, told, messages.SUCCESS)

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> Any:
        change: SpanChange = form.instance.change
        return changes.message([_step(change)], is_new=True)

    @admin.action(description="End link now", permissions=["end"])
    def end_links(self, request: HttpRequest, links: QuerySet[VehicleMeterLink]) -> None:
        self._end_each(request, links)

    @action(
        description="End link now",
        icon="link_off",
        permissions=["end"],
        dialog={
            "title": "End this link now?",
            "description": "Later readings no longer count toward it.",
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
        ended: dict[str, SpanChange] = {}
        refused: list[str] = []
        for link in links:
            if change := self._end(request, link):
                ended[str(link)] = change
            else:
                refused.append(str(link))
        if ended:
            names = link_words.some([*ended])
            told = f"{len(ended)} link{pluralize(len(ended))} ended: {names}"
            told = link_undo.offer(request, told, [*ended.values()])
            self.message_user(request, told, messages.SUCCESS)
        if refused:
            names = link_words.some(refused)
            self.message_user(request, f"Not in force now: {names}", messages.WARNING)

    def _end(self, request: HttpRequest, link: VehicleMeterLink) -> SpanChange | None:
        """End this link and no other link of its vehicle; return None if it was not in force."""
        try:
            with transaction.atomic():
                ended, change = end_link(link.vehicle_id)
                if _beginning(ended) != _beginning(link):
                    raise NoLinkInForce
                step = changes.step(
                    link.vehicle_id, link_words.since(link), link_words.ended(ended)
                )
                self.log_change(request, link, changes.message([step]))
        except NoLinkInForce:
            return None
        return change

    def undo_view(self, request: HttpRequest) -> HttpResponse:
        """Undo the changes of the message whose button was pressed, all or none."""
        may_change = request.user.has_perm("fleet.change_vehiclemeterlink")
        if not (may_change or self.has_add_permission(request)):
            raise PermissionDenied
        try:
            undone = link_undo.asked_for(request)
        except BadSignature:
            self.message_user(request, "There is nothing to undo", messages.ERROR)
            return self._back(request, [])
        try:
            with transaction.atomic():
                for change in undone:
                    undo(change)
                    self._log_undo(request, change)
        except LinksHaveChanged:
            refusal = "Not undone: links were changed again in that time"
            self.message_user(request, refusal, messages.ERROR)
        except UnknownDevice as error:
            self.message_user(request, f"Not undone: {error}", messages.ERROR)
        else:
            told = [
                f"{change.vehicle_id}: {link_words.spans(change.superseded)}" for change in undone
            ]
            self.message_user(request, f"Undone. {link_words.some(told)}", messages.SUCCESS)
        return self._back(request, undone)

    def _log_undo(self, request: HttpRequest, change: SpanChange) -> None:
        step = _step(change._replace(superseded=change.became, became=change.superseded))
        vehicle = Vehicle.objects.get(pk=change.vehicle_id)
        self.log_change(request, vehicle, changes.message([f"{step}, undone"]))

    def _back(self, request: HttpRequest, undone: list[SpanChange]) -> HttpResponse:
        """Redirect to the vehicle, or to the list of links if there is not just one vehicle."""
        if len(undone) == 1 and request.user.has_perm("fleet.view_vehicle"):
            vehicle = quote(undone[0].vehicle_id)
            return HttpResponseRedirect(reverse("admin:fleet_vehicle_change", args=[vehicle]))
        if self.has_view_permission(request):
            return HttpResponseRedirect(reverse("admin:fleet_vehiclemeterlink_changelist"))
        return HttpResponseRedirect(reverse("admin:index"))


def _beginning(link: VehicleMeterLink) -> tuple[str, datetime]:
    """Return what identifies a link among its vehicle's links, even after its deletion."""
    return link.meter_id, link.valid_during.lower


def _step(change: SpanChange) -> str:
    """Return a change as the audit log stores it."""
    before, after = map(link_words.spans, (change.superseded, change.became))
    return changes.step(change.vehicle_id, before, after)
