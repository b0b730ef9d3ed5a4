"""`make bench`: how fast the engine is, against ceilings measured in the same run.

Starts an engine of its own, fsync and all. Prints one table, keeps it in `.bench/`, and shows how
each figure compares with the run before. Machines differ and are noisy: look at the ratios.
"""

import json
import os
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from energy_engine import embedded
from tests.benchmarks.load import BATCH, Load, send_stream, statement_alone, wrk
from tests.engine.conftest import Engine

RESULTS = Path(".bench/last.json")
SECONDS = int(os.environ.get("BENCH_SECONDS", "12"))
# A figure and its ceiling take turns, so that both see the same hours of a noisy machine.
ROUNDS = 4
STREAM_READINGS = int(os.environ.get("BENCH_STREAM_READINGS", "1000000"))


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ceiling` is what the machine did without what is measured."""

    name: str
    value: float
    unit: str
    ceiling: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.ceiling if self.ceiling else None


def main() -> None:
    before = _before()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="energy-engine-bench-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL passes through it as a user of its own
        engine = Engine(Path(folder)).start()
        try:
            for measure in (batches, singles, streams, storage):
                for figure in measure(engine):
                    figures.append(figure)
                    _print(figure, before.get(figure.name))
        finally:
            engine.stop()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


def batches(engine: Engine) -> list[Figure]:
    """Batches of 1,000 by 4 clients, against the statement alone by 4 clients."""
    url = str(embedded.database_url(engine.data_dir))
    wrk("batch", engine.port, 4, 3)  # registers the vehicles, warms both up
    alone, loads = [], []
    for _ in range(ROUNDS):
        alone.append(statement_alone(url, 4, SECONDS // ROUNDS))
        loads.append(wrk("batch", engine.port, 4, SECONDS // ROUNDS))
    per_second = median(load.per_second for load in loads) * BATCH
    note = f"p99 {median(load.p99_ms for load in loads):.0f} ms"
    return [
        Figure("batches of 1,000, 4 clients", per_second, "readings/s", median(alone), note),
    ]


def singles(engine: Engine) -> list[Figure]:
    """One reading per request, against an empty DRF view on the same server."""
    empty: list[float] = []
    loads: dict[int, list[Load]] = {16: [], 64: [], 1_000: []}
    for _ in range(ROUNDS):
        empty.append(wrk("empty", engine.port, 64, SECONDS // ROUNDS).per_second)
        for clients, of_clients in loads.items():
            of_clients.append(wrk("single", engine.port, clients, SECONDS // ROUNDS))
    rates = {
        clients: median(load.per_second for load in of_clients)
        for clients, of_clients in loads.items()
    }
    figures = [Figure("empty view, 64 clients", median(empty), "requests/s")]
    for clients, of_clients in loads.items():
        figures.append(
            Figure(
                f"one reading per request, {clients:,} clients",
                rates[clients],
                "requests/s",
                rates[64] if clients == 1_000 else median(empty),
                f"p99 {median(load.p99_ms for load in of_clients):.0f} ms, "
                f"{sum(load.refused for load in of_clients)} refused, "
                f"{sum(load.broken for load in of_clients)} broken",
            )
        )
    return figures


def streams(engine: Engine) -> list[Figure]:
    """A gzipped NDJSON stream, and what it does to the memory of the workers."""
    before = _largest_worker_mb(engine)
    peak = before
    sending = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not sending.wait(0.2):
            peak = max(peak, _largest_worker_mb(engine))

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds, accepted = send_stream(engine.port, STREAM_READINGS)
    sending.set()
    watcher.join()
    return [
        Figure("gzipped NDJSON stream, 1 client", accepted / seconds, "readings/s"),
        Figure("growth of the largest worker meanwhile", peak - before, "MB"),
    ]


def storage(engine: Engine) -> list[Figure]:
    """Bytes per reading in history, and how many updates of live state were HOT."""
    ((rows, heap, index),) = engine.rows(
        """
        SELECT
            (SELECT count(*) FROM ingestion_vehiclereading),
            sum(pg_relation_size(inhrelid)),
            sum(pg_indexes_size(inhrelid))
        FROM pg_inherits WHERE inhparent = 'ingestion_vehiclereading'::regclass
        """
    )
    ((hot,),) = engine.rows(
        "SELECT n_tup_hot_upd::float / n_tup_upd FROM pg_stat_user_tables "
        "WHERE relname = 'fleet_vehiclelivestate'"
    )
    note = f"{heap / rows:.0f} row + {index / rows:.0f} index, {rows:,} readings"
    return [
        Figure("history, per reading", float(heap + index) / rows, "bytes", note=note),
        Figure("live state: HOT updates", 100 * hot, "%"),
    ]


def _largest_worker_mb(engine: Engine) -> float:
    sizes = [process.memory_info().rss for process in engine.processes_of("gunicorn")]
    return max(sizes) / 1e6


def _before() -> dict[str, float]:
    if not RESULTS.exists():
        return {}
    return {figure["name"]: figure["value"] for figure in json.loads(RESULTS.read_text())}


def _print(figure: Figure, before: float | None) -> None:
    ratio = f"{figure.ratio:.2f} of {figure.ceiling:,.0f}" if figure.ratio else ""
    change = f"{figure.value / before - 1:+.0%}" if before else ""
    sys.stdout.write(
        f"{figure.name:<42} {figure.value:>11,.0f} {figure.unit:<11} "
        f"{ratio:<18} {change:>6}  {figure.note}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
