"""Background jobs, run by the worker process; their queue is in PostgreSQL.

Each job runs once at a time, and at most one more run waits, so slow jobs do not pile up. A long
job stops when its worker has to end, and its next run continues; nightly jobs are continued by the
next worker. The jobs of a worker that was killed are recovered within two minutes.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.exceptions import JobAborted
from procrastinate.jobs import Job, Status

from analytics.alerting import faults, webhooks
from analytics.figures import snapshot
from analytics.hints import hints
from analytics.rollups import cadence, hourly
from energy_engine.background import failures
from ingestion.history import partitions, sealing
from ingestion.history.retention import apply

log = logging.getLogger(__name__)

# The jobs page shows the failures of a week.
_JOBS_ARE_KEPT: Final = timedelta(days=8)


@contextmanager
def _fresh_connection() -> Iterator[None]:
    """Close a connection that is broken or too old, before and after the block."""
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


class _AfterAStop(BaseRetryStrategy):
    """Lets the next worker continue jobs that stopped because their worker ended."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        return RetryDecision(retry_in={"seconds": 0}) if isinstance(exception, JobAborted) else None


def _periodic(
    cron: str, retry: BaseRetryStrategy | None = None
) -> Callable[[Callable[[], object]], object]:
    """Run a function of this module at the times of `cron`, on a fresh connection."""

    def register(work: Callable[[], object]) -> object:
        name = work.__name__

        def run(timestamp: int) -> None:
            with _fresh_connection(), failures.noted(name), _fresh_connection():
                work()

        run.__doc__ = work.__doc__  # shown on the jobs page
        task = app.task(
            name=f"energy_engine.jobs.{name}", lock=name, queueing_lock=name, retry=retry or False
        )(run)
        return app.periodic(cron=cron)(task)

    return register


@_periodic("* * * * *")
def roll_up() -> None:
    """Roll up the hours that have ended or changed."""
    hourly.roll_up()


@_periodic(f"*/{settings.FLEET_SNAPSHOT_MINUTES} * * * *")
def refresh_fleet_snapshot() -> None:
    """Learn how often devices report, then calculate the last 24 hours of every device."""
    cadence.learn_cadences()
    cadence.learn_pauses()
    snapshot.refresh()
    snapshot.refresh_trend()


@_periodic("* * * * *")
def watch_for_faults() -> None:
    """Open new faults, and close those whose cause is gone."""
    faults.watch()


@_periodic("*/10 * * * *")
def look_for_hints() -> None:
    """Look for settings of devices that must be wrong: units, registers, clocks."""
    hints.look()


@sync_to_async
def _note_killed(name: str) -> None:
    with _fresh_connection():
        failures.failed(name, "its worker was killed")


@app.periodic(cron="* * * * *")
@app.task(
    name="energy_engine.jobs.take_up_stalled_jobs",
    queueing_lock="take_up_stalled_jobs",  # and no lock, which a killed job would still hold
    pass_context=True,
)
async def take_up_stalled_jobs(context: JobContext, timestamp: int) -> None:
    """Recover the jobs of a worker that was killed."""
    jobs = context.app.job_manager
    for job in await jobs.get_stalled_jobs():
        if job.queueing_lock:  # a periodic job: its next run does what this one has not done
            await _note_killed(job.task_name.rpartition(".")[2])
            await jobs.finish_job_by_id_async(cast("int", job.id), Status.FAILED, delete_job=False)
        else:
            await jobs.retry_job_by_id_async(cast("int", job.id), retry_at=timezone.now())


@app.periodic(cron="7 4 * * *")
@app.task(
    name="energy_engine.jobs.forget_old_jobs", queueing_lock="forget_old_jobs", pass_context=True
)
async def forget_old_jobs(context: JobContext, timestamp: int) -> None:
    """Delete the records of jobs that ended more than 8 days ago, every night."""
    await context.app.job_manager.delete_old_jobs(
        _JOBS_ARE_KEPT // timedelta(hours=1),
        include_failed=True,
        include_cancelled=True,
        include_aborted=True,
    )


@_periodic("17 3 * * *", _AfterAStop())
def ensure_partitions() -> None:
    """Create the partitions of the next three months, every night."""
    partitions.ensure_ahead()


@_periodic("37 3 * * *", _AfterAStop())
def seal_past_partitions() -> None:
    """Seal past partitions: pack their index and freeze their rows, every night."""
    for name in sealing.seal_past_partitions():
        log.info("sealed %s", name)


@_periodic("27 4 * * *", _AfterAStop())
def archive_and_drop_history() -> None:
    """Archive and drop history older than RETENTION_DAYS, every night."""
    for name in apply.apply(_logged):
        log.info("dropped %s", name)


def _logged(step: str) -> Callable[[int], object]:
    log.info("retention: %s", step)
    return lambda rows: None


@_periodic("57 3 * * *", _AfterAStop())
def forget_old_webhook_deliveries() -> None:
    """Delete webhook messages older than 30 days, every night."""
    webhooks.forget_old()
