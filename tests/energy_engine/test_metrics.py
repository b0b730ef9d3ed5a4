"""What Prometheus is shown, and who may look."""

import re

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from analytics import cadence, snapshot
from fleet.keys import make_key
from fleet.models import Scope, Site
from ingestion.writer import record
from tests.conftest import NOON, meter_reading, vehicle_reading

pytestmark = pytest.mark.django_db


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
        assert found["engine_job_late", (("job", "Roll up"),)] in (0, 1)


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
