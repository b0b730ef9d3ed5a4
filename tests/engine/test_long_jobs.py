"""Long jobs stop between portions when their worker is told to end, and lose nothing by it."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil

from energy_engine import environment
from tests.engine.conftest import Engine, wait_until

VEHICLES = 100
HOURS = 250
ALL = VEHICLES * HOURS  # in 25 portions of the roll-up

_HOURS_LIKE_HISTORY = """
    SELECT count(*)
    FROM (
        SELECT vehicle_id, date_trunc('hour', measured_at) AS hour, sum(energy_dc_kwh) AS kwh
        FROM ingestion_vehiclereading GROUP BY 1, 2
    ) AS plain
    JOIN analytics_vehiclehour AS kept USING (vehicle_id, hour)
    WHERE abs(kept.energy_dc_kwh - plain.kwh) < 1e-9
"""


# Lets each statement that inserts take 0.3 s, so that the work takes seconds on any machine.
_SLOW_DOWN = """
    CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
    CREATE TRIGGER slow_down BEFORE INSERT ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION slow_down()
"""
_FULL_SPEED = "DROP FUNCTION slow_down CASCADE"


def write_readings(path) -> None:
    """Write a reading of each hour and vehicle, of hours that are over."""
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(minutes=90)
    with path.open("w") as file:
        for hour in range(HOURS):
            at = (last - timedelta(hours=hour)).isoformat()
            for vehicle in range(VEHICLES):
                reading = {"vehicleId": f"V{vehicle}", "kwhDeliveredDc": vehicle / 8}
                file.write(json.dumps(reading | {"timestamp": at}) + "\n")


def execute(engine: Engine, statements: str) -> None:
    with engine.connected() as connection:
        connection.execute(statements)


def test_roll_up_that_is_told_to_end_stops_at_once_and_the_next_one_finishes(make_engine, tmp_path):
    engine = make_engine().start()
    execute(engine, _SLOW_DOWN.format(table="analytics_vehiclehour"))
    write_readings(tmp_path / "readings.ndjson")
    engine.manage("import_readings", str(tmp_path / "readings.ndjson"))

    def pending() -> int:
        ((count,),) = engine.rows("SELECT count(*) FROM ingestion_changedvehiclehour")
        return count

    wait_until(lambda: 0 < pending() < ALL - 2000, 90, "the roll-up of the minute")
    (worker,) = [
        process
        for process in psutil.Process(engine._process.pid).children()
        if "procrastinate" in process.cmdline()
    ]
    began = time.monotonic()
    worker.terminate()
    psutil.wait_procs([worker], timeout=29)  # then the launcher would kill it

    assert time.monotonic() - began < 15
    left = pending()
    assert 0 < left < ALL
    assert engine.rows(
        "SELECT status::text FROM procrastinate_jobs "
        "WHERE task_name = 'energy_engine.jobs.roll_up' AND status NOT IN ('succeeded', 'todo')"
    ) == [("aborted",)]
    assert engine.rows("SELECT job FROM energy_engine_jobfailure") == []
    execute(engine, _FULL_SPEED)
    turn = "from analytics.rollups.hourly import roll_up; roll_up()"
    engine.manage("shell", "--verbosity=0", "--command", turn)
    assert pending() == 0
    assert engine.rows(_HOURS_LIKE_HISTORY) == [(ALL,)]
    engine.assert_well()


def test_command_that_is_told_to_end_says_how_to_go_on(make_engine, tmp_path):
    engine = make_engine().start()
    execute(engine, _SLOW_DOWN.format(table="ingestion_vehiclereading"))
    write_readings(tmp_path / "readings.ndjson")
    command = ["manage.py", "import_readings", str(tmp_path / "readings.ndjson")]
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=environment.ROOT,
        env=engine._environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as importing:
        stored = "SELECT count(DISTINCT (vehicle_id, measured_at)) FROM ingestion_vehiclereading"
        wait_until(lambda: engine.rows(stored) > [(0,)], 30, "the first readings")
        importing.terminate()
        said = importing.stderr.read()

    assert importing.returncode == 1
    assert "run the same command to continue from there" in said
    assert "Traceback" not in said
    execute(engine, _FULL_SPEED)
    engine.manage(*command[1:])
    assert engine.rows(stored) == [(ALL,)]
