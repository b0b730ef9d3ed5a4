"""Ten times as many requests as the engine serves, open loop: who is served, and who waits."""

import re
import resource
import subprocess
import tempfile
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

import requests

from tests.benchmarks.figures import OVERLOAD_SECONDS, Figure
from tests.benchmarks.load import wrk
from tests.benchmarks.memory import forget_peaks, largest_worker_peak_mb
from tests.engine.conftest import Engine

OVERLOAD = 10
MANY_CLIENTS = 4_000
PEAK_CLIENTS = 64
LIGHT_CLIENTS = 16
TURN_SECONDS = 5
AFTER_SECONDS = 1
BYSTANDER_PAUSE_SECONDS = 0.25
_NAMES = {0: "broken", 1: "unanswered", 2: "not sent"}


class Answers(NamedTuple):
    """Answers of one status, and how long they took from when their requests were due."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    longest_ms: float = 0.0


def overload(engine: Engine) -> list[Figure]:
    """Goodput, refusals, bystanders and memory under overload, and how soon it is normal again.

    The peak is measured before and after: the machine may change meanwhile.
    """
    _allow_open_files()
    before = wrk("single", engine.port, LIGHT_CLIENTS, TURN_SECONDS)
    peaks = [wrk("single", engine.port, PEAK_CLIENTS, TURN_SECONDS).per_second]
    forget_peaks(engine)
    cookie = _sign_in(engine)
    measured = {}
    for connections in ("new", "kept"):
        with _Bystanders(engine.port, cookie) as bystanders:
            answers = _open_loop(engine.port, OVERLOAD * peaks[0], connections)
        time.sleep(AFTER_SECONDS)
        after = wrk("single", engine.port, LIGHT_CLIENTS, TURN_SECONDS)
        measured[connections] = answers, bystanders, after
    closed = wrk("single", engine.port, MANY_CLIENTS, TURN_SECONDS)
    memory_mb = largest_worker_peak_mb(engine)
    peaks.append(wrk("single", engine.port, PEAK_CLIENTS, TURN_SECONDS).per_second)
    figures = []
    for connections, (answers, bystanders, after) in measured.items():
        figures += _figures(f"{OVERLOAD}x, {connections} connections", answers, max(peaks))
        figures += bystanders.figures()
        figures.append(
            Figure(
                f"p99 of {LIGHT_CLIENTS} clients {AFTER_SECONDS} s later",
                after.p99_ms,
                "ms",
                before.p99_ms,
            )
        )
    note = f"p99 {closed.p99_ms:,.0f} ms, {closed.refused:,} refused, {closed.broken} broken"
    return [
        *figures,
        Figure(
            f"{MANY_CLIENTS:,} clients that never wait",
            closed.per_second,
            "requests/s",
            max(peaks),
            note,
        ),
        Figure("largest worker meanwhile", memory_mb, "MB"),
    ]


def _figures(name: str, answers: dict[int, Answers], peak: float) -> list[Figure]:
    stored, refused = answers.get(201, Answers()), answers.get(503, Answers())
    others = ", ".join(
        f"{of_status.count:,} {_NAMES.get(status, status)}"
        for status, of_status in answers.items()
        if status not in (201, 503)
    )
    return [
        Figure(
            f"stored at {name}",
            stored.count / OVERLOAD_SECONDS,
            "requests/s",
            peak,
            f"p99 {stored.p99_ms:,.0f} ms; {others or 'all answered'}",
        ),
        Figure(
            f"p99 of {refused.count:,} refusals",
            refused.p99_ms,
            "ms",
            note=f"p50 {refused.p50_ms:,.0f} ms",
        ),
    ]


def _open_loop(port: int, rate: float, connections: str) -> dict[int, Answers]:
    """Send single readings at `rate` per second, whatever becomes of them; return by status."""
    source = Path(__file__).parent / "open_loop.c"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/open_loop"
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        printed = subprocess.run(
            [program, str(port), str(rate), str(OVERLOAD_SECONDS), connections],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    assert printed[-1] == "no_retry_after 0", printed[-1]
    rows = [line.split() for line in printed[:-1]]
    return {
        int(status): Answers(int(count), float(p50), float(p99), float(longest))
        for status, count, p50, p99, longest in rows
    }


class _Bystanders:
    """A health check and a person at the console, while others flood the engine."""

    def __init__(self, port: int, cookie: str) -> None:
        self._port = port
        self._pages = {"/health/live": "", "/admin/": cookie}
        self._seconds: dict[str, list[float]] = {path: [] for path in self._pages}
        self._failed: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=[path]) for path in self._pages]

    def __enter__(self) -> "_Bystanders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _look(self, path: str) -> None:
        while not self._stopping.wait(BYSTANDER_PAUSE_SECONDS):
            began = time.monotonic()
            connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", path, headers={"Cookie": self._pages[path]})
                status = connection.getresponse().status
                if status != 200:
                    self._failed.append(f"{path}: {status}")
            except (OSError, HTTPException) as error:
                self._failed.append(f"{path}: {type(error).__name__}")
            finally:
                connection.close()
            self._seconds[path].append(time.monotonic() - began)

    def figures(self) -> list[Figure]:
        """Return the longest that each page took."""
        note = f"{len(self._failed)} failed"
        return [
            Figure(f"longest {path} of {len(seconds)}", max(seconds) * 1000, "ms", note=note)
            for path, seconds in self._seconds.items()
        ]


def _sign_in(engine: Engine) -> str:
    """Return the cookies of a superuser who has signed in to the console."""
    make = (
        "from django.contrib.auth.models import User;"
        "User.objects.filter(username='bench').delete();"
        "User.objects.create_superuser('bench', password='bench-bench-bench')"
    )
    engine.manage("shell", "--verbosity=0", "--command", make)
    page = f"http://127.0.0.1:{engine.port}/admin/login/"
    session = requests.Session()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', session.get(page).text)[1]
    session.post(
        page,
        {"csrfmiddlewaretoken": token, "username": "bench", "password": "bench-bench-bench"},
        headers={"Referer": page},
    )
    return "; ".join(f"{name}={value}" for name, value in session.cookies.items())


def _allow_open_files() -> None:
    """Let the load generators, children of this process, have as many connections as they may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
