"""Every command of the engine does what it says, and has a test."""

import ast
import io
from datetime import UTC, datetime
from itertools import pairwise
from textwrap import dedent

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command, get_commands
from django.db import connection
from procrastinate.contrib.django import app as jobs

from energy_engine.environment import ROOT
from energy_engine.jobs import ensure_partitions
from ingestion.history import partitions

pytestmark = pytest.mark.django_db


def prepare(*arguments: str) -> str:
    printed = io.StringIO()
    call_command("prepare", *arguments, stdout=printed)
    return printed.getvalue()


def test_prepare_makes_partitions_and_no_login_unless_told(clock):
    assert prepare() == ""
    assert partitions.covered_until().month == 11
    assert not get_user_model().objects.exists()


def test_prepare_refuses_more_connections_than_there_are(clock, monkeypatch):
    monkeypatch.setenv("WEB_WORKERS", "12")

    with pytest.raises(CommandError) as refused:
        prepare()

    assert str(refused.value) == (
        "WEB_WORKERS 12 x (DATABASE_POOL_SIZE 10 + 1) + worker 10 + 5 + reserve 5 at DATABASE_URL"
        " = 152 connections, but PostgreSQL's max_connections leaves 97: lower DATABASE_POOL_SIZE"
        " or WEB_WORKERS, or raise PostgreSQL's max_connections by 55"
    )


def test_prepare_makes_commits_wait_for_the_disk_behind_a_pooler(clock, monkeypatch):
    monkeypatch.setenv("DATABASE_POOL_URL", "postgresql://engine@pooler/postgres")

    prepare()

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
            " WHERE datname = current_database() AND setrole = 'engine'::regrole"
        )
        assert cursor.fetchall() == [(["synchronous_commit=on"],)]


def test_migrations_match_the_models():
    call_command("pgmakemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_migrations_go_back_and_forth():
    for app in ("analytics", "ingestion", "fleet"):
        call_command("migrate", app, "zero", verbosity=0)
    call_command("migrate", verbosity=0)
    partitions.ensure_ahead()


@pytest.mark.django_db(transaction=True)
def test_nightly_job_makes_partitions(clock):
    ensure_partitions(timestamp=0)

    assert partitions.covered_until() >= datetime(2026, 11, 1, tzinfo=UTC)
    assert "energy_engine.jobs.ensure_partitions" in jobs.tasks


def called_commands(source: str) -> set[str]:
    """Return the commands that `source` runs: by `call_command`, or after "manage.py" in a list."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name("call_command"), args=[ast.Constant(name), *_]):
                found.append(name)
            case ast.List(elts) | ast.Tuple(elts):
                words = [getattr(word, "value", None) for word in elts]
                found += [name for word, name in pairwise(words) if word == "manage.py"]
    return {name for name in found if isinstance(name, str)}


def test_command_counts_as_called_only_where_it_runs():
    source = """
    # call_command("in_a_comment")
    def test_it():
        "call_command('in_a_docstring')"
        assert "named" in ["named", "python manage.py in_a_text"]
        call_command("called", "--option", stdout=printed)
        subprocess.run([sys.executable, "manage.py", "in_a_process", *words])
    """

    assert called_commands(dedent(source)) == {"called", "in_a_process"}


def test_every_command_has_a_test():
    tests = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    called = set().union(*map(called_commands, tests))
    own = {
        name
        for name, app in get_commands().items()
        if app in ("energy_engine", "analytics", "ingestion", "fleet")
    }

    assert own >= {"prepare"}
    assert own - called == set()
