"""What all pages of the console have in common."""

from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import ModelAdmin

from energy_engine.console.words import changes


class ConsoleAdmin(ModelAdmin):
    """A list, and a page for each of its rows.

    The audit log records every change with the values before it, also those of inline forms.
    """

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list; its title offers "Show all" only when rows are filtered out."""
        changelist = super().get_changelist_instance(request)
        if not (changelist.query or changelist.has_active_filters):
            changelist.full_result_count = changelist.result_count
        return changelist

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Redirect users with access to the audit log to the object's entries there."""
        page: HttpResponse = super().history_view(request, object_id, extra_context)
        if not request.user.has_perm("admin.view_logentry"):
            return page
        kind = ContentType.objects.get_for_model(self.model)
        query = {"content_type__id__exact": kind.pk, "object_id__exact": unquote(object_id)}
        log = reverse("admin:admin_logentry_changelist")
        return HttpResponseRedirect(f"{log}?{urlencode(query)}")

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> Any:
        steps = [*changes.form_steps(form, add), *changes.inline_steps(formsets or [])]
        return changes.message(steps, is_new=add)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry | None:
        """Log the change; saving a page without changes logs nothing."""
        if message == changes.message([]):
            return None
        entry: LogEntry = super().log_change(request, obj, message)
        return entry

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        return [
            LogEntry.objects.log_actions(
                cast("int", request.user.pk),
                [gone],
                DELETION,
                changes.message(changes.object_steps(gone)),
                single_object=True,
            )
            for gone in queryset
        ]
