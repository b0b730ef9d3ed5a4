"""How long which request may wait for PostgreSQL; that it waits no longer: `tests/engine`."""

import pytest
from django.test import RequestFactory

from energy_engine.server import deadlines

SHORT, LONG = 2, 60


@pytest.fixture(autouse=True)
def _limits(settings):
    settings.STATEMENT_TIMEOUT_SECONDS = SHORT
    settings.LONG_STATEMENT_TIMEOUT_SECONDS = LONG


@pytest.mark.parametrize(
    ("path", "seconds"),
    [
        ("/v1/status/vehicle/V1", SHORT),
        ("/v1/links", SHORT),
        ("/health/ready", SHORT),
        ("/v1/analytics/performance/V1", LONG),
        ("/api/v1/analytics/performance", LONG),
        ("/v1/faults", LONG),
        ("/metrics", LONG),
        ("/admin/fleet/vehicle/", LONG),
    ],
)
def test_figures_lists_and_the_console_may_take_longer(path, seconds):
    assert deadlines.allowed_seconds(RequestFactory().get(path)) == seconds


@pytest.mark.parametrize(("size", "seconds"), [(65_536, SHORT), (65_537, LONG)])
def test_writes_of_many_readings_may_take_longer(size, seconds):
    request = RequestFactory().post("/v1/ingest", b"x" * size, "application/json")

    assert deadlines.allowed_seconds(request) == seconds


def test_body_of_unknown_length_may_take_longer():
    request = RequestFactory().post("/v1/ingest", b"", "application/json")
    request.META["wsgi.input_terminated"] = True

    assert deadlines.allowed_seconds(request) == LONG
