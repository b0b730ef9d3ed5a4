"""Ten times as many clients as the engine can serve: what becomes of those that it does serve."""

import resource
from time import sleep

from tests.benchmarks.figures import OVERLOAD_SECONDS, Figure
from tests.benchmarks.load import Answers, wrk, wrk_overload
from tests.benchmarks.memory import forget_peaks, largest_worker_peak_mb
from tests.engine.conftest import Engine

# As many connections as two workers hold.
CLIENTS = 4_000
PEAK_CLIENTS = 64
LIGHT_CLIENTS = 16
AFTER_SECONDS = 10
TURN_SECONDS = 5


def overload(engine: Engine) -> list[Figure]:
    """Goodput under overload, against the peak; memory meanwhile, and how soon it is normal again.

    The peak is measured before and after: the machine may change meanwhile.
    """
    _allow_open_files(2 * CLIENTS)
    before = wrk("single", engine.port, LIGHT_CLIENTS, TURN_SECONDS)
    peaks = [wrk_overload(engine.port, PEAK_CLIENTS, TURN_SECONDS)]
    forget_peaks(engine)
    load, answers = wrk_overload(engine.port, CLIENTS, OVERLOAD_SECONDS)
    memory_mb = largest_worker_peak_mb(engine)
    sleep(AFTER_SECONDS)
    after = wrk("single", engine.port, LIGHT_CLIENTS, TURN_SECONDS)
    peaks.append(wrk_overload(engine.port, PEAK_CLIENTS, TURN_SECONDS))
    return [
        Figure(
            f"stored under overload, {CLIENTS:,} clients",
            answers.stored / load.seconds,
            "requests/s",
            max(stored.stored / peak.seconds for peak, stored in peaks),
            f"p99 {load.p99_ms:,.0f} ms, {_told(answers)}",
        ),
        Figure("largest worker meanwhile", memory_mb, "MB"),
        Figure(
            f"p99 of {LIGHT_CLIENTS} clients {AFTER_SECONDS} s later",
            after.p99_ms,
            "ms",
            before.p99_ms,
        ),
    ]


def _told(answers: Answers) -> str:
    """Return what was not stored, in words; late ones took longer than 10 s."""
    return ", ".join(
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in answers._asdict().items()
        if name != "stored" and (count or name == "refused")
    )


def _allow_open_files(files: int) -> None:
    """Let the load generator, a child of this process, have that many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), max(hard, files)))
