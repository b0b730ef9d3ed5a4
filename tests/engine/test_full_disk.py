"""An engine whose disk is full says so, and serves again when there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import wait_until

# An empty engine takes 60 MB of them.
SIZE = "size=200m"
READINGS = [{"vehicleId": f"V{number}", "kwhDeliveredDc": 1} for number in range(100)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which PostgreSQL's user may pass through."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{SIZE},mode=711", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(file: Path) -> None:
    """Write to `file` until its disk has no room for a byte more."""
    written = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (65_536, 512, 1):
            try:
                while True:
                    os.write(written, b"x" * size)
            except OSError as error:
                assert error.strerror == "No space left on device"  # noqa: PT017 -- after the loop
    finally:
        os.close(written)


def test_engine_with_a_full_disk_is_not_ready_until_there_is_room(make_engine, small_disk):
    engine = make_engine(str(small_disk / "data")).start()

    def database() -> tuple[int, str]:
        status, answer = engine.request("GET", "/health/ready")
        return status, answer["checks"]["database"]

    def writes() -> set[int]:
        return {engine.request("POST", "/v1/ingest", READINGS)[0] for _ in range(20)}

    assert database() == (200, "ok")
    fill(small_disk / "filler")
    assert writes() == {503}
    # In both of its processes.
    wait_until(lambda: {database() for _ in range(20)} == {(503, "out of disk space")}, 20, "503")
    wait_until(lambda: "engine_database_up 0.0" in engine.text("/metrics"), 20, "the metric")

    (small_disk / "filler").unlink()
    wait_until(lambda: {database() for _ in range(20)} == {(200, "ok")}, 20, "being ready again")
    assert writes() == {201}
    wait_until(lambda: "engine_database_up 1.0" in engine.text("/metrics"), 20, "the metric")
