"""Load on an engine: `wrk` over HTTP, and the bare statement without HTTP as its ceiling."""

import gzip
import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
VEHICLES = 10_000
BATCH = 1_000


@dataclass(frozen=True)
class Load:
    """What a load generator saw; latencies in ms."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def per_second(self) -> float:
        """Requests that were answered with 2xx, per second."""
        return (self.requests - self.refused) / self.seconds


def wrk(script: str, port: int, connections: int, seconds: int, key: str = "") -> Load:
    """Run a script of this folder against the engine on `port`, with an API key if it needs one."""
    return _load(_printed(script, port, connections, seconds, key))


def _printed(script: str, port: int, connections: int, seconds: int, key: str = "") -> str:
    return subprocess.run(
        [
            *("wrk", "--threads", str(min(2, connections)), "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--timeout", "10s", "--script"),
            *(f"tests/benchmarks/{script}.lua", f"http://127.0.0.1:{port}"),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent.parent,
        env=os.environ | {"API_KEY": key},
    ).stdout


def _load(printed: str) -> Load:
    requests, duration, p50, p99, refused, broken = map(float, _line(printed, "result"))
    return Load(int(requests), duration, p50, p99, int(refused), int(broken))


def _line(printed: str, name: str) -> list[str]:
    return next(line.split()[1:] for line in printed.splitlines() if line.startswith(name))


def statement_alone(url: str, clients: int, seconds: int) -> float:
    """Return readings/s of the writer's statement, from processes that do nothing else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(clients) as pool:
        counts = pool.starmap(_execute, [(url, number, seconds) for number in range(clients)])
    return sum(counts) / seconds


def _execute(url: str, number: int, seconds: int) -> int:
    sql = (HERE.parent.parent / "ingestion/sql/record_vehicle_readings.sql").read_text()
    batches = [_parameters(batch) for batch in range(VEHICLES // BATCH)]
    written = 0
    with psycopg.connect(url, autocommit=True) as connection:
        deadline = time.monotonic() + seconds
        turn = number * 2
        while time.monotonic() < deadline:
            turn += 1
            parameters = batches[turn % len(batches)]
            now = datetime.now(UTC)
            parameters["measured_at"] = parameters["received_at"] = [now] * BATCH
            connection.execute(sql, parameters, prepare=True)
            written += BATCH
    return written


def _parameters(batch: int) -> dict[str, object]:
    return {
        "vehicle_id": sorted(f"V{batch * BATCH + index}" for index in range(BATCH)),
        "energy_dc_kwh": [1.25] * BATCH,
        "soc_percent": [81.5] * BATCH,
        "battery_temp_celsius": [32.1] * BATCH,
        "is_newest": [True] * BATCH,
        "register": True,
    }


def send_stream(port: int, readings: int, until: datetime | None = None) -> tuple[float, int]:
    """Send a gzipped NDJSON stream in chunks; return the seconds it took and the accepted count.

    The newest reading is of `until`, by default of now. The compressed bytes are made beforehand:
    the client is not what is measured.
    """
    parts = list(_compressed(readings, until or datetime.now(UTC)))
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    began = time.monotonic()
    connection.request(
        "POST",
        "/v1/ingest/vehicle",
        iter(parts),
        {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"},
        encode_chunked=True,
    )
    answer = json.loads(connection.getresponse().read())
    return time.monotonic() - began, answer["accepted"]


def _compressed(readings: int, until: datetime) -> Iterator[bytes]:
    """Yield gzip members of 10,000 lines, one reading of each vehicle."""
    start = until.timestamp() - readings / VEHICLES
    for tick in range(readings // VEHICLES):
        at = datetime.fromtimestamp(start + tick, UTC).isoformat()
        yield gzip.compress(
            b"".join(
                b'{"vehicleId":"V%d","soc":81.5,"kwhDeliveredDc":1.25,"batteryTemp":32.1,'
                b'"timestamp":"%s"}\n' % (vehicle, at.encode())
                for vehicle in range(VEHICLES)
            ),
            compresslevel=1,
        )
