"""Many requests at once for a figure that takes long are one computation, in all processes."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.engine.conftest import Connection, Engine, wait_until

# What a vehicle without a link has a share of is computed by statements that begin with this one.
COMPUTING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND query LIKE '/* analytics/sql/unlinked_devices.sql */%'
"""
CLIENTS = 16


def ask(engine: Engine, number: int) -> tuple[int, str | None, object]:
    """Ask for the figure of one of four vehicles; return status, Retry-After and efficiency."""
    with Connection(engine.port) as connection:
        status, headers, answer = connection.request(
            "GET", f"/v1/analytics/performance/V{number % 4}"
        )
    return status, headers.get("Retry-After"), answer.get("efficiencyRatio")


@pytest.fixture
def engine(make_engine) -> Iterator[Engine]:
    """An engine whose background worker does nothing: it would compute the same, and keep it."""
    engine = make_engine().start()
    workers = engine.processes_of("procrastinate")
    for worker in workers:
        worker.suspend()
    yield engine
    for worker in workers:
        worker.resume()


def test_energy_without_a_link_is_computed_once_in_all_processes(engine):
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    readings = [{"vehicleId": f"V{n}", "kwhDeliveredDc": 9, "timestamp": at} for n in range(4)]
    readings.append({"meterId": "M", "kwhConsumedAc": 40, "timestamp": at})
    assert engine.request("POST", "/v1/ingest", readings)[0] == 201
    wait_until(lambda: computing(engine) == 0, 20, "the worker")

    with engine.connected() as database, ThreadPoolExecutor(CLIENTS) as pool:
        # As if it took for ever: it can't read the meters.
        database.execute("DELETE FROM analytics_unlinkedday")
        database.commit()
        database.execute("LOCK TABLE fleet_meter IN ACCESS EXCLUSIVE MODE")
        futures = [pool.submit(ask, engine, number) for number in range(CLIENTS)]
        wait_until(lambda: sum(future.done() for future in futures) == CLIENTS - 1, 20, "refusals")
        copies = computing(engine)
        database.rollback()
        answers = Counter(future.result() for future in futures)

    assert copies == 1
    assert answers == {(503, "1", None): CLIENTS - 1, (200, None, 90.0): 1}
    assert ask(engine, 1) == (200, None, 90.0)


def computing(engine: Engine) -> int:
    return int(engine.rows(COMPUTING)[0][0])
