"""Links: which vehicle charges at which meter, and when."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import DataError, IntegrityError, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSplitDateTimeWidget

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
    NoLinkInForce,
    OutOfBounds,
    UnknownDevice,
    end_link,
    link_vehicle,
)
from fleet.models import VehicleMeterLink

_NAMED_AT_MOST: Final = 5


class LinkInForceAlready(Exception):
    """The vehicle is already linked to the meter; nothing has changed."""


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Link a vehicle to a meter."""

    valid_from = forms.SplitDateTimeField(
        label="Valid from, UTC",
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="Leave empty to link from now. The vehicle's link in force at that time ends "
        "then. Its links that begin then or later are removed, even those that have ended.",
    )

    class Meta:
        model = VehicleMeterLink
        fields = ["vehicle", "meter"]


@admin.register(VehicleMeterLink)
class VehicleMeterLinkAdmin(ConsoleAdmin):
    """Links begin and end through `fleet.links`; past links cannot be edited."""

    form = LinkForm
    add_fieldsets = [(None, {"fields": ["vehicle", "meter", "valid_from"]})]
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
        except (OutOfBounds, UnknownDevice) as error:
            self.message_user(request, str(error), messages.ERROR)
        except (IntegrityError, DataError):
            self.message_user(request, "This link cannot be stored", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        valid_from = form.cleaned_data["valid_from"]
        made = link_vehicle(obj.vehicle_id, obj.meter_id, valid_from)
        if not made.is_new:
            raise LinkInForceAlready
        obj.pk, obj.valid_during = made.link.pk, made.link.valid_during
        obj.put_an_end_to = link_words.put_an_end_to(made)
        if made.superseded:
            gone = _some([link_words.since(link) for link in made.superseded])
            self.message_user(request, f"Superseded and removed: {gone}", messages.WARNING)

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> Any:
        link = form.instance
        step = changes.step(link.vehicle_id, link.put_an_end_to, link_words.begins(link))
        return changes.message([step], is_new=True)

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
        ended: list[str] = []
        refused: list[str] = []
        for link in links:
            (ended if self._end(request, link) else refused).append(str(link))
        if ended:
            told = f"{len(ended)} link{pluralize(len(ended))} ended: {_some(ended)}"
            self.message_user(request, told, messages.SUCCESS)
        if refused:
            self.message_user(request, f"Not in force now: {_some(refused)}", messages.WARNING)

    def _end(self, request: HttpRequest, link: VehicleMeterLink) -> bool:
        """End this link and no other link of its vehicle; return whether it was in force."""
        try:
            with transaction.atomic():
                ended = end_link(link.vehicle_id)
                if _beginning(ended) != _beginning(link):
                    raise NoLinkInForce
                step = changes.step(
                    link.vehicle_id, link_words.since(link), link_words.ended(ended)
                )
                self.log_change(request, link, changes.message([step]))
        except NoLinkInForce:
            return False
        return True


def _beginning(link: VehicleMeterLink) -> tuple[str, datetime]:
    """Return what identifies a link among its vehicle's links, even after its deletion."""
    return link.meter_id, link.valid_during.lower


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
