"""How many readings a second are stored: in batches, and one per request; what it does to rows."""

import subprocess
import sys
from statistics import median

from energy_engine import environment
from energy_engine.local import embedded
from tests.benchmarks.figures import ACCESS_ROUNDS, ACCESS_SECONDS, ROUNDS, SECONDS, Figure
from tests.benchmarks.history import running_engine
from tests.benchmarks.load import BATCH, Load, statement_alone, wrk
from tests.engine.conftest import Engine


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


def access(engine: Engine) -> list[Figure]:
    """One reading per request with a key that is looked at and counted, against an open API.

    Two web servers write to one database in short turns; the processor time of their processes is
    the steadier of both figures.
    """
    same = {
        "DATABASE_URL": str(embedded.database_url(engine.data_dir)),
        "REDIS_URL": embedded.redis_url(engine.data_dir),
        # Never reached, and counted all the same.
        "LIMIT_REQUESTS_PER_KEY": "100000000",
        "LIMIT_REQUESTS_PER_ADDRESS": "100000000",
    }
    with running_engine(**same) as unlocked, running_engine(**same, API_AUTH="required") as closed:
        key = _ingest_key(closed)
        wrk("single", unlocked.port, 64, 2)
        wrk("single", closed.port, 64, 2, key)
        turns = [_Turns(unlocked), _Turns(closed, key)]
        for _ in range(ACCESS_ROUNDS):
            turns.reverse()  # who comes second finds the other's writes still on their way
            for of_engine in turns:
                of_engine.take()
    open_api, with_key = sorted(turns, key=lambda of_engine: of_engine.key)
    return [
        Figure(name, median(of_key), unit, median(of_open), f"ratio of turns {_ratio(pairs):.3f}")
        for name, unit, of_key, of_open in (
            ("one reading, with a key", "requests/s", with_key.rates, open_api.rates),
            ("its processor time", "µs", with_key.cpu_us, open_api.cpu_us),
        )
        for pairs in [list(zip(of_key, of_open, strict=True))]
    ]


class _Turns:
    """What one web server did in each of its turns: requests/s, processor time of a request."""

    def __init__(self, engine: Engine, key: str = "") -> None:
        self.key = key
        self.rates: list[float] = []
        self.cpu_us: list[float] = []
        self._port = engine.port
        self._processes = engine.processes_of("gunicorn")

    def take(self) -> None:
        before = self._cpu_seconds()
        load = wrk("single", self._port, 64, ACCESS_SECONDS, self.key)
        self.rates.append(load.per_second)
        self.cpu_us.append((self._cpu_seconds() - before) / load.requests * 1e6)

    def _cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(of_process.user + of_process.system for of_process in times)


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return median(with_key / without for with_key, without in pairs)


def _ingest_key(engine: Engine) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", "api_key", "create", "bench", "--scope", "ingest"],
        env=engine._environment(),
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def live_state(engine: Engine) -> list[Figure]:
    """How many of the updates so far left the indexes of live state alone."""
    ((hot,),) = engine.rows(
        "SELECT n_tup_hot_upd::float / n_tup_upd FROM pg_stat_user_tables "
        "WHERE relname = 'fleet_vehiclelivestate'"
    )
    return [Figure("live state: HOT updates", 100 * hot, "%")]
