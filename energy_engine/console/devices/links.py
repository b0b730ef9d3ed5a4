"""The links of a device on its page, and the views that change a vehicle's links."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.db import DataError, IntegrityError, transaction
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from energy_engine.console import link_undo
from energy_engine.console.devices.ranges import asked_range, zone_of
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import BEGINS_LATER, IN_FORCE, link_state
from energy_engine.console.words import changes, link_words
from fleet.links import (
    EndsBeforeItBegins,
    LinkChange,
    LinkHasBegun,
    LinksHaveChanged,
    NoLinkInForce,
    OutOfBounds,
    SpanChange,
    SpanNames,
    UnknownDevice,
    end_link,
    link_vehicle,
    unlink_vehicle,
    withdraw_link,
)
from fleet.models import Meter, Vehicle, VehicleMeterLink
from fleet.timeline import Part, inside

Views = dict[str, Callable[..., HttpResponse]]

_SHOWN_AT_MOST: Final = 50
_DRAWN_AT_LEAST: Final = timedelta(days=1)
_DRAWN_AT_MOST: Final = timedelta(days=30)
_GONE: Final = "This link no longer exists"
_LABELS: Final = SpanNames("From", "To")


def _instant(label: str, help_text: str = "") -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        required=False,
        widget=forms.DateTimeInput(
            {"type": "datetime-local", "step": "1", "class": "device-input"}
        ),
        error_messages={"invalid": "Enter a valid date and time"},
        help_text=help_text,
    )


class RelinkForm(forms.Form):
    """Link a vehicle to a meter for a given time."""

    meter = forms.ModelChoiceField(
        Meter.objects.all(),
        widget=AutocompleteSelect(
            VehicleMeterLink._meta.get_field("meter"), admin.site, {"required": "required"}
        ),
        error_messages={
            "required": "Choose a meter",
            "invalid_choice": "Choose a registered meter",
        },
    )
    valid_from = _instant(
        "From, UTC",
        "Leave From empty to link from now, and To empty to link until further notice. Both may "
        "be in the past. The vehicle's other links are cut or removed where they lie in that time.",
    )
    valid_to = _instant("To, UTC")


class EndForm(forms.Form):
    """End a link; now, if the time is empty."""

    ends_at = _instant("End, UTC")


class RemovalForm(forms.Form):
    """Remove a link, or the part of it between two times."""

    valid_from = _instant("From, UTC")
    valid_to = _instant("To, UTC")


class LinkRow(NamedTuple):
    """A link in the page's list, and which actions are allowed on it."""

    link: VehicleMeterLink
    state: str
    other_id: str
    begins_at: datetime
    ends_at: datetime | None
    may_end: bool
    may_withdraw: bool
    may_remove: bool


class Segment(NamedTuple):
    """A part of the timeline, in percent of its width."""

    title: str
    left: float
    width: float


def link_rows(device: Vehicle | Meter, may_change: bool) -> tuple[list[LinkRow], bool]:
    """Return the device's latest links, and whether it has more."""
    links = device.links.order_by(
        F("valid_during__endswith").desc(nulls_first=True), "-valid_during"
    )
    found = list(links[: _SHOWN_AT_MOST + 1])
    rows = [_row(link, device, may_change) for link in found[:_SHOWN_AT_MOST]]
    return rows, len(found) > _SHOWN_AT_MOST


def _row(link: VehicleMeterLink, device: Vehicle | Meter, may_change: bool) -> LinkRow:
    state = link_state(link)
    return LinkRow(
        link=link,
        state=state,
        other_id=link.meter_id if isinstance(device, Vehicle) else link.vehicle_id,
        begins_at=link.valid_during.lower,
        ends_at=link.valid_during.upper,
        may_end=may_change and state == IN_FORCE,
        may_withdraw=may_change and state == BEGINS_LATER,
        may_remove=may_change,
    )


