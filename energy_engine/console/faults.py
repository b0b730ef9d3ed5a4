"""Faults: what is wrong in the fleet, since when, and who has acknowledged it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    OuterRef,
    QuerySet,
    Subquery,
)
from django.db.models import Value as SqlValue
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import get_text_list
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

from analytics.alerting import faults
from analytics.alerting.faults import FaultClosed, InvalidNote
from analytics.alerting.kinds import KINDS
from analytics.models import Fault, FaultChange, FaultNote, FaultState
from energy_engine.console.lists.exports import ExportedList
from energy_engine.console.lists.listing import column, column_of_row, meter_link, vehicle_links
from energy_engine.console.words import changes
from energy_engine.console.words.badges import below, local_time, second
from energy_engine.console.words.durations import duration
from energy_engine.console.words.labels import label

_COLOURS: Final = {FaultState.OPEN: "danger", FaultState.ACKNOWLEDGED: "warning"}
_LONGEST_NOTE: Final = 1000
_REOPENING: Final = get_text_list([one.noun for one in KINDS.values() if one.reopens], "and")
_ON_A_LINE: Final = '<span class="whitespace-nowrap">{}</span>'

# --- What is shown of a fault -----------------------------------------------------------------


def state_badge(state: str) -> str:
    return label(state, _COLOURS.get(FaultState(state), ""))


def measured(fault: Fault) -> str:
    """Return the latest measured value beside the fault's threshold, with units."""
    record = KINDS[fault.kind]
    shown = _MEASURES.get(record.unit, partial(_with_symbol, record.symbol))
    # A recovering fault's value no longer crosses the threshold.
    sign = "=" if fault.value == fault.threshold else "<" if fault.value < fault.threshold else ">"
    return f"{shown(fault.value)} {sign} {shown(fault.threshold)}"


def _measured(fault: Fault) -> str:
    line = format_html(_ON_A_LINE, measured(fault))
    is_going = fault.state != FaultState.CLOSED and fault.recovering_since
    return below(line, f"cause gone since {fault.recovering_since:%H:%M}" if is_going else "")


def _with_symbol(symbol: str, number: float) -> str:
    return f"{number:.4g} {symbol}"


def _minutes(number: float) -> str:
    return duration(timedelta(minutes=number))


def _devices(number: float) -> str:
    return f"{number:.0f} device{pluralize(number)}"


# By unit: those that are not a number with a symbol.
_MEASURES: Final[dict[str, Callable[[float], str]]] = {
    "minutes": _minutes,
    "hours": lambda number: duration(timedelta(hours=number)),
    "devices": _devices,
}


def _device(fault: Any) -> str:
    if fault.vehicle_id:
        return vehicle_links([fault.vehicle_id])
    return meter_link(fault.meter_id) if fault.meter_id else "the whole site"


def _at_site(path: str) -> Callable[[Any], str]:
    return lambda fault: _instant(getattr(fault, path), fault)


def _instant(instant: datetime, fault: Fault) -> str:
    return below(second(instant), local_time(instant, fault.site))


KIND: Final = column_of_row("Fault", "kind", lambda fault: fault.get_kind_display().capitalize())
STATE: Final = column("State", "state", state_badge)
DEVICE: Final = column_of_row(
    "Device",
    "kind",
    _device,
    "device_id",
    {
        "Vehicle": lambda fault: fault.vehicle_id,
        "Meter": lambda fault: fault.meter_id,
    },
)
SITE: Final = column("Site", "site__name")
MEASURED: Final = column_of_row(
    "Measured",
    "value",
    _measured,
    exports={
        "Measured": lambda fault: fault.value,
        "Threshold": lambda fault: fault.threshold,
        "Unit": lambda fault: KINDS[fault.kind].symbol,
    },
)
OPENED: Final = column_of_row("Opened, UTC", "opened_at", _at_site("opened_at"))
CLOSED: Final = column_of_row("Closed, UTC", "closed_at", _at_site("closed_at"))
LASTED: Final = column_of_row(
    "Lasted",
    "lasted",
    lambda fault: format_html(_ON_A_LINE, duration(fault.lasted)),
    exports={"Lasted, min": lambda fault: round(fault.lasted / timedelta(minutes=1), 1)},
)
TAKEN_ON_BY: Final = column("Acknowledged by", "taken_on_by")
NOTES: Final = column("Notes", "notes_written")

