"""What Prometheus is shown, and who may look."""

import math
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from analytics.figures import snapshot
from analytics.models import Fault, FaultChange, Webhook, WebhookDelivery
from analytics.rollups import cadence
from fleet.access.issuing import make_key
from fleet.models import Scope, Site
from ingestion.group_commit import group_commit
from ingestion.writer import record
from tests.conftest import NOON, meter_reading, vehicle_reading

# A proxy shows it to nobody.
pytestmark = [pytest.mark.django_db, pytest.mark.in_process]


def scrape(**headers: str):
    return Client(headers={"host": "localhost"} | headers).get("/metrics")


def samples() -> dict[tuple[str, tuple], float]:
    """Return each sample by its name and labels."""
    families = text_string_to_metric_families(scrape().content.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def grown(before: dict, after: dict, name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    return after[key] - before.get(key, 0)


def ran(task: str, turn: int, status: str) -> None:
    """Leave what the queue keeps of a turn of a job that ends now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH job AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
            " VALUES ('default', %s, %s) RETURNING id), defer AS ("
            "INSERT INTO procrastinate_periodic_defers"
            " (task_name, defer_timestamp, job_id, periodic_id)"
            " SELECT %s, %s, id, '' FROM job) "
            "INSERT INTO procrastinate_events (job_id, type, at)"
            " SELECT id, type::procrastinate_job_event_type, %s"
            " FROM job, unnest(%s::text[]) AS type",
            [task, status, task, NOON.timestamp() + turn, timezone.now(), ["started", status]],
        )


class TestCounters:
    def test_requests_are_counted_by_route_and_status(self, api):
        before = samples()
        for vehicle_id in ("V1", "V2"):
            api.get(f"/v1/status/vehicle/{vehicle_id}")
        api.get("/v1/nowhere")
        after = samples()

        route = "v1/status/vehicle/<device_id:vehicle_id>"
        seen = {"route": route, "method": "GET", "status": "404"}
        assert grown(before, after, "engine_request_seconds_count", **seen) == 2
        unknown = {"route": "", "method": "GET", "status": "404"}
        assert grown(before, after, "engine_request_seconds_count", **unknown) == 1

    def test_words_of_a_client_make_no_series(self, api):
        for method in ("BREW", "X" * 50):
            api._client.generic(method, "/v1/" + method)

        assert not any("BREW" in str(key) or "XXX" in str(key) for key in samples())

    def test_readings_are_counted_by_kind_and_outcome(self, api):
        before = samples()
        api.post("/v1/ingest/meter", [{"meterId": "M1", "kwhConsumedAc": 1}] * 3)
        api.post("/v1/ingest/vehicle", [{"vehicleId": "V1", "kwhDeliveredDc": 1}, {}])
        after = samples()

        name = "engine_readings_total"
        assert grown(before, after, name, kind="meter", outcome="stored") == 3
        assert grown(before, after, name, kind="vehicle", outcome="stored") == 1
        assert grown(before, after, name, kind="vehicle", outcome="rejected") == 1
        assert grown(before, after, "engine_commit_seconds_count") == 2
        assert grown(before, after, "engine_group_requests_sum") == 2

    def test_figures_of_the_cache_are_counted(self, api):
        api.post("/v1/ingest/vehicle", {"vehicleId": "V1", "kwhDeliveredDc": 1})
        before = samples()
        for _ in range(3):
            api.get("/v1/analytics/performance/V1")
        after = samples()

        assert grown(before, after, "engine_cached_figures_total", result="miss") == 1
        assert grown(before, after, "engine_cached_figures_total", result="hit") == 2


class TestGauges:
    def test_state_of_the_engine_is_that_of_the_moment(self, api, clock):
        Site.objects.create(name="Berlin")
        record([vehicle_reading("V1"), vehicle_reading("V2"), meter_reading("M1")], NOON)
        cadence.learn_cadences()
        snapshot.refresh()
        clock.shift(90)
        found = samples()

        assert found["engine_database_up", ()] == 1
        assert found["engine_devices", (("kind", "vehicle"),)] == 2
        assert found["engine_devices_online", (("kind", "meter"),)] == 1
        assert found["engine_snapshot_age_seconds", ()] == 90
        assert found["engine_faults_open", (("kind", "silent"),)] == 0
        assert found["engine_partition_horizon_seconds", ()] > 0
        assert found["engine_rollup_pending_hours", ()] == 0
        assert found["engine_job_late", (("task", "roll_up"),)] in (0, 1)

    def test_jobs_tell_their_failures_and_their_last_success(self, api, clock):
        for turn, status in enumerate(("succeeded", "failed", "failed")):
            ran("energy_engine.jobs.roll_up", turn, status)
            clock.shift(60)
        found = samples()

        task = (("task", "roll_up"),)
        assert found["engine_job_failed", task] == 1
        assert found["engine_job_failures", task] == 2
        assert found["engine_job_success_age_seconds", task] == 180
        assert ("engine_job_success_age_seconds", (("task", "ensure_partitions"),)) not in found

    def test_worker_that_is_gone_is_seen_by_its_last_heartbeat(self, api, clock):
        assert samples()["engine_worker_heartbeat_age_seconds", ()] == math.inf
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (%s)", [NOON])
        clock.shift(75)

        assert samples()["engine_worker_heartbeat_age_seconds", ()] == 75

    def test_messages_that_have_not_arrived_count_for_a_day(self, api, clock):
        fault = Fault.objects.create(
            kind="silent", vehicle_id="V1", value=1, threshold=1, opened_at=NOON
        )
        change = FaultChange.objects.create(fault=fault, state="open", changed_at=NOON)
        webhook = Webhook.objects.create(url="https://example.com", secret="whsec_")
        for number, arrived_at in enumerate((NOON, None, None)):
            WebhookDelivery.objects.create(
                webhook=webhook,
                change=change,
                message_id=str(number),
                attempted_at=NOON,
                delivered_at=arrived_at,
            )

        assert samples()["engine_webhook_undelivered", ()] == 2
        clock.shift(timedelta(days=2))
        assert samples()["engine_webhook_undelivered", ()] == 0

    def test_size_of_history_is_told_without_counting_it(self, api):
        before = samples()
        record([vehicle_reading("V1")] * 2_000, NOON)
        found = samples()

        size = ("engine_history_bytes", (("kind", "vehicle"),))
        assert found[size] > before[size] > 0
        assert ("engine_history_rows", (("kind", "meter"),)) in found

    def test_log_that_nobody_receives_is_told(self, api, log_slot):
        before = samples()
        record([vehicle_reading("V1")] * 2_000, NOON)
        with connection.cursor() as cursor:  # writes out what the open transaction has logged
            cursor.execute("SELECT pg_logical_emit_message(false, 'test', '', flush => true)")
        found = samples()

        slot = (("slot", log_slot),)
        assert found["engine_log_receiver_connected", slot] == 0
        assert found["engine_log_kept_bytes", slot] > before["engine_log_kept_bytes", slot]

    def test_what_waits_in_a_process_is_sampled(self, api, monkeypatch):
        monkeypatch.setattr(group_commit, "waiting_readings", lambda: 7)
        found = samples()

        assert found["engine_waiting_readings", ()] == 7
        assert found["engine_database_connections", (("state", "in use"),)] >= 0
        assert found["engine_database_waiting", ()] == 0

    def test_cache_that_is_away_is_told(self, api, redis_is_away):
        assert samples()["engine_cache_up", ()] == 0

    def test_gauges_take_the_same_statements_however_much_there_is(self, api, statements_sent):
        samples()
        with statements_sent() as few:
            samples()
        record([vehicle_reading(f"V{number}") for number in range(100)], NOON)
        with statements_sent() as many:
            samples()

        assert few == many


class TestAccess:
    def test_it_takes_the_token_or_a_key_that_reads_all(self, settings, clock):
        settings.API_AUTH = "required"
        settings.METRICS_TOKEN = "scrape me"
        read = make_key("reader", [Scope.READ]).token
        narrow = make_key("reader", [Scope.READ], vehicle_ids=["V1"]).token

        statuses = [
            scrape(authorization=f"Bearer {token}").status_code
            for token in ("scrape me", read, narrow, "scrape m", "é", "")
        ]

        assert statuses == [200, 200, 403, 401, 401, 401]

    def test_no_key_and_no_payload_is_in_it(self, api, settings):
        settings.API_AUTH = "required"
        token = make_key("device", list(Scope)).token
        reading = {"vehicleId": "SECRET-CAR", "kwhDeliveredDc": 123.456}
        client = Client(headers={"host": "localhost", "authorization": f"Bearer {token}"})
        client.post("/v1/ingest", reading, content_type="application/json")
        text = client.get("/metrics").content.decode()

        assert not re.search(f"SECRET-CAR|123.456|{token}", text)
