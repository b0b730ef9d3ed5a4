"""Failed sign-ins and lockouts, and the action that unlocks user names."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column
from energy_engine.console.signing_in.lock_outs import TENTH, counted
from energy_engine.console.words import changes
from energy_engine.console.words.badges import below, second
from energy_engine.console.words.labels import label
from energy_engine.models import FailedSignIn


def _lately() -> QuerySet[Any]:
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    rows: QuerySet[Any] = FailedSignIn.objects.filter(attempt_time__gt=since)
    return rows.order_by()


def _sum_of(*fields: str) -> Subquery:
    """Return the failures of all rows with the outer row's values in these fields."""
    alike = _lately().filter(**{field: OuterRef(field) for field in fields})
    return Subquery(alike.values(*fields).annotate(sum=Sum("failures_since_start")).values("sum"))


def _state(row: Any) -> str:
    limit = settings.AXES_FAILURE_LIMIT
    if counted(row.of_both or 0, row.of_name or 0, row.of_address or 0) < limit:
        return escape(f"{row.of_both or 0} of {limit}")
    if (row.of_both or 0) >= limit:
        whom = "this name from this address"
    elif (row.of_name or 0) >= limit * TENTH:
        whom = "this name, from any address"
    else:
        whom = "this address, with any name"
    return below(SafeString(label("locked out", "danger")), whom)


@admin.register(FailedSignIn)
class LockOutAdmin(ConsoleAdmin):
    """The failures that still count; the next failure deletes older ones."""

    list_display = [
        column("User name", "username"),
        column("Address", "ip_address"),
        admin.display(description="State")(_state),
        column("Failures", "failures_since_start", str),
        column("Last failure, UTC", "attempt_time", second),
        column("Browser", "user_agent"),
    ]
    list_display_links = None
    search_fields = ["username", "ip_address"]
    search_help_text = "user name or address"
    ordering = ["-attempt_time"]
    actions = ["free"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = _lately().annotate(
            of_both=_sum_of("username", "ip_address"),
            of_name=_sum_of("username"),
            of_address=_sum_of("ip_address"),
        )
        return rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: failures are deleted by unlocking."""
        return False

    def has_free_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("energy_engine.delete_failedsignin")

    @admin.action(description="Unlock these user names", permissions=["free"])
    def free(self, request: HttpRequest, selected: QuerySet[FailedSignIn]) -> None:
        """Delete the failures of the selected names, from all addresses."""
        names = sorted({row.username for row in selected})
        with transaction.atomic():
            for row in {row.username: row for row in selected}.values():
                self.log_change(
                    request, row, changes.message(["Unlocked: failed sign-ins cleared"])
                )
            FailedSignIn.objects.filter(username__in=names).delete()
        unlocked = f"{len(names)} user name{pluralize(len(names))} unlocked: {', '.join(names)}"
        self.message_user(
            request, f"{unlocked}. A locked-out address still has to wait.", messages.SUCCESS
        )
