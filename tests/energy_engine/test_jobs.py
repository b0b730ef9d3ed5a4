"""Background jobs: each is known to the worker, and does its work."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import JobAborted

from analytics.alerting import webhooks
from analytics.models import (
    Fault,
    FleetDay,
    MeterHour,
    VehicleCadence,
    VehicleDay,
    VehicleHour,
    Webhook,
    WebhookDelivery,
)
from energy_engine import environment, jobs
from energy_engine.local import embedded
from energy_engine.models import JobFailure
from ingestion.history import partitions
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

NAMES = {
    "roll_up",
    "refresh_fleet_snapshot",
    "watch_for_faults",
    "look_for_hints",
    "ensure_partitions",
    "seal_past_partitions",
    "archive_and_drop_history",
    "forget_old_webhook_deliveries",
}
# Of these, one that was killed must not hold up the next.
WITHOUT_LOCK = {"take_up_stalled_jobs", "forget_old_jobs"}


@pytest.fixture
def one_transaction(db, monkeypatch) -> None:
    """Leave the test's transaction open: a job would give its connection back before and after."""
    monkeypatch.setattr(jobs, "close_old_connections", lambda: None)


def run(name: str) -> None:
    """Run a job as the worker does at its turn."""
    app.tasks[f"{jobs.__name__}.{name}"](timestamp=0)


def work(**settings: str) -> None:
    """Let a real worker run what is queued and due, under other settings, and end."""
    name = connection.settings_dict["NAME"]
    url = embedded.database_url(environment.data_dir()).replace("/postgres?", f"/{name}?")
    subprocess.run(
        [sys.executable, "manage.py", "procrastinate", "worker", "--one-shot"],
        cwd=environment.ROOT,
        env=os.environ | {"DATABASE_URL": url} | settings,
        check=True,
    )


def test_worker_knows_every_job_by_its_name():
    ours = {name for name in app.tasks if name.startswith("energy_engine.")}

    assert ours == {f"energy_engine.jobs.{name}" for name in NAMES | WITHOUT_LOCK}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_of_each_job_one_runs_and_one_waits_at_most(name):
    task = app.tasks[f"energy_engine.jobs.{name}"]

    assert (task.lock, task.queueing_lock) == (name, name)


def test_turns_of_the_jobs():
    turns = {
        periodic.task.name.rpartition(".")[2]: periodic.cron
        for periodic in app.periodic_registry.periodic_tasks.values()
        if periodic.task.name.startswith("energy_engine.")
    }

    assert turns == {
        "roll_up": "* * * * *",
        "refresh_fleet_snapshot": "*/1 * * * *",
        "watch_for_faults": "* * * * *",
        "look_for_hints": "*/10 * * * *",
        "ensure_partitions": "17 3 * * *",
        "seal_past_partitions": "37 3 * * *",
        "archive_and_drop_history": "27 4 * * *",
        "forget_old_webhook_deliveries": "57 3 * * *",
        "take_up_stalled_jobs": "* * * * *",
        "forget_old_jobs": "7 4 * * *",
    }


@pytest.mark.usefixtures("one_transaction", "clock")
def test_hours_are_summed_up():
    record([meter_reading("M1", "09:10", 2.0), vehicle_reading("V1", "09:10", 1.5)], NOON)

    run("roll_up")

    assert MeterHour.objects.get().energy_ac_kwh == 2.0
    assert VehicleHour.objects.get().energy_dc_kwh == 1.5


@pytest.mark.usefixtures("one_transaction", "clock")
def test_fleet_is_looked_at_with_cadences_that_are_just_learned():
    readings = [vehicle_reading("V1", kwh=1.0) for _ in range(12)]
    for number, reading in enumerate(readings):
        reading.measured_at = at("00:00") + timedelta(hours=number)
    record(readings, NOON)

    run("refresh_fleet_snapshot")

    assert VehicleCadence.objects.get().cadence_seconds == 3600
    day = VehicleDay.objects.get()
    assert (day.energy_dc_kwh, day.vehicle_coverage) == (12.0, None)
    assert FleetDay.objects.get().energy_dc_kwh == 12.0


@pytest.mark.usefixtures("one_transaction", "clock")
def test_faults_are_watched_for():
    record([vehicle_reading("V1", "12:00", battery_temp_celsius=60)], NOON)

    run("watch_for_faults")

    assert Fault.objects.get().kind == "hot_battery"


@pytest.mark.usefixtures("one_transaction")
def test_log_of_webhooks_is_kept_for_thirty_days(clock):
    Webhook.objects.create(url="https://example.org/", secret=webhooks.new_secret())
    record([vehicle_reading("V1", "12:00", battery_temp_celsius=60)], NOON)
    run("watch_for_faults")
    clock.shift(timedelta(days=31))

    run("forget_old_webhook_deliveries")

    assert not WebhookDelivery.objects.exists()


@pytest.mark.usefixtures("one_transaction", "clock")
def test_partitions_are_made_ahead():
    run("ensure_partitions")

    assert partitions.covered_until() == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clock")
def test_partitions_that_are_past_are_sealed(caplog):
    reading = vehicle_reading("V1")
    reading.measured_at = NOON - timedelta(days=30)
    record([reading], NOON)
    june = "ingestion_vehiclereading_2026_06"

    try:
        with caplog.at_level("INFO", logger=jobs.__name__):
            run("seal_past_partitions")
    finally:
        with connection.cursor() as cursor:
            for kind in ("meter", "vehicle"):
                cursor.execute(f"ALTER TABLE ingestion_{kind}reading_2026_06 RESET (fillfactor)")

    assert f"sealed {june}" in caplog.messages


@pytest.mark.django_db(transaction=True)
class TestAfterAWorkerWasKilled:
    """With a real worker, which runs what is queued and due, and ends."""

    def test_next_turn_of_its_job_is_freed(self):
        task = app.configure_task(f"{jobs.__name__}.ensure_partitions")
        killed = task.defer(timestamp=0)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [killed])
        waiting = task.defer(timestamp=60)

        app.configure_task(f"{jobs.__name__}.take_up_stalled_jobs").defer(timestamp=60)
        work()
        work()

        states = dict(ProcrastinateJob.objects.values_list("id", "status"))
        assert (states[killed], states[waiting]) == ("failed", "succeeded")
        streak = JobFailure.objects.get()
        assert (streak.job, streak.reason) == ("ensure_partitions", "its worker was killed")
        assert streak.recovered_at is not None

    def test_one_of_the_night_that_stopped_with_its_worker_is_gone_on_with_by_the_next(self):
        task = app.tasks[f"{jobs.__name__}.seal_past_partitions"]

        assert (
            task.get_retry_exception(JobAborted(), None).retry_decision.retry_at <= timezone.now()
        )
        assert task.get_retry_exception(ValueError(), None) is None
