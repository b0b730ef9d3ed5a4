"""The audit log: who changed what and when, with the values before and after."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column
from energy_engine.console.words.badges import second
from energy_engine.console.words.changes import steps_of

_ACTIONS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted"}


@display(description="What", ordering="object_repr")
def what(entry: LogEntry) -> str:
    """Return the kind and name of the changed object, linked to its page."""
    kind = entry.content_type.name if entry.content_type else "something"
    page = None if entry.is_deletion() else entry.get_admin_url()
    if page is None:
        name = format_html("<b>{}</b>", entry.object_repr)
    else:
        name = format_html('<a class="console-link" href="{}">{}</a>', page, entry.object_repr)
    return format_html('<div class="console-lines">{} {}</div>', kind, name)


@display(
    description="Action",
    ordering="action_flag",
    label={"added": "success", "changed": "info", "deleted": "danger"},
)
def action(entry: LogEntry) -> str:
    return _ACTIONS[entry.action_flag]


@admin.display(description="Before → after")
def steps(entry: LogEntry) -> str:
    told = steps_of(entry.change_message)
    lines = format_html_join("", "<li>{}</li>", ((text,) for text in told))
    return format_html('<ul class="console-lines">{}</ul>', lines) if told else "-"


@admin.register(LogEntry)
class AuditLogAdmin(ConsoleAdmin):
    """Read-only, for everybody."""

    list_display = fields = readonly_fields = [
        column("When, UTC", "action_time", second),
        column("Who", "user__username"),
        what,
        action,
        steps,
    ]
    list_filter = [
        ("user", admin.RelatedOnlyFieldListFilter),
        ("content_type", admin.RelatedOnlyFieldListFilter),
        "action_flag",
        "action_time",
    ]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_repr", "object_id", "change_message", "user__username"]
    search_help_text = "name, id, person or value"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