# --- Filters and forms ------------------------------------------------------------------------


class StateFilter(admin.SimpleListFilter):
    """Faults by state; by default those that are not closed."""

    title = parameter_name = "state"
    _all = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in FaultState.values]

    def choices(self, changelist: Any) -> Any:
        for value, words in [(None, "Not closed"), *self.lookup_choices, (self._all, "All")]:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": words,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == self._all:
            return queryset
        if self.value() in FaultState.values:
            return queryset.filter(state=self.value())
        return queryset.exclude(state=FaultState.CLOSED)


class NoteForm(BaseDialogForm):
    """An optional note when acknowledging a fault."""

    note = forms.CharField(
        required=False, max_length=_LONGEST_NOTE, widget=UnfoldAdminTextareaWidget({"rows": 3})
    )


class FurtherNoteForm(NoteForm):
    """A required note."""

    note = forms.CharField(
        max_length=_LONGEST_NOTE,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        error_messages={"required": "Enter a note"},
    )


class ClosingForm(NoteForm):
    """A required note that says why a fault is closed before its cause is known to be gone."""

    note = forms.CharField(
        max_length=_LONGEST_NOTE,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        error_messages={"required": "Say why the fault is closed"},
    )


# --- Pages ------------------------------------------------------------------------------------


@admin.register(Fault)
class FaultAdmin(ExportedList):
    """The engine opens faults; users can only acknowledge and close them."""

    list_display = [KIND, STATE, DEVICE, SITE, MEASURED, OPENED, LASTED, TAKEN_ON_BY, NOTES]
    fields = readonly_fields = [
        *(KIND, STATE, DEVICE, SITE, MEASURED, OPENED, CLOSED, LASTED, TAKEN_ON_BY)
    ]
    list_filter = [StateFilter, "kind", "site"]
    list_select_related = ["site"]
    search_fields = ["vehicle_id", "meter_id"]
    search_help_text = "id of a vehicle or a meter"
    change_form_template = "console/fault.html"
    actions = ["acknowledge_selected"]
    actions_detail = ["acknowledge", "close", "add_note"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        taken_on = FaultChange.objects.filter(fault=OuterRef("pk"), state=FaultState.ACKNOWLEDGED)
        notes = FaultNote.objects.filter(fault=OuterRef("pk")).order_by().values("fault")
        until = Coalesce(F("closed_at"), SqlValue(timezone.now()))
        rows: QuerySet[Any] = (
            super()
            .get_queryset(request)
            .select_related("site")
            .annotate(
                device_id=Coalesce("vehicle_id", "meter_id"),
                lasted=ExpressionWrapper(until - F("opened_at"), DurationField()),
                notes_written=Coalesce(Subquery(notes.values(number=Count("pk"))), 0),
                taken_on_by=Subquery(taken_on.order_by("pk").values("user__username")[:1]),
            )
        )
        return rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_handle_permission(self, request: HttpRequest, fault_id: str = "") -> bool:
        return request.user.has_perm("analytics.change_fault")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        fault = self.get_object(request, unquote(object_id))
        fitting = {FaultState.OPEN: ("acknowledge", "close"), FaultState.ACKNOWLEDGED: ("close",)}
        names = (*fitting.get(FaultState(fault.state), ()), "add_note") if fault else ()
        buttons = super().get_actions_detail(request, object_id)
        return [button for button in buttons if button.path in names]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        fault = self.get_object(request, unquote(object_id))
        taken = fault.changes.select_related("user") if fault else []
        history = [
            {
                "at": _instant(change.changed_at, fault),
                "state": state_badge(change.state),
                "who": change.user or "the engine",
                "note": change.note,
            }
            for change in taken
        ]
        written = fault.notes.select_related("author") if fault else []
        notes = [
            {
                "at": _instant(note.written_at, fault),
                "who": note.author or "a user who is gone",
                "text": note.text,
            }
            for note in written
        ]
        context = (extra_context or {}) | {"history": history, "notes": notes}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    @admin.action(description="Acknowledge", permissions=["handle"])
    def acknowledge_selected(self, request: HttpRequest, selected: QuerySet[Any]) -> None:
        still_open = list(selected.filter(state=FaultState.OPEN))
        taken = sum(self._take(request, fault, faults.acknowledge, "") for fault in still_open)
        others = selected.count() - taken
        if taken:
            told = f"{taken} fault{pluralize(taken)} acknowledged"
            self.message_user(request, told, messages.SUCCESS)
        if others:
            told = f"{others} fault{pluralize(others)} skipped: not open"
            self.message_user(request, told, messages.WARNING)

    @action(
        description="Acknowledge",
        icon="visibility",
        permissions=["handle"],
        dialog={
            "title": "Acknowledge this fault",
            "description": "Shows that you are working on it. It closes when its cause is gone.",
            "form_class": NoteForm,
            "form_submit_text": "Acknowledge",
        },
    )
    def acknowledge(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return self._taken(request, form, object_id, faults.acknowledge)

    @action(
        description="Close …",
        icon="check",
        permissions=["handle"],
        dialog={
            "title": "Close this fault",
            "description": "A fault closes by itself when its cause is gone. If you close it now, "
            f"it does not open again until its cause has been gone once; {_REOPENING} faults stay "
            "closed for 24 hours.",
            "form_class": ClosingForm,
            "form_submit_text": "Close the fault",
        },
    )
    def close(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return self._taken(request, form, object_id, faults.close)

    @action(
        description="Add a note",
        icon="edit_note",
        permissions=["handle"],
        dialog={
            "title": "Add a note",
            "description": "Everybody who may view faults can read it. It stays as it is.",
            "form_class": FurtherNoteForm,
            "form_submit_text": "Add the note",
        },
    )
    def add_note(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        fault = self.get_object(request, unquote(object_id))
        if fault is None:
            raise Http404
        try:
            with transaction.atomic():
                note = faults.add_note(fault.pk, request.user, form.cleaned_data["note"])  # type: ignore[arg-type]  # signed in
                told = changes.message([changes.step("Note", None, note.text)])
                self.log_change(request, fault, told)
            self.message_user(request, "Note added", messages.SUCCESS)
        except InvalidNote as error:
            self.message_user(request, str(error), messages.ERROR)
        return _page_again(fault)

    def _taken(
        self, request: HttpRequest, form: Any, object_id: str, step: Callable[..., Fault]
    ) -> HttpResponse:
        fault = self.get_object(request, unquote(object_id))
        if fault is None:
            raise Http404
        try:
            if self._take(request, fault, step, form.cleaned_data["note"]):
                self.message_user(request, "Saved", messages.SUCCESS)
            else:
                self.message_user(request, "This fault is already closed", messages.ERROR)
        except InvalidNote as error:
            self.message_user(request, str(error), messages.ERROR)
        return _page_again(fault)

    def _take(
        self, request: HttpRequest, fault: Fault, step: Callable[..., Fault], note: str
    ) -> bool:
        """Take a step and log it; return False if the fault is already closed."""
        try:
            with transaction.atomic():
                after = step(fault.pk, request.user, note)
                is_new = after.state != fault.state
                told = [changes.step("State", fault.state, after.state)] if is_new else []
                told += [changes.step("Note", None, note)] if note else []
                self.log_change(request, fault, changes.message(told))
        except FaultClosed:
            return False
        return True


def _page_again(fault: Fault) -> HttpResponse:
    page = reverse("admin:analytics_fault_change", args=[fault.pk])
    return HttpResponse(headers={"HX-Redirect": page})
