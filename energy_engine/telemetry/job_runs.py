"""Periodic jobs: the newest run, failures and next run of each."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from procrastinate.contrib.django import app
from procrastinate.periodic import PeriodicTask

from energy_engine.models import JobFailure
from fleet.stores.statements import Statement

FAILURES_OF: Final = timedelta(days=7)

_latest_runs: Final = Statement(Path(__file__).parent / "sql" / "latest_runs.sql")

# Label and colour of a finished run; a run that stopped with its worker is resumed.
_OVER: Final = {"succeeded": ("done", "success"), "aborted": ("stopped", "info")}


class Job(NamedTuple):
    """A periodic job: its newest started run and its next one."""

    task: str
    name: str
    purpose: str
    state: str
    variant: str
    started_at: datetime | None
    took: timedelta | None
    next_turn_at: datetime
    failed_at: datetime | None
    # The reason of the last failure, if it was recorded.
    reason: str
    failures: int
    succeeded_at: datetime | None


def periodic_jobs(now: datetime) -> list[Job]:
    """Return every periodic job, the next to run first; two statements."""
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
        task=task,
        name=task.replace("_", " ").capitalize(),
        purpose=purpose,
        state=state,
        variant=variant,
        started_at=run.started_at,
        took=run.ended_at - run.started_at if is_over else None,
        next_turn_at=_turn(periodic, now, +1),
        failed_at=run.failed_at,
        reason=reasons.get(task, "") if run.failed_at else "",
        failures=run.failures,
        succeeded_at=run.succeeded_at,
    )


def _state(run: Any, due_since: datetime) -> tuple[str, str]:
    """Return a job's state and its colour; a job that missed two runs is late."""
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
