"""Which background jobs fail, since when and why; webhooks are notified once per streak."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import Error, transaction
from django.utils import timezone

from analytics.alerting import webhooks
from analytics.alerting.webhooks import JobRow
from energy_engine.models import JobFailure
from energy_engine.telemetry.logs import summary
from fleet.stores.stopping import Stopped

log = logging.getLogger(__name__)

_LONGEST_REASON: Final = 300


@contextmanager
def noted(job: str) -> Iterator[None]:
    """Record whether the block succeeds; its error is still raised."""
    try:
        yield
    except Stopped:  # has neither failed nor succeeded
        raise
    except Exception as error:
        _note_failure(job, summary(error))
        raise
    _note_success(job)


def _note_failure(job: str, reason: str) -> None:
    try:
        failed(job, reason)
    except Error:
        # The job failed because of the database: the logs have to suffice.
        log.exception("the failure of %s could not be recorded", job)


@transaction.atomic
def failed(job: str, reason: str) -> None:
    """Begin a streak of failures, or continue it; webhooks are notified when one begins."""
    now = timezone.now()
    told = (reason.strip().partition("\n")[0] or reason)[:_LONGEST_REASON]
    begun = {"since": now, "failed_at": now, "failures": 1, "reason": told, "recovered_at": None}
    failure, is_new = JobFailure.objects.select_for_update().get_or_create(job=job, defaults=begun)
    if is_new or failure.recovered_at:
        JobFailure.objects.filter(pk=job).update(**begun)
        webhooks.announce_job("job.failed", now, JobRow(job, now, 1, told))
        return
    failure.failed_at, failure.failures, failure.reason = now, failure.failures + 1, told
    failure.save()


def _note_success(job: str) -> None:
    if JobFailure.objects.filter(job=job, recovered_at=None).exists():
        recovered(job)


@transaction.atomic
def recovered(job: str) -> None:
    """End a streak of failures, and notify webhooks."""
    streak = JobFailure.objects.select_for_update().filter(job=job, recovered_at=None).first()
    if streak is None:
        return
    streak.recovered_at = timezone.now()
    streak.save()
    row = JobRow(job, streak.since, streak.failures, streak.reason)
    webhooks.announce_job("job.recovered", streak.recovered_at, row)
