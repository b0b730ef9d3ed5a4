"""`make run`: the whole engine in the foreground, on PostgreSQL and Redis of its own.

Starts the embedded services (unless DATABASE_URL / REDIS_URL name others), prepares the database,
starts the web server and the background worker, prints the addresses, and stops all of it on
Ctrl-C, SIGTERM or a closed terminal.
"""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from energy_engine import environment
from energy_engine.local import embedded, leftovers, private_files
from energy_engine.local.supervisor import Program, Supervisor

_READY_SECONDS: Final = 60.0
_DATABASE_CONNECT_SECONDS: Final = 5
_READY_TEXT: Final = """
Energy Ingestion Engine is ready.

  API        {address}/v1
  API guide  {address}/v1/docs
  Console    {address}/admin/

Try the tour in the README. Ctrl-C stops the engine; the data stays in {places}.
"""
_OPEN_TEXT: Final = (
    "The API is open: every program on this machine may read and write without a key.\n"
    "To require keys, set API_AUTH=required.\n"
)
_KEY_TEXT: Final = "The API needs a key; to create one: `{command}`.\n"
_ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 # to be told from others
_OTHER_HOSTS_TEXT: Final = (
    "Other machines can use the names and addresses in ALLOWED_HOSTS: {hosts}.\n"
)
_HTTPS_TEXT: Final = (
    "The console works over HTTPS only, through a proxy in front (docs/security.md).\n"
    "To use it over plain HTTP in a trusted network, set SECURE_COOKIES=false.\n"
)


class CannotStart(Exception):
    """The engine can't start; the text says why, in one line."""


def main() -> int:
    """Run the engine until a signal ends it; return the exit status."""
    stopping = _stop_on_signals()
    try:
        run(stopping)
    except (
        CannotStart,
        embedded.ServiceUnavailable,
        environment.InvalidEnvironment,
        leftovers.StillThere,
        private_files.Unusable,
    ) as error:
        sys.stderr.write(f"energy-engine: {error}\n")
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"energy-engine: {where}{error.strerror}\n")
        return 1
    return 0


def run(stopping: Callable[[], bool]) -> None:
    """Start everything, and keep it running until `stopping()` is true.

    Errors: those that `main` prints in a line; nothing keeps running after one.
    """
    for variable in environment.VARIABLES:
        environment.read(variable.name)
    environment.pool_url()
    host, port = environment.read("HOST"), environment.read("PORT")
    data_dir = environment.data_dir()
    with _locked(data_dir), Supervisor() as supervisor:
        _set_defaults(host, data_dir)
        _wait_for_leftovers(host, port, data_dir, stopping)
        if stopping():
            return
        _start_services(supervisor, data_dir)
        _prepare()
        if stopping():
            return
        for program in _programs():
            supervisor.start(program)
        _watch_until_ready(supervisor, host, port, stopping)
        if not stopping():
            _say(_ready_text(host, port, data_dir))
        supervisor.watch(until=stopping)
        _say("Stopping.")


def _programs() -> list[Program]:
    return [
        Program(
            name="worker",
            argv=[sys.executable, "manage.py", "procrastinate", "worker", "--concurrency=3"],
        ),
        Program(
            name="web",
            argv=[
                *(sys.executable, "-m", "gunicorn"),
                *("--config", "python:energy_engine.gunicorn", "energy_engine.wsgi"),
            ],
        ),
    ]


def _stop_on_signals() -> Callable[[], bool]:
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.append(number))
    return lambda: bool(received)


def _wait_for_leftovers(host: str, port: int, data_dir: Path, stopping: Callable[[], bool]) -> None:
    """Return when no process of an engine that was killed is left.

    Errors: `CannotStart`, immediately if another program uses the port; `StillThere`.
    """
    cluster = (data_dir / "postgres").resolve()
    socket_path = embedded.redis_url(data_dir).removeprefix("unix://")
    leftovers.wait_for_end(f"port {port}", lambda: _leftover_on_port(host, port), stopping)
    leftovers.wait_for_end(
        socket_path, lambda: leftovers.listener(socket.AF_UNIX, socket_path), stopping
    )
    leftovers.wait_for_end(str(cluster), lambda: leftovers.postgres_on(cluster), stopping)


