"""Background jobs: whether each had its turn, and how that went."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import procrastinate.contrib.django.admin  # noqa: F401  # registers pages, which go
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import escape, format_html
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.periodic import PeriodicTask

from energy_engine.console.badges import below, second
from energy_engine.console.durations import duration
from energy_engine.console.labels import label
from energy_engine.console.pages import ConsoleAdmin
from energy_engine.models import JobFailure
from fleet.stores.statements import Statement

FAILURES_OF: Final = timedelta(days=7)
# A worker says every ten seconds that it is there.
WORKER_IS_GONE_AFTER: Final = timedelta(minutes=1)

_latest_runs: Final = Statement(Path(__file__).parent / "sql" / "latest_runs.sql")

# The words and the colour of a run that is over; one that stopped with its worker is resumed.
_OVER: Final = {"succeeded": ("done", "success"), "aborted": ("stopped", "info")}
_HEADERS: Final = [
    "Job",
    "State",
    "Last run, UTC",
    "Took",
    "Next turn, UTC",
    f"Last failure in {FAILURES_OF.days} days, UTC",
]

admin.site.unregister(ProcrastinateJob)


class Job(NamedTuple):
    """A periodic job: the newest run that has begun, and the turns around now."""

    task: str
    name: str
    purpose: str
    state: str
    variant: str
    started_at: datetime | None
    took: timedelta | None
    next_turn_at: datetime
    failed_at: datetime | None
    # Why it failed last, as far as it was noted.
    reason: str
    failures: int
    succeeded_at: datetime | None


def periodic_jobs(now: datetime) -> list[Job]:
    """Return every periodic job, those with the next turn first; two statements."""
    tasks = {task.task.name: task for task in app.periodic_registry.periodic_tasks.values()}
    runs = _latest_runs.rows({"task_names": list(tasks), "failed_since": now - FAILURES_OF})
    reasons = dict(JobFailure.objects.values_list("job", "reason"))
    jobs = [_job(tasks[run.task_name], run, now, reasons) for run in runs]
    return sorted(jobs, key=lambda job: (job.next_turn_at, job.name))


def _job(
    periodic: PeriodicTask[Any, Any, Any], run: Any, now: datetime, reasons: dict[str, str]
) -> Job:
    task = periodic.task.name.rpartition(".")[2]
    purpose = (periodic.task.func.__doc__ or "").partition("\n")[0]
    is_over = run.started_at and run.ended_at
    state, variant = _state(run, _turn(periodic, _turn(periodic, now, -1), -1))
    return Job(
        task,
        task.replace("_", " ").capitalize(),
        purpose,
        state,
        variant,
        run.started_at,
        run.ended_at - run.started_at if is_over else None,
        _turn(periodic, now, +1),
        run.failed_at,
        reasons.get(task, "") if run.failed_at else "",
        run.failures,
        run.succeeded_at,
    )


def _state(run: Any, due_since: datetime) -> tuple[str, str]:
    """Return the words for a job's state, and their colour; late is what missed two turns."""
    if run.started_at is None:
        return "not run yet", ""
    if run.status in ("todo", "doing"):
        return "running", "info"
    if run.started_at < due_since:
        return "late", "warning"
    return _OVER.get(run.status, (run.status, "danger"))


def _turn(periodic: PeriodicTask[Any, Any, Any], at: datetime, direction: int) -> datetime:
    turns = periodic.croniter
    turn = turns.get_next if direction > 0 else turns.get_prev
    return datetime.fromtimestamp(turn(ret_type=float, start_time=at.timestamp()), UTC)


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
    """One page to read; single runs are the queue's own business."""

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
