"""How fast figures are answered, and whether the length of history or of the fleet slows them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from statistics import median, quantiles
from time import perf_counter

import psycopg

from energy_engine import environment
from energy_engine.local import embedded
from tests.benchmarks.figures import HISTORY_DAYS, ROUNDS, SECONDS, Figure
from tests.benchmarks.history import running_engine
from tests.benchmarks.load import BATCH, wrk
from tests.engine.conftest import Engine

VEHICLES = 200
FLEET = 10_000
REQUESTS = 200
SUMMED_UP_DAYS = 366
LISTS = (
    "ordering=vehicleId",
    "ordering=efficiencyRatio",
    "ordering=-energyConsumedAc",
    "health=healthy&ordering=-averageBatteryTemp",
    "minEfficiency=50&maxEfficiency=95&ordering=-efficiencyRatio",
)

# Every order of both lists, and each filter.
CONSOLE_LISTS = (
    *(f"/admin/fleet/vehicle/?o={column}" for column in range(-12, 13)),
    *(f"/admin/fleet/meter/?o={column}" for column in range(-11, 12)),
    "/admin/fleet/vehicle/?health=healthy&online=no&linked=yes&o=-9",
    "/admin/fleet/vehicle/?site__id__exact=1&seen=hour",
    "/admin/fleet/vehicle/?q=77",
    "/admin/fleet/meter/?health=unknown&online=yes",
)
_SITES = """
    INSERT INTO fleet_site (name, time_zone, currency)
    SELECT 'Depot ' || number, 'Europe/Berlin', 'EUR' FROM generate_series(1, 20) AS number;
    INSERT INTO fleet_tariff (site_id, kind, price_per_kwh)
    SELECT id, 'fixed', 0.3 FROM fleet_site;
    UPDATE fleet_vehicle SET site_id = 1 + substr(vehicle_id, 2)::integer % 20;
    UPDATE fleet_meter SET site_id = 1 + substr(meter_id, 2)::integer % 20;
"""
# A whole hour of each device, as often as there are hours before its first one.
_YEAR_OF_HOURS = """
    CREATE TEMPORARY TABLE sample AS
    SELECT DISTINCT ON ({kind}_id) * FROM analytics_{kind}hour
    ORDER BY {kind}_id, NOT is_gapless, hour;
    INSERT INTO analytics_{kind}hour
    SELECT (jsonb_populate_record(sample, jsonb_build_object(
        'hour', at,
        'first_measured_at', sample.first_measured_at + (at - sample.hour),
        'last_measured_at', sample.last_measured_at + (at - sample.hour)
    ))).*
    FROM sample, generate_series(
        date_trunc('hour', now()) - interval '365 days', sample.hour, interval '1 hour'
    ) AS at
    ON CONFLICT DO NOTHING
"""
_SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("bench"))
print(client.cookies["sessionid"].value)
"""
_DEVICES = """
    INSERT INTO fleet_{kind} ({kind}_id, energy_register, registered_at)
    SELECT '{letter}' || number, 'interval', now() FROM generate_series(1, {devices}) AS number
    ON CONFLICT DO NOTHING;
    INSERT INTO fleet_{kind}livestate ({kind}_id, measured_at, received_at, {energy})
    SELECT '{letter}' || number, now(), now(), 0.1 FROM generate_series(1, {devices}) AS number
    ON CONFLICT DO NOTHING;
"""
_LINKS = """
    INSERT INTO fleet_vehiclemeterlink (vehicle_id, meter_id, valid_during)
    SELECT 'V' || number, 'M' || number, tstzrange(now() - interval '400 days', NULL)
    FROM generate_series(1, {devices}) AS number
"""
_READINGS = """
    INSERT INTO ingestion_{kind}reading (measured_at, received_at, {energy}, {kind}_id)
    SELECT at, at, {kwh}, '{letter}' || number
    FROM
        generate_series({start}, {end}, interval '{step}') AS at,
        generate_series(1, {devices}) AS number
"""
_KINDS = (
    {"kind": "meter", "letter": "M", "energy": "energy_ac_kwh", "kwh": 0.1},
    {"kind": "vehicle", "letter": "V", "energy": "energy_dc_kwh", "kwh": 0.09},
)
_ENSURE = """
from datetime import timedelta
from django.utils import timezone
from ingestion.history.partitions import ensure_partitions
ensure_partitions(timezone.now() - timedelta(days=day) for day in range({days} + 1))
"""
# Printed by a process of the engine's own code.
_TIMED = """
import time
from analytics.alerting import faults
from analytics.figures import snapshot
from analytics.rollups import hourly
from analytics.models import FleetDay
began = time.perf_counter()
{work}
print('seconds', time.perf_counter() - began)
"""