def _leftover_on_port(host: str, port: int) -> psutil.Process | None:
    """Return the process of a killed engine that still uses the port; None if the port is free."""
    holder = leftovers.listener(socket.AF_INET, host, port)
    try:
        _bind(host, port)
    except OSError as error:
        if holder and leftovers.is_leftover(holder):
            return holder
        by = f" by {leftovers.described(holder)}" if holder else ""
        raise CannotStart(
            f"port {port} of {host} can't be used ({error.strerror}{by}); "
            "choose others with HOST and PORT, such as `make run PORT=8001`"
        ) from None
    return None


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Lock the data directory, so that two engines never share one."""
    private_files.make_folder(data_dir)
    with private_files.open_file(data_dir / "engine.lock", "w") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(
                f"another engine is running on {data_dir}; stop it, or set ENGINE_DATA_DIR"
            ) from None
        yield


def _set_defaults(host: str, data_dir: Path) -> None:
    """Set the defaults of a local installation."""
    secret_file = data_dir / "secret_key"
    if not secret_file.exists():
        private_files.write_secret(secret_file, secrets.token_urlsafe(50))
    elif not environment.read("SECRET_KEY"):
        private_files.read_secret(secret_file, private_files.MAKE_A_NEW_KEY)
    os.environ.update({environment.LAUNCHED_ON: host})
    if host in environment.LOOPBACK_HOSTS:
        os.environ.setdefault("SECURE_COOKIES", "false")
        os.environ.setdefault("API_AUTH", "open")
    elif environment.read("API_AUTH") == "open":
        raise CannotStart(
            f"API_AUTH=open would let everyone who can reach {host} write: remove it, and create "
            f"keys with `{environment.command('api_key create')}`"
        )


def _start_services(supervisor: Supervisor, data_dir: Path) -> None:
    url = environment.read("DATABASE_URL")
    if url:
        _require_reachable(url)
    else:
        embedded.start_postgres(supervisor, data_dir)
    if not environment.read("REDIS_URL"):
        embedded.start_redis(supervisor, data_dir)


def _require_reachable(url: str) -> None:
    if not url.startswith(("postgresql://", "postgres://")):
        raise CannotStart("DATABASE_URL must begin with postgresql://")
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {"host": "@"}
    if "@" in str(parts.get("host", "")):
        # Not the driver's message, which repeats the password.
        raise CannotStart(
            "DATABASE_URL is not a valid URL: write special characters of the password as %XX"
        )
    try:
        psycopg.connect(url, connect_timeout=_DATABASE_CONNECT_SECONDS).close()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise CannotStart(f"DATABASE_URL can't be reached: {reason}") from None


def _prepare() -> None:
    prepared = subprocess.run(
        [sys.executable, "manage.py", "prepare", "--first-login"],
        cwd=environment.ROOT,
        start_new_session=True,  # Ctrl-C waits for it instead of cutting a migration in two
    )
    if prepared.returncode != 0:
        raise CannotStart("the database can't be prepared; see the error above")


def _watch_until_ready(
    supervisor: Supervisor, host: str, port: int, stopping: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + _READY_SECONDS

    def done() -> bool:
        if time.monotonic() > deadline:
            raise CannotStart(f"the engine was not ready after {_READY_SECONDS:g} seconds")
        return stopping() or _is_ready(host, port)

    supervisor.watch(until=done)


def _is_ready(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health/ready", headers={"Host": environment.own_host()})
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _ready_text(host: str, port: int, data_dir: Path) -> str:
    """Return the engine's addresses, and which settings open what is still closed."""
    shown = environment.own_host() if host in _ANY_ADDRESS else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    cluster = data_dir / "postgres"
    places = str(data_dir)
    if cluster.is_symlink():
        places += f" and {cluster.resolve().parent}"
    text = _READY_TEXT.format(address=address, places=places)
    if environment.read("API_AUTH") == "open":
        text += f"\n{_OPEN_TEXT}"
    else:
        text += f"\n{_KEY_TEXT.format(command=environment.command('api_key create --help'))}"
    if host not in environment.LOOPBACK_HOSTS:
        hosts = str(environment.read("ALLOWED_HOSTS")).replace(",", ", ")
        text += f"\n{_OTHER_HOSTS_TEXT.format(hosts=hosts)}"
    if environment.read("SECURE_COOKIES"):
        text += f"\n{_HTTPS_TEXT}"
    return text


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
