"""Migrations can be taken back, and applied again, on a database that is in use."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from energy_engine import environment
from energy_engine.local import embedded

# The first migration of each floor, the uppermost floor first.
FIRST = {"energy_engine": "zero", "analytics": "0001", "ingestion": "0001", "fleet": "0001"}


@pytest.fixture
def url() -> Iterator[str]:
    """A database of the test's own."""
    server, name = (
        embedded.database_url(environment.data_dir()),
        f"migrations_{secrets.token_hex(4)}",
    )
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server.replace("@/postgres?", f"@/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def manage(url: str, *commands: list[str]) -> None:
    """Run commands of `manage.py` one after another, in one process."""
    code = "import sys; from django.core.management import call_command\n"
    code += "\n".join(f"call_command(*{command!r})" for command in commands)
    process = started(url, "shell", "--no-imports", "-c", code)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def started(url: str, *command: str) -> subprocess.Popen[str]:
    """Start a command of `manage.py`."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "manage.py", *command],
        cwd=environment.ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def schema(url: str) -> list[str]:
    dumped = subprocess.run(
        [embedded._postgres_bin("pg_dump"), "--schema-only", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # A word that is new in each dump keeps what is dumped from being taken for psql's commands.
    return [
        line for line in dumped.splitlines() if not line.startswith(("\\restrict", "\\unrestr"))
    ]


def history(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT * FROM ingestion_vehiclereading ORDER BY id").fetchall()


def test_migrations_are_taken_back_and_applied_again_without_losing_history(url):
    start = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    simulate = ["simulate", "--vehicles=2", "--hours=2", "--interval=600", f"--start={start}"]
    manage(url, ["prepare"], simulate)
    schema_before, history_before = schema(url), history(url)
    assert history_before

    manage(url, *(["migrate", *target] for target in FIRST.items()))

    assert history(url) == history_before
    assert schema(url) != schema_before
    manage(url, ["prepare"])
    assert history(url) == history_before
    assert schema(url) == schema_before

    manage(url, *(["migrate", app, "zero"] for app in FIRST), ["prepare"], simulate)

    assert schema(url) == schema_before  # nothing was left behind


def wait_for_a_waiting_lock(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    deadline = time.monotonic() + 60
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'fleet_meter'::regclass"
    while not connection.execute(waiting).fetchall():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_devices_write_while_a_migration_waits_for_a_long_transaction(url):
    manage(url, ["migrate", "fleet", "0004"])
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as writer:
        reader.execute("SELECT FROM fleet_meter")
        migration = started(url, "migrate", "fleet", "0005")
        wait_for_a_waiting_lock(writer)

        writer.execute("SET statement_timeout = '20s'")
        writer.execute(
            "INSERT INTO fleet_meter (meter_id, energy_register, registered_at) "
            "VALUES ('M1', 'interval', now())"
        )

        assert migration.poll() is None  # it still waits for the reader
        reader.rollback()
        _, errors = migration.communicate(timeout=60)
        assert migration.returncode == 0, errors
        assert writer.execute("SELECT scale FROM fleet_meter").fetchall() == [(1.0,)]


def test_cadences_of_the_version_before_are_rounded(url):
    manage(url, ["migrate", "analytics", "0005"])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO analytics_metercadence (meter_id, cadence_seconds, learned_at) "
            "VALUES ('M1', 58.2, now()), ('M2', 900, now()), ('M3', NULL, now())"
        )

        manage(url, ["migrate", "analytics", "0006"])

        rounded = "SELECT cadence_seconds FROM analytics_metercadence ORDER BY meter_id"
        assert connection.execute(rounded).fetchall() == [(60.0,), (900.0,), (None,)]


def test_price_of_a_site_becomes_a_fixed_tariff_and_back(url):
    manage(url, ["prepare"], ["migrate", "energy_engine", "0008"], ["migrate", "analytics", "0010"])
    manage(url, ["migrate", "fleet", "0008"])
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO fleet_site (name, time_zone, currency, tariff_per_kwh)"
            " VALUES ('Berlin', 'UTC', 'EUR', 0.25), ('Bonn', 'UTC', 'EUR', NULL)"
        )

    manage(url, ["migrate", "fleet", "0009"])

    with psycopg.connect(url) as connection:
        tariffs = connection.execute(
            "SELECT name, valid_from, kind, price_per_kwh::text"
            " FROM fleet_tariff INNER JOIN fleet_site AS site ON site.id = site_id"
        ).fetchall()
        assert tariffs == [("Berlin", None, "fixed", "0.250000")]
        connection.execute(
            "INSERT INTO fleet_tariff (site_id, valid_from, kind, price_per_kwh)"
            " SELECT id, '2026-01-01', 'fixed', 0.3 FROM fleet_site"
        )
        connection.execute(
            "UPDATE fleet_tariff SET valid_from = '9999-01-01' WHERE site_id ="
            " (SELECT id FROM fleet_site WHERE name = 'Bonn')"
        )

    manage(url, ["migrate", "fleet", "0008"])

    with psycopg.connect(url) as connection:
        prices = connection.execute(
            "SELECT name, tariff_per_kwh::text FROM fleet_site ORDER BY name"
        ).fetchall()
    assert prices == [("Berlin", "0.3000"), ("Bonn", None)]


def test_session_counters_are_counters_of_the_version_before(url):
    manage(url, ["migrate", "fleet", "0005"])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO fleet_meter (meter_id, energy_register, registered_at) "
            "VALUES ('M1', 'session_counter', now())"
        )

        manage(url, ["migrate", "fleet", "0004"])

        register = "SELECT energy_register FROM fleet_meter"
        assert connection.execute(register).fetchall() == [("counter",)]
