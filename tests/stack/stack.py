"""The whole stack as plain processes: nginx with TLS, PgBouncer, the engine, a primary, a replica.

nginx, PgBouncer and the replica are configured by the very files under `deploy/`.
"""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import closing, contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from string import Template

import psutil
import psycopg

from energy_engine import environment
from energy_engine.local import embedded
from energy_engine.local.supervisor import Program, Supervisor
from tests.engine.conftest import free_port

DEPLOY = environment.ROOT / "deploy"
POSTGRES_BIN = embedded._postgres_bin("postgres").parent
START_SECONDS = 60
# Debian keeps nginx where only root looks.
PATH = f"{os.environ['PATH']}:/usr/sbin"


class Stack:
    """A stack under `data_dir`: `start` it, talk HTTPS to `port`, `stop` it.

    `primary_dir` is the data directory of a PostgreSQL that runs already; `variables` go to the
    engine.
    """

    def __init__(
        self,
        data_dir: Path,
        primary_dir: Path | None = None,
        database: str = "postgres",
        wsgi: str = "energy_engine.wsgi",
        **variables: str,
    ) -> None:
        self.data_dir = data_dir
        self.primary_dir = primary_dir or data_dir / "primary"
        self.replica_dir = data_dir / "replica"
        self.starts_primary = primary_dir is None
        self.database = database
        self.port, self.plain_port, self.engine_port, self.pool_port = (
            free_port() for _ in range(4)
        )
        self._wsgi = wsgi
        self._variables = variables
        self.supervisor = Supervisor()
        self.programs: dict[str, Program] = {}

    def start(self) -> "Stack":
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.chmod(0o711)
        if self.starts_primary:
            self.start_primary()
        self.start_replica()
        embedded.start_redis(self.supervisor, self.data_dir / "redis")
        self.start_pooler()
        self.manage("prepare")
        self.start_web()
        self.start_nginx()
        return self

    def stop(self) -> None:
        self.supervisor.stop()

    # --- Its parts ----------------------------------------------------------------------------

    def start_primary(self) -> None:
        embedded.start_postgres(self.supervisor, self.primary_dir)
        self.programs["primary"] = self._running("postgres")

    def start_replica(self) -> None:
        sockets = self.replica_dir / "run"
        sockets.mkdir(parents=True, mode=0o700, exist_ok=True)
        for folder in (self.replica_dir, sockets):
            self._give_to_postgres(folder)
        self._start(
            Program(
                name="replica",
                argv=[
                    str(DEPLOY / "postgres" / "replica.sh"),
                    *("-c", f"unix_socket_directories={sockets}", "-c", "listen_addresses="),
                    *("-c", "hot_standby_feedback=on", "-c", "shared_buffers=128MB"),
                ],
                environment={
                    "PATH": f"{POSTGRES_BIN}:{PATH}",
                    "PGDATA": str(self.replica_dir / "postgres"),
                    "PGHOST": str(embedded._run_dir(self.primary_dir)),
                    "PGUSER": "engine",
                    "PGPASSWORD": self._password,
                },
                stop_signal=signal.SIGINT,
                log_file=self.data_dir / "replica.log",
                user=embedded._postgres_user(),
            )
        )
        self.until(lambda: self.asked(self.replica_url, "SELECT pg_is_in_recovery()"), "replica")

    def start_pooler(self) -> None:
        folder = self.data_dir / "pgbouncer"
        folder.mkdir(exist_ok=True)
        users = folder / "userlist.txt"
        users.write_text(f'"engine" "{self._password}"\n')
        settings = ConfigParser(interpolation=None)
        settings.read(DEPLOY / "pgbouncer" / "pgbouncer.ini")
        server = settings["databases"]["*"]
        assert "host=postgres port=5432" in server
        settings["databases"]["*"] = server.replace(
            "host=postgres port=5432", f"host={embedded._run_dir(self.primary_dir)}"
        )
        settings["pgbouncer"].update(
            {
                "listen_addr": "127.0.0.1",
                "listen_port": str(self.pool_port),
                "auth_file": str(users),
            }
        )
        with (folder / "pgbouncer.ini").open("w") as file:
            settings.write(file)
        for path in (folder, *folder.iterdir()):
            self._give_to_postgres(path)
        self._start(
            Program(
                name="pgbouncer",
                argv=["pgbouncer", str(folder / "pgbouncer.ini")],
                environment={"PATH": PATH},
                stop_signal=signal.SIGINT,
                log_file=self.data_dir / "pgbouncer.log",
                user=embedded._postgres_user(),
            )
        )
        self.until(lambda: self.asked(self.pool_url, "SELECT 1"), "PgBouncer")

    def start_web(self) -> None:
        self._start(
            Program(
                name="web",
                argv=[
                    *(
                        sys.executable,
                        "-m",
                        "gunicorn",
                        "--config",
                        "python:energy_engine.gunicorn",
                    ),
                    self._wsgi,
                ],
                environment=self.environment,
                log_file=self.data_dir / "web.log",
            )
        )

    def start_worker(self) -> None:
        self._start(
            Program(
                name="worker",
                argv=[sys.executable, "manage.py", "procrastinate", "worker", "--concurrency=3"],
                environment=self.environment,
                log_file=self.data_dir / "worker.log",
            )
        )

    def start_nginx(self) -> None:
        folder = self.data_dir / "nginx"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        make_certificate(folder)
        template = Template((DEPLOY / "nginx" / "nginx.conf.template").read_text())
        (folder / "nginx.conf").write_text(
            template.safe_substitute(
                ENGINE_ADDRESS=f"127.0.0.1:{self.engine_port}",
                HTTP_PORT=f"127.0.0.1:{self.plain_port}",
                HTTPS_PORT=f"127.0.0.1:{self.port}",
                TLS_DIRECTORY=str(folder),
                SCRATCH_DIRECTORY=str(folder),
            )
        )
        self._start(
            Program(
                name="nginx",
                argv=["nginx", "-c", str(folder / "nginx.conf"), "-g", "daemon off;"],
                environment={"PATH": PATH},
                log_file=self.data_dir / "nginx.log",
            )
        )
        self.until(self.is_ready, "the engine behind nginx")

    # --- What is done to them -----------------------------------------------------------------

    def signal(self, name: str, number: signal.Signals) -> None:
        self.supervisor._running[self.programs[name]].send_signal(number)

    def kill(self, name: str) -> None:
        """End a part as a crash would, all processes of it, and do not start it again."""
        process = self.supervisor._running.pop(self.programs[name])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop every process of a part as it is; they go on afterwards."""
        first = psutil.Process(self.supervisor._running[self.programs[name]].pid)
        processes = [first, *first.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def manage(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "manage.py", *command],
            cwd=environment.ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # --- What is seen of them -----------------------------------------------------------------

    @property
    def primary_url(self) -> str:
        url = embedded.database_url(self.primary_dir)
        assert url is not None
        return url.replace("/postgres?", f"/{self.database}?")

    @property
    def replica_url(self) -> str:
        return (
            f"postgresql://engine:{self._password}@/{self.database}?host={self.replica_dir / 'run'}"
        )

    @property
    def pool_url(self) -> str:
        return f"postgresql://engine:{self._password}@127.0.0.1:{self.pool_port}/{self.database}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOST": "127.0.0.1",
            "PORT": str(self.engine_port),
            "DATABASE_URL": self.primary_url,
            "DATABASE_POOL_URL": self.pool_url,
            "USE_DATABASE_POOLER": "true",
            "DATABASE_REPLICA_URL": self.replica_url,
            "REDIS_URL": embedded.redis_url(self.data_dir / "redis"),
            "SECRET_KEY": "only for tests " * 4,
            "API_AUTH": "required",
            "TRUSTED_PROXIES": "127.0.0.1",
            "SECURE_COOKIES": "true",
            "METRICS_TOKEN": "for prometheus",
            **self._variables,
        }

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.data_dir / "nginx" / "fullchain.pem")

    def connection(self) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)

    def is_ready(self) -> bool:
        try:
            with closing(self.connection()) as connection:
                connection.request("GET", "/health/ready")
                answer = connection.getresponse()
                answer.read()
                return answer.status == 200
        except OSError:
            return False

    def asked(self, url: str, sql: str) -> object:
        """Return the first value that `sql` gives; None where nobody answers."""
        try:
            with psycopg.connect(url, connect_timeout=2, prepare_threshold=None) as database:
                row = database.execute(sql).fetchone()
                return row and row[0]
        except psycopg.OperationalError:
            return None

    def until_replicated(self) -> None:
        """Wait until the replica shows all that is committed now."""
        reached = self.asked(self.primary_url, "SELECT pg_current_wal_flush_lsn()::text")
        self.until(
            lambda: self.asked(
                self.replica_url, f"SELECT pg_last_wal_replay_lsn() >= '{reached}'::pg_lsn"
            ),
            "replication",
        )

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what} took too long\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """Return the ends of all logs."""
        ends = []
        for log in sorted(self.data_dir.glob("*.log")):
            ends.append(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]))
        return "\n".join(ends)

    @property
    def _password(self) -> str:
        return (self.primary_dir / "postgres_password").read_text()

    def _start(self, program: Program) -> None:
        self.supervisor.start(program)
        self.programs[program.name] = program

    def _running(self, name: str) -> Program:
        (found,) = (program for program in self.supervisor._running if program.name == name)
        return found

    def _give_to_postgres(self, path: Path) -> None:
        user = embedded._postgres_user()
        if user:
            shutil.chown(path, user, user)


def make_certificate(folder: Path) -> None:
    """Make a key and a certificate of this machine for itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"),
        ],
        check=True,
        capture_output=True,
    )
