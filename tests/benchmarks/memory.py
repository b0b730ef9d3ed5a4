"""What bodies and streams do to the memory of the workers."""

import json
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

from tests.benchmarks.figures import SECONDS, STREAM_READINGS, Figure
from tests.benchmarks.load import VEHICLES, send_stream
from tests.engine.conftest import Engine, at_once

BODY_BYTES = 10 * 1024 * 1024
BODY_READINGS = 50_000
BODY_CLIENTS = 8


def streams(engine: Engine) -> list[Figure]:
    """A gzipped NDJSON stream, and what it does to the memory of the workers."""
    before = largest_worker_mb(engine)
    forget_peaks(engine)
    seconds, accepted = send_stream(engine.port, STREAM_READINGS)
    growth = largest_worker_peak_mb(engine) - before
    return [
        Figure("gzipped NDJSON stream, 1 client", accepted / seconds, "readings/s"),
        Figure("growth of the largest worker meanwhile", growth, "MB"),
    ]


def big_bodies(engine: Engine) -> list[Figure]:
    """The largest JSON bodies that are taken, by several clients: 50,000 readings in 10 MiB."""
    body = _largest_body()
    statuses: list[int] = []
    forget_peaks(engine)
    deadline = monotonic() + SECONDS

    def send(_client: int) -> None:
        while monotonic() < deadline:
            # On a new connection each, so that bodies meet in one worker as chance has it.
            statuses.append(_status_of(engine.port, body))

    began = monotonic()
    at_once(BODY_CLIENTS, send)
    seconds = monotonic() - began
    created = statuses.count(201)
    note = f"{created} of {len(statuses)} answered 201"
    return [
        Figure(
            f"bodies of 10 MiB, {BODY_CLIENTS} clients",
            created * BODY_READINGS / seconds,
            "readings/s",
            note=note,
        ),
        Figure("largest worker meanwhile", largest_worker_peak_mb(engine), "MB"),
    ]


def largest_worker_mb(engine: Engine) -> float:
    """Return the resident size of the largest of the web server's processes."""
    return max(process.memory_info().rss for process in engine.processes_of("gunicorn")) / 1e6


def forget_peaks(engine: Engine) -> None:
    """Let the kernel look for the peaks of the web server's processes from now on."""
    for process in engine.processes_of("gunicorn"):
        # https://docs.kernel.org/filesystems/proc.html: 5 resets the peak resident set size.
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def largest_worker_peak_mb(engine: Engine) -> float:
    """Return the largest resident size that one of these processes had since `forget_peaks`."""
    return max(_peak_kib(process.pid) for process in engine.processes_of("gunicorn")) * 1024 / 1e6


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _largest_body() -> bytes:
    """Return an array of readings, each with as much in an unknown field as fills the body."""
    readings = [
        {"vehicleId": f"V{number % VEHICLES}", "soc": 81.5, "kwhDeliveredDc": 1.25, "firmware": ""}
        for number in range(BODY_READINGS)
    ]
    room = BODY_BYTES - len(json.dumps(readings))
    for reading in readings:
        reading["firmware"] = "x" * (room // BODY_READINGS)
    return json.dumps(readings).encode()


def _status_of(port: int, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(
            "POST", "/v1/ingest/vehicle/batch", body, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
