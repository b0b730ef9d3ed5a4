"""Background jobs: their last run, its outcome and the next run."""

from datetime import timedelta
from typing import Any, Final

import procrastinate.contrib.django.admin  # noqa: F401  # registers pages, removed below
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import escape, format_html
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.words.badges import below, second
from energy_engine.console.words.durations import duration
from energy_engine.console.words.labels import label
from energy_engine.telemetry.job_runs import FAILURES_OF, Job, periodic_jobs

# A worker sends a heartbeat every ten seconds.
WORKER_IS_GONE_AFTER: Final = timedelta(minutes=1)

_HEADERS: Final = [
    "Job",
    "State",
    "Last run, UTC",
    "Duration",
    "Next run, UTC",
    f"Last failure in {FAILURES_OF.days} days, UTC",
]

admin.site.unregister(ProcrastinateJob)


def _cells(job: Job) -> list[str]:
    name = format_html('<div class="console-lines">{}</div>', below(escape(job.name), job.purpose))
    return [
        name,
        label(job.state, job.variant),
        second(job.started_at) if job.started_at else "-",
        "-" if job.took is None else duration(job.took),
        second(job.next_turn_at),
        _failure(job),
    ]


def _failure(job: Job) -> str:
    if job.failed_at is None:
        return "none"
    failed_at = second(job.failed_at)
    if not job.reason:
        return failed_at
    return format_html('<div class="console-lines">{}</div>', below(failed_at, job.reason))


@admin.register(ProcrastinateJob)
class JobsAdmin(ConsoleAdmin):
    """A single read-only page; individual runs are left to the queue."""

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.changelist_view)
        return [path("", page, name="procrastinate_procrastinatejob_changelist")]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        table = {"headers": _HEADERS, "rows": [_cells(job) for job in periodic_jobs(now)]}
        heartbeat_at = ProcrastinateWorker.objects.aggregate(at=Max("last_heartbeat"))["at"]
        context = {
            **self.admin_site.each_context(request),
            "title": "Jobs",
            "table": table,
            "heartbeat_at": heartbeat_at,
            "worker_is_gone": not heartbeat_at or now - heartbeat_at > WORKER_IS_GONE_AFTER,
        }
        return TemplateResponse(request, "console/jobs.html", context)
