"""History: what a reading takes on disk, and whether much of it slows writing down."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psycopg

from energy_engine import environment
from energy_engine.local import embedded
from tests.benchmarks.figures import HISTORY_READINGS, ROUNDS, SECONDS, STREAM_READINGS, Figure
from tests.benchmarks.load import BATCH, VEHICLES, send_stream, wrk
from tests.engine.conftest import Engine

_SEAL = "from ingestion.history.sealing import seal_past_partitions; seal_past_partitions()"


@contextmanager
def running_engine(**variables: str) -> Iterator[Engine]:
    """Start an engine with a history of its own, and remove all of it afterwards."""
    with tempfile.TemporaryDirectory(prefix="energy-engine-bench-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL passes through it as a user of its own
        engine = Engine(Path(folder), **variables).start()
        try:
            yield engine
        finally:
            engine.stop()


def long_history(_engine: Engine) -> list[Figure]:
    """Batches into a long history, against batches into an engine that began empty."""
    with running_engine() as empty, running_engine() as full:
        for engine in (empty, full):
            wrk("batch", engine.port, 4, 3)  # registers the vehicles, warms both up
        _fill_history(full)
        into_empty, into_full = [], []
        for _ in range(ROUNDS):
            into_empty.append(wrk("batch", empty.port, 4, SECONDS // ROUNDS))
            into_full.append(wrk("batch", full.port, 4, SECONDS // ROUNDS))
    return [
        Figure(
            f"batches, {HISTORY_READINGS / 1e6:g} million in history",
            median(load.per_second for load in into_full) * BATCH,
            "readings/s",
            median(load.per_second for load in into_empty) * BATCH,
            f"p99 {median(load.p99_ms for load in into_full):.0f} ms",
        )
    ]


def _fill_history(engine: Engine) -> None:
    """Append readings of every vehicle, spread evenly over this month until now."""
    with psycopg.connect(
        str(embedded.database_url(engine.data_dir)), autocommit=True
    ) as connection:
        connection.execute(
            """
            INSERT INTO ingestion_vehiclereading
                (measured_at, received_at, energy_dc_kwh, soc_percent, battery_temp_celsius,
                 vehicle_id)
            SELECT at, at, 1.25, 81.5, 32.1, vehicle_id
            FROM fleet_vehicle
            CROSS JOIN generate_series(1, %(per_vehicle)s) AS number
            CROSS JOIN LATERAL (
                SELECT
                    date_trunc('month', now(), 'UTC')
                    + (now() - date_trunc('month', now(), 'UTC')) * number / %(per_vehicle)s AS at
            ) AS instant
            ORDER BY vehicle_id, number
            """,
            {"per_vehicle": HISTORY_READINGS // VEHICLES},
        )
        # Neither belongs to the batches that are measured next.
        connection.execute("VACUUM (ANALYZE) ingestion_vehiclereading")
        connection.execute("CHECKPOINT")


def storage(engine: Engine) -> list[Figure]:
    """Bytes per reading in a partition of last month, as written and once it is sealed."""
    in_last_month = datetime.now(UTC).replace(day=1) - timedelta(days=10)
    send_stream(engine.port, STREAM_READINGS, until=in_last_month)
    partition = f"ingestion_vehiclereading_{in_last_month:%Y_%m}"
    written = _per_reading("history, per reading as written", engine, partition)
    subprocess.run(
        [sys.executable, "manage.py", "shell", "--command", _SEAL],
        cwd=environment.ROOT,
        env=engine._environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    sealed = _per_reading("history, per reading once sealed", engine, partition)
    return [written, sealed]


def _per_reading(name: str, engine: Engine, partition: str) -> Figure:
    ((rows, heap, index),) = engine.rows(
        f"SELECT count(*), pg_relation_size('{partition}'), pg_indexes_size('{partition}') "
        f"FROM {partition}"
    )
    note = f"{heap / rows:.0f} row + {index / rows:.0f} index, {rows:,} readings"
    return Figure(name, (heap + index) / rows, "bytes", note=note)
