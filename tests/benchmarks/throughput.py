"""How many readings a second are stored: in batches, and one per request; what it does to rows."""

import subprocess
import sys
from statistics import median

from energy_engine import embedded, environment
from tests.benchmarks.figures import ROUNDS, SECONDS, Figure
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


def access(_engine: Engine) -> list[Figure]:
    """One reading per request with a key that is looked at and counted, against an open API."""
    closed_api = {"API_AUTH": "required"}
    # Never reached, and counted all the same.
    closed_api |= {"LIMIT_REQUESTS_PER_KEY": "100000000", "LIMIT_REQUESTS_PER_ADDRESS": "100000000"}
    with running_engine() as unlocked, running_engine(**closed_api) as closed:
        key = subprocess.run(
            [sys.executable, "manage.py", "api_key", "create", "bench", "--scope", "ingest"],
            env=closed._environment(),
            cwd=environment.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        rates: dict[str, list[float]] = {"": [], key: []}
        turns = [(unlocked, ""), (closed, key)]
        for _ in range(4 * ROUNDS):
            turns.reverse()  # who comes second finds the other's writes still on their way
            for engine, its_key in turns:
                load = wrk("single", engine.port, 64, SECONDS // ROUNDS, its_key)
                rates[its_key].append(load.per_second)
    return [
        Figure(
            "one reading per request, with a key",
            median(rates[key]),
            "requests/s",
            median(rates[""]),
        )
    ]


def live_state(engine: Engine) -> list[Figure]:
    """How many of the updates so far left the indexes of live state alone."""
    ((hot,),) = engine.rows(
        "SELECT n_tup_hot_upd::float / n_tup_upd FROM pg_stat_user_tables "
        "WHERE relname = 'fleet_vehiclelivestate'"
    )
    return [Figure("live state: HOT updates", 100 * hot, "%")]
