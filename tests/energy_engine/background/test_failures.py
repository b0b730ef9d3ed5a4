"""Background jobs that fail: noted with the reason, shown in the console, told to webhooks once."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DataError, connection, transaction
from procrastinate.contrib.django import app

from analytics.models import Webhook, WebhookDelivery
from energy_engine import jobs
from energy_engine.background import failures
from energy_engine.models import JobFailure
from ingestion.models import ArchivedPartition
from ingestion.writer import record
from tests.analytics.alerting.test_webhooks import SECRET
from tests.analytics.alerting.test_webhooks import receiver as receiver
from tests.conftest import NOON, vehicle_reading
from tests.energy_engine.test_jobs import work
from tests.people import member_of, shown

JOB = "archive_and_drop_history"


def attempt(job: str, error: Exception | None = None) -> None:
    """Let a job succeed or fail, as the worker sees it."""
    with suppress(OSError), failures.noted(job):
        if error:
            raise error


@pytest.fixture
def webhook(receiver) -> Webhook:
    return Webhook.objects.create(url=receiver.url, secret=SECRET)


def told() -> list[str]:
    return list(WebhookDelivery.objects.order_by("pk").values_list("job", flat=True))


@pytest.mark.django_db
def test_streak_of_failures_is_told_once_and_so_is_its_end(clock, webhook):
    for _ in range(3):
        attempt("roll_up", OSError("disk full\nand more"))
        clock.shift(timedelta(minutes=1))
    streak = JobFailure.objects.get()
    assert (streak.since, streak.failures) == (NOON, 3)
    assert streak.failed_at == NOON + timedelta(minutes=2)
    assert streak.reason == "OSError: disk full"

    attempt("roll_up")
    attempt("roll_up")
    assert told() == ["roll_up: failed", "roll_up: recovered"]

    attempt("roll_up", OSError("again"))
    assert told()[2:] == ["roll_up: failed"]
    assert JobFailure.objects.get().failures == 1


@pytest.mark.django_db
def test_value_that_the_database_refused_is_told_to_nobody(clock, webhook):
    with (
        pytest.raises(DataError),
        failures.noted("roll_up"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 'of a customer'::int")

    assert JobFailure.objects.get().reason == "DataError: 22P02"


@pytest.mark.django_db
def test_webhook_that_does_not_want_jobs_is_not_told(clock, webhook):
    Webhook.objects.update(tells_of_jobs=False)

    attempt("roll_up", OSError("disk full"))

    assert told() == []


@pytest.mark.django_db
def test_overview_warns_of_jobs_that_fail_until_they_work_again(clock):
    client = member_of("Operator")
    attempt("roll_up", OSError("<b>disk</b> full"))

    page = shown(client, "/admin/")
    assert "“roll_up” has been failing since 2026-07-15 12:00:00 UTC" in page
    assert "OSError: &lt;b&gt;disk&lt;/b&gt; full" in page
    attempt("roll_up")
    assert "roll_up" not in shown(client, "/admin/")


@pytest.mark.django_db(transaction=True)
def test_job_that_fails_in_a_real_worker_is_told_shown_and_told_when_it_works_again(
    webhook, receiver, tmp_path
):
    reading = vehicle_reading("V1")
    reading.measured_at = datetime(2024, 5, 10, tzinfo=UTC)
    record([reading], reading.measured_at)
    folder = tmp_path / "archive"
    folder.write_text("a file, where the folder should be")
    settings = {
        "RETENTION_DAYS": "401",
        "ARCHIVE_URL": f"file://{folder}",
        "WEBHOOK_ALLOW_PRIVATE": "true",
    }

    for _ in range(2):
        app.configure_task(f"{jobs.__name__}.{JOB}").defer(timestamp=0)
        work(**settings)
    reason = JobFailure.objects.get(job=JOB).reason
    assert reason.startswith(f"ArchiveFailed: file://{folder}/ingestion_vehiclereading_2024_05-1-")
    assert _messages(receiver) == [("job.failed", 1)]
    folder.unlink()
    app.configure_task(f"{jobs.__name__}.{JOB}").defer(timestamp=0)
    work(**settings)

    assert _messages(receiver) == [("job.failed", 1), ("job.recovered", 2)]
    assert ArchivedPartition.objects.get().dropped_at is not None


def _messages(receiver) -> list[tuple[str, int]]:
    bodies = [json.loads(body) for _, _, body in receiver.requests]
    assert {body["data"]["job"] for body in bodies} == {JOB}
    return [(body["type"], body["data"]["failures"]) for body in bodies]