def timeline(rows: list[LinkRow]) -> dict[str, Any]:
    """Return the timeline of a vehicle's links over the last days, with its future links."""
    now = timezone.now()
    first = min((row.begins_at for row in rows), default=now)
    ends = [row.ends_at for row in rows if row.ends_at]
    last = max([now, *ends, *(row.begins_at for row in rows)])
    begins_at = max(now - _DRAWN_AT_MOST, min(first, now - _DRAWN_AT_LEAST))
    # Leave room after a future link begins or ends, so that this is visible.
    ends_at = last + (last - begins_at) / 8 if last > now else now
    shown = [row for row in reversed(rows) if row.ends_at is None or row.ends_at > begins_at]
    segments = []
    for row in shown:
        left = _share(row.begins_at, begins_at, ends_at)
        right = _share(row.ends_at or ends_at, begins_at, ends_at)
        segments.append(Segment(row.other_id, left, round(right - left, 3)))
    return {
        "segments": segments,
        "begins_at": begins_at,
        "ends_at": ends_at,
        "now": _share(now, begins_at, ends_at),
        "has_future": ends_at > now,
    }


def _share(instant: datetime, begins_at: datetime, ends_at: datetime) -> float:
    """Return the position of an instant between two others, 0 to 100."""
    inside = min(max(instant, begins_at), ends_at)
    return round(100 * ((inside - begins_at) / (ends_at - begins_at)), 3)


