"""Whether the database can store readings, as health checks and metrics are told."""

import pytest
from django.db import connection

from energy_engine.postgres.storage import OK, Storage
from tests.engine.conftest import at_once

pytestmark = pytest.mark.django_db


def checks_so_far() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('energy_engine_storagecheck', 'id'))")
        return int(cursor.fetchone()[0])


def pages() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('energy_engine_storagecheck') / 8192")
        return int(cursor.fetchone()[0])


def test_many_who_ask_at_once_share_one_check():
    before = checks_so_far()
    storage = Storage()
    told: list[str] = []
    at_once(20, lambda _: told.append(storage.state()))

    assert told == [OK] * 20
    assert checks_so_far() - before == 2  # the check, and this look itself


def test_each_check_takes_room_on_the_disk():
    before = pages()
    for _ in range(3):
        assert Storage().state() == OK

    assert pages() - before == 3


def test_nothing_is_left_of_a_check():
    assert Storage().state() == OK

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM energy_engine_storagecheck")
        assert cursor.fetchone() == (0,)
