"""How gunicorn runs the engine, under `make run` and in the container alike.

Imports neither Django nor psycopg: a gevent worker has to patch the standard library before
psycopg is imported, or waiting for PostgreSQL would block every request of the process.
"""

import gc
import os
import shutil
import socket
import tempfile
from logging.config import dictConfig
from pathlib import Path
from typing import Any

from gunicorn import glogging

from energy_engine import environment
from energy_engine.server.admission import IDLE_SECONDS
from energy_engine.server.handover import Handover
from energy_engine.telemetry import logs


class Log(glogging.Logger):  # type: ignore[misc] # gunicorn has no types
    """Makes gunicorn log like the engine."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        dictConfig(logs.configuration())
        logs.take_over_output()
        self.error_log.handlers.clear()
        self.error_log.propagate = True


try:
    _host = environment.read("HOST")
    bind = f"{f'[{_host}]' if ':' in _host else _host}:{environment.read('PORT')}"
    # Whose X-Forwarded-Proto is trusted, by which a request counts as HTTPS; gunicorn's own default
    # would trust every program on this machine.
    forwarded_allow_ips = environment.read("TRUSTED_PROXIES")
    workers = environment.read("WEB_WORKERS")
except environment.InvalidEnvironment as error:
    logs.refuse_to_start(error)
worker_class = "energy_engine.server.worker.Worker"
# Many devices may hold a connection at once; a greenlet costs a few KB.
worker_connections = 4000
# As many as Linux allows: a worker accepts them all at once, see `server.admission`.
backlog = 4096
# A stop waits for connections that are kept open; a device that reports every minute reconnects.
keepalive = IDLE_SECONDS
# A stopping worker finishes its current requests.
graceful_timeout = 20
timeout = 60
logger_class = Log
loglevel = "warning"
# No header may change the path that Django sees: a trusted proxy may pass on that of a client.
forwarder_headers = ""
# Two engines of one user would share its default path, and nothing uses it.
control_socket_disable = True
# Only the engine's own log: a line per reading would cost more than the reading.
accesslog = None


def post_fork(server: Any, worker: Any) -> None:
    worker.handover = server.handover


def _keep_code_out_of_collections() -> None:
    """Exclude the code, which lives as long as the process, from garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def post_worker_init(worker: Any) -> None:
    """Start the metrics and the timer of each worker, and report that it serves."""
    from energy_engine.server import waiting  # Django's, which only the workers load
    from energy_engine.telemetry import sampling

    _keep_code_out_of_collections()
    sampling.begin(worker.admission)
    waiting.begin()
    worker.handover.serves(worker.pid)


def on_starting(server: Any) -> None:
    """Let each worker count in its own file, so that any of them can return the sums of all."""
    server.metrics_dir = tempfile.mkdtemp(prefix="engine-metrics-")
    os.environ.update(PROMETHEUS_MULTIPROC_DIR=server.metrics_dir)
    server.handover = Handover(Path(server.metrics_dir), 0, workers)


def when_ready(server: Any) -> None:
    """Let the kernel hold a connection until its request begins, so that a worker can admit it."""
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)


def on_reload(server: Any) -> None:
    server.handover = server.handover.begin_next()


def child_exit(_server: object, worker: Any) -> None:
    """Drop the gauges of a worker that has ended; its counters stay."""
    from prometheus_client import multiprocess  # which reads the environment when it is imported

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call] # has none


def on_exit(server: Any) -> None:
    shutil.rmtree(server.metrics_dir, ignore_errors=True)
