"""A stop or an import meanwhile takes nothing away from devices that are writing."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from energy_engine import environment
from tests.engine.conftest import Connection, at_once, wait_until

CLIENTS = 10
STOP_SECONDS = 30
# Single readings share a commit; so many at once have a transaction of their own.
BATCH = 300

FILE_DEVICES = 1_000
FILE_READINGS = 300_000
ANSWER_SECONDS = 5


def stored_sizes(engine) -> Counter:
    """Return how many vehicle readings history has of each energy."""
    return Counter(
        dict(engine.rows("SELECT energy_dc_kwh, count(*) FROM ingestion_vehiclereading GROUP BY 1"))
    )


def test_engine_that_is_stopped_under_load_keeps_what_it_answered(make_engine):
    engine = make_engine().start()
    accepted: Counter = Counter()
    numbers = iter(range(1_000_000))
    lock = threading.Lock()

    def send(client: int) -> None:
        size = BATCH if client % 2 else 1
        with Connection(engine.port) as connection:
            while True:
                with lock:
                    number = next(numbers)
                body = [
                    {"vehicleId": f"V{client}-{device}", "kwhDeliveredDc": number}
                    for device in range(size)
                ]
                try:
                    status, _, answer = connection.request("POST", "/v1/ingest/vehicle", body)
                except ConnectionError:
                    return  # closed before the first byte of an answer; half of one raises others
                assert (status, answer["accepted"]) == (201, size)
                accepted[float(number)] = size

    def stop() -> None:
        wait_until(lambda: len(accepted) > 200, 60, "writing")
        began = time.monotonic()
        assert engine.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS

    at_once(CLIENTS + 1, lambda number: stop() if number == CLIENTS else send(number))

    engine.start()
    stored = stored_sizes(engine)
    assert {number: stored[number] for number in accepted} == accepted
    assert set(stored.values()) == {1, BATCH}  # what was not answered is there as a whole or not


def write_file(path: Path) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)
    with path.open("w") as file:
        for second in range(FILE_READINGS // FILE_DEVICES):
            timestamp = (start + timedelta(seconds=second)).isoformat()
            file.writelines(
                json.dumps({"vehicleId": f"F{device}", "kwhDeliveredDc": 2, "timestamp": timestamp})
                + "\n"
                for device in range(FILE_DEVICES)
            )


def test_engine_goes_on_answering_while_a_file_is_imported(make_engine, tmp_path):
    engine = make_engine().start()
    write_file(tmp_path / "day.ndjson")
    answered = 0
    with subprocess.Popen(
        [sys.executable, "manage.py", "import_readings", tmp_path / "day.ndjson"],
        cwd=environment.ROOT,
        env=engine._environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # its progress
        text=True,
    ) as importing:
        while importing.poll() is None:
            began = time.monotonic()
            reading = {"vehicleId": "V1", "kwhDeliveredDc": 1}
            assert engine.request("POST", "/v1/ingest", reading)[0] == 201
            assert engine.request("GET", "/health/ready")[0] == 200
            assert time.monotonic() - began < ANSWER_SECONDS
            answered += 1
        summary = importing.stdout.read()

    assert importing.returncode == 0
    assert f"{FILE_READINGS:,} readings" in summary
    assert answered > 10
    assert stored_sizes(engine) == {1.0: answered, 2.0: FILE_READINGS}
