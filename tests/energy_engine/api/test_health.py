"""Whether the engine says truly that it can serve."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from ingestion.history import partitions
from tests.conftest import NOON


@pytest.fixture
def partitions_ahead(api):
    partitions.ensure_ahead()


def test_root_names_the_service(api):
    assert api.get("/").json() == {
        "service": "Energy Ingestion Engine",
        "status": "running",
        "version": "0.1.0",
    }


@pytest.mark.in_process
@pytest.mark.usefixtures("partitions_ahead")
def test_engine_with_all_it_needs_is_ready(api):
    answer = api.get("/health/ready")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "partitions": "ok", "cache": "ok"},
    }


@pytest.mark.usefixtures("partitions_ahead", "redis_is_away")
def test_engine_without_cache_is_degraded_but_ready(api):
    answer = api.get("/health/ready")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["cache"] == "unreachable"


@pytest.mark.usefixtures("partitions_ahead")
def test_engine_that_runs_out_of_partitions_is_not_ready(api, clock):
    clock.move_to(partitions.covered_until() - timedelta(days=6))
    answer = api.get("/health/ready")

    assert answer.status_code == 503
    assert "pgpartition" in answer.json()["checks"]["partitions"]


@pytest.mark.usefixtures("partitions_ahead")
def test_engine_with_a_migration_to_do_is_not_ready(api):
    MigrationRecorder.Migration.objects.filter(app="ingestion").delete()
    answer = api.get("/health/ready")

    assert answer.status_code == 503
    assert "3 not applied" in answer.json()["checks"]["migrations"]


def test_commits_wait_for_the_disk_whatever_the_servers_default(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'")
        # Set by the connection itself, which goes before database, role and server.
        assert cursor.fetchone() == ("on", "client")


@pytest.mark.in_process
@pytest.mark.usefixtures("partitions_ahead")
def test_partitions_reach_three_months_ahead(api):
    assert partitions.covered_until() == NOON.replace(month=11, day=1, hour=0)
