"""A whole engine, started as `make run` starts it, in processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.request import urlopen

import psutil
import psycopg
import pytest

from energy_engine import environment
from energy_engine.local import embedded

START_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Engine:
    """One engine: `start`, talk to it, `stop`."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._variables = variables
        self._process: subprocess.Popen[str] | None = None
        self.output: list[str] = []

    def start(self) -> "Engine":
        """Start the engine, and return when it says that it is ready."""
        _let_postgres_through(self.data_dir)
        ready = threading.Event()
        said_before = len(self.output)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "energy_engine.local.run"],
            cwd=environment.ROOT,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=[self._process, ready], daemon=True).start()
        assert ready.wait(START_SECONDS), "".join(self.output)
        said = "".join(self.output[said_before:])
        assert "is ready" in said, said
        return self

    def _listen(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
                if "is ready" in line:
                    ready.set()
        ready.set()

    def _environment(self) -> dict[str, str]:
        names = {variable.name for variable in environment.VARIABLES}
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        own = {"PORT": str(self.port), "ENGINE_DATA_DIR": str(self.data_dir)}
        return inherited | own | self._variables

    def stop(self, signal_number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the engine with a signal; return its exit status."""
        self._process.send_signal(signal_number)
        return self._process.wait(60)

    def processes(self) -> list[psutil.Process]:
        """Return every process of the engine, itself first."""
        launcher = psutil.Process(self._process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def processes_of(self, program: str) -> list[psutil.Process]:
        """Return the processes whose command line names `program`; at least one."""
        found = [process for process in self.processes() if program in _command_of(process)]
        assert found, program
        return found

    def kill_postgres(self) -> None:
        """End PostgreSQL as a crash would: no process of it may say good-bye."""
        for process in self.processes():
            if process.name() == "postgres":
                process.kill()

    @contextmanager
    def frozen_postgres(self) -> Iterator[None]:
        """Stop every process of PostgreSQL as it is; they go on afterwards."""
        postgres = [process for process in self.processes() if process.name() == "postgres"]
        for process in postgres:
            process.suspend()
        try:
            yield
        finally:
            for process in postgres:
                process.resume()

    def text(self, path: str) -> str:
        """Return the body of an answer as it is."""
        with urlopen(f"http://127.0.0.1:{self.port}{path}") as response:
            return str(response.read().decode())

    def request(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """Return status and decoded body of one request on a connection of its own."""
        with Connection(self.port) as connection:
            status, _, answer = connection.request(method, path, body)
            return status, answer

    def assert_well(self) -> None:
        """Assert that the engine serves, and that nothing it did not expect has happened to it."""
        assert self.request("GET", "/health/ready")[0] == 200
        output = "".join(self.output)
        assert "Traceback" not in output, output
        assert "ERROR" not in output, output

    def manage(self, *words: str) -> str:
        """Run a command of `manage.py` beside the engine; return what it prints."""
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(
            command,
            cwd=environment.ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def connected(self) -> psycopg.Connection:
        """Return a connection to the engine's own database; it commits when it is left."""
        return psycopg.connect(embedded.database_url(self.data_dir))

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with self.connected() as connection:
            return connection.execute(sql).fetchall()


def fail_to_start(engine: Engine) -> str:
    """Return the one line that a start that fails leaves."""
    failed = subprocess.run(
        [sys.executable, "-m", "energy_engine.local.run"],
        cwd=environment.ROOT,
        env=engine._environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert failed.returncode != 0
    (line,) = failed.stderr.splitlines()
    return line


def _let_postgres_through(folder: Path) -> None:
    """Open pytest's folders above `folder`: under root, PostgreSQL runs as another user.

    It would find another place for its data otherwise, which nobody removes after the test.
    """
    temporary = Path(tempfile.gettempdir())
    for above in folder.parents:
        if above.is_relative_to(temporary) and above != temporary and above.exists():
            above.chmod(above.stat().st_mode | 0o011)


@contextmanager
def passable_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can pass through; those of pytest close again at any time."""
    with tempfile.TemporaryDirectory(prefix="energy-engine-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def _command_of(process: psutil.Process) -> str:
    try:
        return str(process.cmdline())
    except psutil.NoSuchProcess:
        return ""  # such as one of PostgreSQL's, which come and go


class Connection:
    """A keep-alive connection to an engine, as a device holds one."""

    def __init__(self, port: int) -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=15)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, str], object]:
        """Return status, headers and decoded body. Errors: `OSError`, `HTTPException`."""
        try:
            self._http.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json"},
            )
            response = self._http.getresponse()
            return response.status, dict(response.headers), json.loads(response.read())
        except (OSError, HTTPException):
            self._http.close()
            raise


def at_once(clients: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in so many threads at once; re-raise what any of them raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """One engine for all tests that harm none; after the last of them it has to be well."""
    with passable_folder() as folder:
        engine = Engine(folder / "data").start()
        yield engine
        try:
            engine.assert_well()
        finally:
            engine.stop()


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Make engines that are stopped when the test ends."""
    made: list[Engine] = []

    with passable_folder() as folder:

        def make(name: str = "data", **variables: str) -> Engine:
            made.append(Engine(folder / name, **variables))
            return made[-1]

        yield make
        for engine in made:
            if engine._process is not None and engine._process.poll() is None:
                engine.stop()
