"""An engine whose Redis freezes serves on without it, and takes it up again."""

import signal
from datetime import UTC, datetime, timedelta

from tests.engine.conftest import wait_until

PERFORMANCE = "/v1/analytics/performance"


def ask(engine, path: str) -> dict:
    status, answer = engine.request("GET", path)
    assert status == 200, answer
    return answer


def efficiency(engine, vehicle_id: str) -> float | None:
    return ask(engine, f"{PERFORMANCE}/{vehicle_id}")["efficiencyRatio"]


def cache_check(engine) -> str:
    return ask(engine, "/health/ready")["checks"]["cache"]


def test_engine_serves_on_while_redis_is_frozen(make_engine):
    engine = make_engine(PERFORMANCE_CACHE_SECONDS="3600").start()
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    earlier = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    engine.request("PUT", "/v1/links", link("M1", earlier))
    readings = [
        {"meterId": "M1", "kwhConsumedAc": 10, "timestamp": at},
        {"meterId": "M2", "kwhConsumedAc": 20, "timestamp": at},
        {"vehicleId": "LINKED", "kwhDeliveredDc": 9, "timestamp": at},
        {"vehicleId": "UNLINKED", "kwhDeliveredDc": 19, "timestamp": at},
    ]
    assert engine.request("POST", "/v1/ingest", readings)[0] == 201
    assert (efficiency(engine, "LINKED"), efficiency(engine, "UNLINKED")) == (90.0, 95.0)
    (redis,) = engine.processes_of("valkey-server")

    redis.send_signal(signal.SIGSTOP)
    try:
        frozen = [(efficiency(engine, "LINKED"), cache_check(engine)) for _ in range(10)]
        assert efficiency(engine, "UNLINKED") == 95.0
        # What it still keeps has become untrue; nobody may be told of it later.
        assert engine.request("PUT", "/v1/links", link("M2", earlier))[0] == 201
        relinked = [efficiency(engine, "LINKED") for _ in range(4)]
    finally:
        redis.send_signal(signal.SIGCONT)
    wait_until(lambda: [cache_check(engine) for _ in range(8)] == ["ok"] * 8, 20, "the return")

    assert frozen == [(90.0, "unreachable")] * 10
    assert relinked == [45.0] * 4
    assert [efficiency(engine, "LINKED") for _ in range(8)] == [45.0] * 8


def link(meter_id: str, valid_from: str) -> dict[str, str]:
    return {"vehicleId": "LINKED", "meterId": meter_id, "validFrom": valid_from}
