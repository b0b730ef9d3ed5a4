"""Which PostgreSQL a process asks, and what it may rely on there."""

import pytest

from energy_engine.environment import InvalidEnvironment
from energy_engine.postgres import databases

PRIMARY = "postgresql://engine@primary/engine"
POOLER = "postgresql://engine@pooler/engine"


@pytest.fixture
def answering(monkeypatch):
    """Let this process be one that answers requests."""
    monkeypatch.setattr(databases, "_answers_requests", True)


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("pool_url", "use", "host"),
    [
        ("", "auto", "primary"),
        (POOLER, "auto", "pooler"),
        (POOLER, "true", "pooler"),
        (POOLER, "false", "primary"),
    ],
)
def test_requests_go_through_the_pooler_where_there_is_one(monkeypatch, pool_url, use, host):
    monkeypatch.setenv("DATABASE_POOL_URL", pool_url)
    monkeypatch.setenv("USE_DATABASE_POOLER", use)

    assert databases.databases(PRIMARY)["default"]["HOST"] == host


def test_jobs_and_commands_go_to_postgresql_itself(monkeypatch):
    monkeypatch.setattr(databases, "_answers_requests", False)
    monkeypatch.setenv("DATABASE_POOL_URL", POOLER)

    assert databases.databases(PRIMARY)["default"]["HOST"] == "primary"


def test_pooler_that_is_a_must_and_missing_keeps_every_process_from_starting(monkeypatch):
    monkeypatch.setenv("USE_DATABASE_POOLER", "true")

    with pytest.raises(InvalidEnvironment, match="DATABASE_POOL_URL"):
        databases.databases(PRIMARY)


@pytest.mark.usefixtures("answering")
def test_nothing_is_kept_in_a_session_of_the_pooler(monkeypatch):
    monkeypatch.setenv("DATABASE_POOL_URL", POOLER)

    pooled = databases.databases(PRIMARY)["default"]

    assert pooled["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert pooled["OPTIONS"]["prepare_threshold"] is None
    assert "options" not in pooled["OPTIONS"]


@pytest.mark.parametrize(
    ("answers_requests", "limit"), [(True, "statement_timeout=7500"), (False, None)]
)
def test_statements_of_requests_have_an_end_and_those_of_jobs_have_none(
    monkeypatch, answers_requests, limit
):
    monkeypatch.setattr(databases, "_answers_requests", answers_requests)
    monkeypatch.setenv("LONG_STATEMENT_TIMEOUT_SECONDS", "7.5")
    monkeypatch.setenv("DATABASE_REPLICA_URL", "postgresql://engine@second/engine")

    for database in databases.databases(PRIMARY).values():
        options = database["OPTIONS"]["options"].split()
        assert [option for option in options if "timeout" in option] == ([limit] if limit else [])


def test_replica_is_known_where_one_is_named(monkeypatch):
    assert "replica" not in databases.databases(PRIMARY)
    monkeypatch.setenv("DATABASE_REPLICA_URL", "postgresql://engine@second/engine")

    assert databases.databases(PRIMARY)["replica"]["HOST"] == "second"