class VehicleLinks(ConsoleAdmin):
    """The views that change a vehicle's links from its page; the audit log has each change."""

    def link_views(self) -> Views:
        return {
            "link": require_POST(self.link_view),
            "end_link": require_POST(self.end_view),
            "withdraw_link": require_POST(self.withdraw_view),
            "remove_link": require_POST(self.remove_view),
        }

    def link_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        vehicle = self._vehicle(request, object_id, "add")
        form = RelinkForm(request.POST)
        if not form.is_valid():
            return _refused(request, _errors(form))
        try:
            made = self._link(request, vehicle, **form.cleaned_data)
        except (OutOfBounds, EndsBeforeItBegins, UnknownDevice) as error:
            return _refused(request, [str(error)])
        except (IntegrityError, DataError):
            return _refused(request, ["This link cannot be stored"])
        if not made.is_new:
            return _refused(request, [f"Already linked: {link_words.since(made.link)}"])
        return self._done(request, vehicle, link_words.linked(made.change), made.change)

    def end_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        vehicle = self._vehicle(request, object_id, "change")
        link, form = _posted_link(request, vehicle), EndForm(request.POST)
        if link is None:
            return _refused(request, [_GONE])
        if not form.is_valid():
            return _refused(request, _errors(form))
        if ends_at := form.cleaned_data["ends_at"]:
            return self._remove(request, vehicle, link, ends_at, None)
        try:
            with transaction.atomic():
                ended, change = end_link(vehicle.pk)
                if ended.valid_during.lower != link.valid_during.lower:
                    raise NoLinkInForce
                end = link_words.ended(ended)
                self._log(request, vehicle, link_words.since(link), end)
        except NoLinkInForce:
            return _refused(request, ["This link is not in force now"])
        told = f"Link ended: {vehicle} at {link.meter_id}"
        return self._done(request, vehicle, told, change)

    def withdraw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        vehicle = self._vehicle(request, object_id, "change")
        link = _posted_link(request, vehicle)
        if link is None:
            return _refused(request, [_GONE])
        try:
            with transaction.atomic():
                change = withdraw_link(link.pk)
                goes_on = vehicle.links.filter(valid_during__contains=link.valid_during.lower)
                after = [f"{link_words.since(before)} continues" for before in goes_on]
                self._log(
                    request, vehicle, link_words.since(link), "; ".join(["withdrawn", *after])
                )
        except LinkHasBegun:
            return _refused(request, ["This link has already begun or been withdrawn"])
        told = f"Link withdrawn: {vehicle} at {link_words.since(link)}"
        return self._done(request, vehicle, told, change)

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        vehicle = self._vehicle(request, object_id, "change")
        link, form = _posted_link(request, vehicle), RemovalForm(request.POST)
        if link is None:
            return _refused(request, [_GONE])
        if not form.is_valid():
            return _refused(request, _errors(form))
        return self._remove(request, vehicle, link, **form.cleaned_data)

    def _remove(
        self,
        request: HttpRequest,
        vehicle: Vehicle,
        link: VehicleMeterLink,
        valid_from: datetime | None,
        valid_to: datetime | None,
    ) -> HttpResponse:
        """Remove the part of a link between two times; each is the link's own by default."""
        whole = Part(link.meter_id, link.valid_during.lower, link.valid_during.upper)
        within = inside([whole], valid_from or whole.starts_at, valid_to or whole.ends_at)
        if not within or (valid_from and valid_to and valid_to <= valid_from):
            return _refused(request, [f"Enter a time within the link: {link_words.span(whole)}"])
        (part,) = within
        try:
            with transaction.atomic():
                change = unlink_vehicle(vehicle.pk, part.starts_at, part.ends_at, _LABELS)
                if change.superseded != within:
                    raise LinksHaveChanged
                self._log(request, vehicle, link_words.span(part), "removed")
        except LinksHaveChanged:
            return _refused(request, ["This link has changed. Reload the page and try again"])
        told = f"Link removed: {vehicle} at {link_words.span(part)}"
        return self._done(request, vehicle, told, change)

    def _vehicle(self, request: HttpRequest, object_id: str, permission: str) -> Vehicle:
        vehicle: Vehicle | None = self.get_object(request, unquote(object_id))
        if vehicle is None:
            raise Http404
        may_change = request.user.has_perm(f"fleet.{permission}_vehiclemeterlink")
        if not (may_change and self.has_view_permission(request, vehicle)):
            raise PermissionDenied
        return vehicle

    def _link(
        self,
        request: HttpRequest,
        vehicle: Vehicle,
        meter: Meter,
        valid_from: datetime | None,
        valid_to: datetime | None,
    ) -> LinkChange:
        with transaction.atomic():
            made = link_vehicle(vehicle.pk, meter.pk, valid_from, valid_to, _LABELS)
            if made.is_new:
                before, after = map(link_words.spans, (made.superseded, made.change.became))
                self._log(request, vehicle, before, after)
        return made

    def _log(self, request: HttpRequest, vehicle: Vehicle, before: str, after: str) -> None:
        self.log_change(
            request, vehicle, changes.message([changes.step(vehicle.pk, before, after)])
        )

    def _done(
        self, request: HttpRequest, vehicle: Vehicle, text: str, change: SpanChange
    ) -> HttpResponse:
        """Make the browser reload the page with its current range, and say what was done."""
        messages.success(request, link_undo.offer(request, text, [change]))
        page = reverse("admin:fleet_vehicle_change", args=[quote(vehicle.pk)])
        query = urlsplit(request.headers.get("HX-Current-URL", "")).query
        chosen = asked_range(dict(parse_qsl(query)), zone_of(vehicle.site))
        return HttpResponse(headers={"HX-Redirect": f"{page}?{chosen.query}"})


def _posted_link(request: HttpRequest, vehicle: Vehicle) -> VehicleMeterLink | None:
    link_id = request.POST.get("link", "")
    return vehicle.links.filter(pk=link_id).first() if link_id.isdecimal() else None


def _errors(form: forms.Form) -> list[str]:
    return [str(error) for of_field in form.errors.values() for error in of_field]


def _refused(request: HttpRequest, errors: list[str]) -> HttpResponse:
    """Return the errors to show in the form, with status 200: htmx swaps in successes only."""
    return render(request, "console/device_errors.html", {"errors": errors})
