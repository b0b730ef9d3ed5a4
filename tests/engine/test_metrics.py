"""What Prometheus is shown by an engine of several processes."""

from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from tests.engine.conftest import at_once, wait_until


def samples(engine) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and the values of its labels, in order."""
    http = HTTPConnection("127.0.0.1", engine.port, timeout=15)
    http.request("GET", "/metrics", headers={"Authorization": "Bearer scrape me"})
    families = text_string_to_metric_families(http.getresponse().read().decode())
    http.close()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_whichever_process_is_asked_shows_the_sums_of_all_that_live(make_engine):
    engine = make_engine(WEB_WORKERS="2", METRICS_TOKEN="scrape me", API_AUTH="open").start()
    at_once(
        8,
        lambda number: [
            engine.request("POST", "/v1/ingest", {"vehicleId": f"V{number}", "kwhDeliveredDc": 1})
            for _ in range(10)
        ],
    )
    answered = ("engine_request_seconds_count", "201", "POST", "v1/ingest")
    stored = ("engine_readings_total", "stored", "vehicle")
    both_hold_one = ("engine_database_connections", "free")

    assert {samples(engine)[answered] for _ in range(10)} == {80}
    assert {samples(engine)[stored] for _ in range(10)} == {80}
    assert samples(engine)[("engine_waiting_readings",)] == 0
    wait_until(lambda: samples(engine)[both_hold_one] >= 2, 20, "a look at both processes")