def answers(_engine: Engine) -> list[Figure]:
    """A figure of 24 hours, in a short and in a long history; of a year; from the cache."""
    with running_engine() as short, running_engine() as long:
        _fill(short, 1)
        _fill(long, HISTORY_DAYS)
        day, year = "window=24h", "window=365d"
        times: dict[str, list[float]] = {name: [] for name in ("short", "long", "year")}
        for _ in range(ROUNDS):
            times["short"] += _milliseconds(short, _paths(day))
            times["long"] += _milliseconds(long, _paths(day))
            times["year"] += _milliseconds(long, _paths(year))
        cached = [wrk("cached", short.port, 64, SECONDS // ROUNDS) for _ in range(ROUNDS)]
        empty = [wrk("empty", short.port, 64, SECONDS // ROUNDS) for _ in range(ROUNDS)]
    return [
        _answered("24 h figure, 1 day of history", times["short"]),
        _answered(f"24 h figure, {HISTORY_DAYS} days of history", times["long"], times["short"]),
        _answered("365 d figure, from hourly sums", times["year"], times["long"]),
        Figure(
            "cached figures, 64 clients",
            median(load.per_second for load in cached),
            "requests/s",
            median(load.per_second for load in empty),
        ),
    ]


def fleet(_engine: Engine) -> list[Figure]:
    """The fleet of 10,000: an hour summed up, its last 24 hours looked at, its lists."""
    with running_engine() as engine:
        for kind in _KINDS:
            _execute(engine, _DEVICES.format(**kind, devices=FLEET))
            # A reading every ten minutes, and every minute in the hour that is summed up.
            for step, start, end in (
                ("10 minutes", 25, "1 hour"),
                ("1 minute", 1, "1 second"),
            ):
                hour = "date_trunc('hour', now())"
                span = {"start": f"{hour} - interval '{start} hours'"}
                span["end"] = f"{hour} - interval '1 second' - interval '{end}'"
                _execute(engine, _READINGS.format(**kind, **span, step=step, devices=FLEET))
        _execute(engine, _LINKS.format(devices=FLEET))
        _inside(engine, "hourly.roll_up()")
        _execute(engine, "VACUUM ANALYZE")
        last = "timezone.now().replace(minute=0, second=0, microsecond=0) - rollups.HOUR"
        rolled_up = _inside(
            engine,
            "from django.utils import timezone\n"
            f"hourly.mark({last}, {last} + rollups.HOUR)\n"
            "hourly.roll_up()",
        )
        looked_at = median(_inside(engine, "snapshot.refresh()") for _ in range(3))
        compared = median(_inside(engine, "snapshot.refresh_trend()") for _ in range(3))
        watched = median(_inside(engine, "faults.watch()") for _ in range(3))
        _execute(engine, "VACUUM ANALYZE")
        lists = [
            time
            for query in LISTS
            for time in _milliseconds(engine, [f"/v1/analytics/performance?{query}"] * 40)
        ]
        _execute(engine, _SITES)
        signed_in = {"Cookie": f"sessionid={_shell(engine, _SIGN_IN).split()[-1]}"}
        consoles = [_milliseconds(engine, [page] * 10, signed_in) for page in CONSOLE_LISTS]
        overview = _milliseconds(engine, ["/admin/overview"] * 20, signed_in)
        ingest, beside = _ingest_beside_rollups(engine, last)
    return [
        Figure("sum up an hour of 10,000 + 10,000", rolled_up, "s"),
        Figure("batches, while such hours are summed up", beside, "readings/s", ingest),
        Figure("look at the last 24 h of 10,000", looked_at, "s"),
        Figure("compare them with the day before", compared, "s"),
        Figure("watch for faults of 20,000 devices", watched, "s"),
        _answered("a page of 100 of 10,000, any order", lists),
        _answered("the slowest list of the console", max(consoles, key=median)),
        _answered("the overview of the console", overview),
    ]


def _ingest_beside_rollups(engine: Engine, hour: str) -> tuple[float, float]:
    """Return the readings/s of batches, alone and while an hour of the fleet is summed up again."""
    work = (
        "from django.utils import timezone\n"
        f"until = time.monotonic() + {SECONDS}\n"
        "while time.monotonic() < until:\n"
        f"    hourly.mark({hour}, {hour} + rollups.HOUR)\n"
        "    hourly.roll_up()"
    )
    alone, beside = [], []
    for _ in range(ROUNDS // 2):
        alone.append(wrk("batch", engine.port, 4, SECONDS).per_second)
        with ThreadPoolExecutor(1) as pool:
            rolling_up = pool.submit(_inside, engine, work)
            beside.append(wrk("batch", engine.port, 4, SECONDS).per_second)
            rolling_up.result()
    return BATCH * median(alone), BATCH * median(beside)


def _fill(engine: Engine, days: int) -> None:
    """Give each of 200 linked vehicles a reading a minute for `days`, and a year of hourly sums."""
    _shell(engine, _ENSURE.format(days=SUMMED_UP_DAYS))
    for kind in _KINDS:
        span = {"start": f"now() - interval '{days} days 1 hour'", "end": "now()"}
        _execute(engine, _READINGS.format(**kind, **span, step="1 minute", devices=VEHICLES))
    # Only now: the engine's own job takes a device that it has looked at for summed up. With an
    # interval: once another were learned, the sums below would no longer be valid.
    for kind in _KINDS:
        _execute(engine, _DEVICES.format(**kind, devices=VEHICLES))
        _execute(engine, f"UPDATE fleet_{kind['kind']} SET interval_seconds = 60")
    _execute(engine, _LINKS.format(devices=VEHICLES))
    _inside(engine, "hourly.roll_up()\nwhile hourly.pending(): time.sleep(1)")
    for kind in _KINDS:
        _execute(engine, _YEAR_OF_HOURS.format(kind=kind["kind"]))
    _execute(engine, "VACUUM ANALYZE")


def _paths(query: str) -> list[str]:
    return [
        f"/v1/analytics/performance/V{number % VEHICLES + 1}?{query}" for number in range(REQUESTS)
    ]


def _milliseconds(
    engine: Engine, paths: list[str], headers: dict[str, str] | None = None
) -> list[float]:
    """Return how long each of `paths` takes, one after the other on one connection."""
    connection = HTTPConnection("127.0.0.1", engine.port, timeout=60)
    times = []
    for path in paths:
        began = perf_counter()
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
        times.append(1000 * (perf_counter() - began))
        assert answer.status == 200, body
    connection.close()
    return times


def _answered(name: str, times: list[float], against: list[float] | None = None) -> Figure:
    note = f"p50; p99 {quantiles(times, n=100)[98]:.1f} ms"
    return Figure(name, median(times), "ms", median(against) if against else None, note)


def _inside(engine: Engine, work: str) -> float:
    """Return the seconds that `work` takes in a process of the engine's own code."""
    return float(_shell(engine, _TIMED.format(work=work)).split("seconds")[1])


def _shell(engine: Engine, code: str) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", code],
        cwd=environment.ROOT,
        env=engine._environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _execute(engine: Engine, sql: str) -> None:
    with psycopg.connect(str(embedded.database_url(engine.data_dir)), autocommit=True) as database:
        database.execute(sql)
