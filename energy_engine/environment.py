"""Every environment variable that the engine reads, with its default and its meaning.

This is the only place that defines them: `settings.py` and the launcher use `read`, and `make docs`
generates `.env.example` and the README's table from here, so that neither can drift from the code.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import environ

_ENV_FILE_BEGINS: Final = """\
# All settings. For `docker compose`, copy this file to .env, fill in the two secrets, and uncomment
# the settings that you change. Without containers, export the variables that you change.

# --- Secrets
"""
_ENV_FILE_OF_COMPOSE: Final = "# --- docker-compose.yml\n"
_ENV_FILE_OF_THE_ENGINE: Final = "# --- Engine, with defaults\n"
_TABLE_BEGINS: Final = "<!-- settings: written by `make docs` -->\n"
_TABLE_ENDS: Final = "<!-- /settings -->"

ROOT = Path(__file__).resolve().parent.parent
# The engine is reachable from this machine only when it listens on one of these.
LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")


class InvalidEnvironment(Exception):
    """An environment variable has an unusable value; the message names the variable."""


@dataclass(frozen=True)
class Variable:
    """One environment variable; the type of `default` is the type of its value."""

    name: str
    default: str | int | float | bool
    meaning: str
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    def parse(self, text: str) -> Any:
        """Return the value parsed from `text`. Errors: `InvalidEnvironment`."""
        if isinstance(self.default, bool):
            # A typo such as `ture` must not silently mean False.
            if text.lower() not in (*environ.Env.BOOLEAN_TRUE_STRINGS, "false", "off", "no", "0"):
                raise InvalidEnvironment(f"{self.name} must be true or false")
            return text.lower() in environ.Env.BOOLEAN_TRUE_STRINGS
        try:
            value = type(self.default)(text)
        except ValueError:
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            raise InvalidEnvironment(f"{self.name} must be {kind}") from None
        if self.choices and value not in self.choices:
            raise InvalidEnvironment(f"{self.name} must be one of {', '.join(self.choices)}")
        if self.at_least is not None and not float(value) >= self.at_least:
            raise InvalidEnvironment(f"{self.name} must be at least {self.at_least:g}")
        if self.at_most is not None and not float(value) <= self.at_most:
            raise InvalidEnvironment(f"{self.name} must be at most {self.at_most:g}")
        return value


# Set by `make run` for the processes that it starts.
LAUNCHED_ON = "ENERGY_ENGINE_LAUNCHED_ON"

VARIABLES = (
    Variable(
        "ENGINE_DATA_DIR",
        ".data",
        "Data directory of the embedded PostgreSQL and Redis, and of the generated secret key.",
    ),
    Variable("HOST", "127.0.0.1", "Address that the HTTP server listens on."),
    Variable("PORT", 8000, "Port that the HTTP server listens on.", at_least=1, at_most=65535),
    Variable("WEB_WORKERS", 2, "Number of web server processes.", at_least=1),
    Variable(
        "DATABASE_URL",
        "",
        "PostgreSQL to use, as postgresql://user:password@host:port/name; "
        "empty for the embedded one.",
    ),
    Variable(
        "DATABASE_POOL_URL",
        "",
        "URL of PgBouncer in transaction mode. If set, requests go through it; jobs and commands "
        "need sessions and use DATABASE_URL.",
    ),
    Variable(
        "USE_DATABASE_POOLER",
        "auto",
        "true: refuse to start without DATABASE_POOL_URL; false: ignore it; auto: use it if set.",
        choices=("auto", "true", "false"),
    ),
    Variable(
        "DATABASE_REPLICA_URL",
        "",
        "Streaming replica from which figures, series and fleet lists are read. While it is down "
        "or too far behind, they are read from DATABASE_URL.",
    ),
    Variable(
        "REPLICA_MAX_LAG_SECONDS",
        5,
        "Maximum lag of the replica, in seconds; beyond it, the replica is not used.",
        at_least=1,
        at_most=600,
    ),
    Variable(
        "DATABASE_POOL_SIZE",
        10,
        "Maximum number of connections to PostgreSQL per process.",
        at_least=1,
    ),
    Variable(
        "STATEMENT_TIMEOUT_SECONDS",
        2.0,
        "How long a request may wait for PostgreSQL, in seconds and in all its statements "
        "together, before it gets 503. Applies to writes, live state and links.",
        at_least=0.5,
    ),
    Variable(
        "LONG_STATEMENT_TIMEOUT_SECONDS",
        60.0,
        "The same for requests that may take longer: figures, lists, the console, /metrics, and "
        "bodies over 64 KiB. If PostgreSQL stops responding altogether, they also get 503 within "
        "2 seconds.",
        at_least=0.5,
        at_most=86_400,
    ),
    Variable(
        "REDIS_URL",
        "",
        "Redis for the cache, locks and limits, as redis://host:port/0; empty for the embedded "
        "one.",
    ),
    Variable(
        "SECRET_KEY",
        "",
        "Key that signs sessions: at least 50 random characters. `make run` generates one and "
        "keeps it in ENGINE_DATA_DIR.",
    ),
    Variable(
        "ALLOWED_HOSTS",
        "localhost,127.0.0.1,[::1]",
        "Host names that the engine serves, separated by commas.",
    ),
    Variable(
        "CSRF_TRUSTED_ORIGINS",
        "",
        "Origins, such as https://fleet.example.com, that may submit the console's forms when a "
        "proxy changes the Host header; separated by commas.",
    ),
    Variable(
        "SECURE_COOKIES",
        True,
        "Serve the console over HTTPS only, with secure cookies, a redirect from HTTP, and HSTS. "
        "`make run` on a loopback address and docker-compose.yml turn it off by default.",
    ),
    Variable(
        "HSTS_SECONDS",
        31_536_000,
        "How long browsers must use HTTPS only, in seconds; 0 turns HSTS off.",
        at_least=0,
    ),
    Variable(
        "SESSION_HOURS",
        12,
        "How long a console session lasts, in hours.",
        at_least=1,
        at_most=8_760,
    ),
    Variable(
        "LOGIN_FAILURES",
        5,
        "Failed sign-ins to the console after which a user name is locked out at an address. Ten "
        "times as many lock out the name at every address, and the address for every name.",
        at_least=1,
    ),
    Variable(
        "LOGIN_LOCKOUT_MINUTES",
        15,
        "How long a lockout lasts and a failed sign-in counts, in minutes.",
        at_least=1,
    ),
    Variable(
        "CONSOLE_TOTP",
        "optional",
        "Whether two-factor authentication in the console is optional or required.",
        choices=("optional", "required"),
    ),
    Variable(
        "DEBUG",
        False,
        "Show tracebacks in the browser. Never use it where others can reach the engine.",
    ),
    Variable(
        "LOG_LEVEL",
        "INFO",
        "Lowest severity that is logged.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    ),
    Variable(
        "LOG_FORMAT",
        "auto",
        "Format of the log; auto is text on a terminal and JSON elsewhere.",
        choices=("auto", "json", "text"),
    ),
    Variable(
        "ACCESS_LOG",
        "off",
        "Requests to log besides slow ones and server errors. off: none; errors: those answered "
        "with 400 or above; all: every one. Logging a request costs more than storing a reading.",
        choices=("off", "errors", "all"),
    ),
    Variable(
        "SLOW_REQUEST_SECONDS",
        1.0,
        "Duration from which a request is logged as slow, in seconds.",
        at_least=0,
    ),
    Variable(
        "API_AUTH",
        "required",
        "Whether the API needs a key. open is for trying the engine out: it works only on a "
        "loopback address, under `make run` or with DEBUG; elsewhere the engine refuses to start.",
        choices=("required", "open"),
    ),
    Variable(
        "LIMIT_REQUESTS_PER_KEY",
        6_000,
        "Requests per key and minute; 0 for no limit. Limits apply only with API_AUTH=required.",
        at_least=0,
    ),
    Variable(
        "LIMIT_READINGS_PER_KEY",
        3_000_000,
        "Readings per key and minute; 0 for no limit.",
        at_least=0,
    ),
    Variable(
        "LIMIT_REQUESTS_PER_ADDRESS",
        60_000,
        "Requests per client address and minute, with any key or none; 0 for no limit.",
        at_least=0,
    ),
    Variable(
        "LIMIT_WRONG_KEYS_PER_ADDRESS",
        100,
        "Different invalid keys per client address and minute; 0 for no limit.",
        at_least=0,
    ),
    Variable(
        "TRUSTED_PROXIES",
        "",
        "Addresses or networks of trusted proxies, such as 10.0.0.0/8, separated by commas. The "
        "engine reads X-Forwarded-For and X-Forwarded-Proto from these only.",
    ),
    Variable(
        "METRICS_TOKEN",
        "",
        "Token with which Prometheus reads /metrics, as Authorization: Bearer …. An API key for "
        "all devices with the scope read works too.",
    ),
    Variable(
        "INGEST_UNKNOWN_DEVICES",
        "register",
        "Whether a reading from an unknown device registers the device or is rejected.",
        choices=("register", "reject"),
    ),
    Variable(
        "EXTERNAL_IDS_IGNORE_CASE",
        False,
        "Whether readings may carry the external id of a device in capital or small letters (A to "
        "Z), whatever its own are.",
    ),
    Variable(
        "INGEST_BAD_OPTIONAL",
        "reject",
        "What happens to a reading whose voltage, soc or batteryTemp is invalid. drop: it is "
        "stored without that field, and the answer counts it under warnings. A request chooses "
        "for itself with ?optional=.",
        choices=("reject", "drop"),
    ),
    Variable(
        "INGEST_STREAM_CHUNK_READINGS",
        5000,
        "Readings of an NDJSON stream that are committed in one transaction.",
        at_least=1,
    ),
    Variable(
        "HISTORY_HORIZON_DAYS",
        400,
        "Maximum age of an accepted reading, in days.",
        at_least=1,
        at_most=36_500,
    ),
    Variable(
        "RETENTION_DAYS",
        0,
        "Age, in days, at which history is moved to the archive, in whole partitions. Must be "
        "above HISTORY_HORIZON_DAYS and at least 31; 0 keeps all history.",
        at_least=0,
        at_most=36_500,
    ),
    Variable(
        "ARCHIVE_URL",
        "",
        "Where history is archived before it is dropped: file:///path, or "
        "s3://bucket/prefix?endpoint_override=host with the usual AWS_… variables.",
    ),
    Variable(
        "HISTORY_PARTITION_SIZE",
        "month",
        "Time span of one partition of history; set it before the first start.",
        choices=("month", "week", "day"),
    ),
    Variable(
        "HEALTHY_EFFICIENCY_PERCENT",
        85.0,
        "Efficiency from which a vehicle is healthy, in percent.",
        at_least=0,
    ),
    Variable(
        "DEGRADED_EFFICIENCY_PERCENT",
        70.0,
        "Efficiency from which a vehicle is degraded, in percent; below it, it is critical.",
        at_least=0,
    ),
    Variable(
        "MIN_ENERGY_KWH",
        2.0,
        "Minimum AC for health to be calculated, in kWh. With less, fixed losses dominate and "
        "health is unknown.",
        at_least=0,
    ),
    Variable(
        "DEFAULT_MAX_POWER_KW",
        400.0,
        "Maximum power of a counter that has none of its own, in kW: a rise that implies more is "
        "excluded as suspect.",
        at_least=1,
    ),
    Variable(
        "MIN_COVERAGE",
        0.5,
        "Minimum coverage for health to be calculated: the part of the energy that flowed while "
        "the device at the other end reported, from 0 to 1. Below it, health is unknown.",
        at_least=0,
        at_most=1,
    ),
    Variable(
        "ONLINE_WINDOW",
        5,
        "How long a device counts as online after its last delivery, in minutes.",
        at_least=1,
    ),
    Variable(
        "FLEET_SNAPSHOT_MINUTES",
        1,
        "Minutes between snapshots of every vehicle's last 24 hours. Lists, rankings and the AC "
        "shared by vehicles without a link use the snapshot.",
        at_least=1,
        at_most=60,
    ),
    Variable(
        "PERFORMANCE_CACHE_SECONDS",
        30,
        "How long a cached performance figure is served, in seconds.",
        at_least=1,
    ),
    Variable(
        "WEBHOOK_ALLOW_PRIVATE",
        False,
        "Allow webhooks to loopback, private and other non-public addresses. Link-local addresses "
        "are always refused.",
    ),
)
# Read by docker-compose.yml, not by the engine.
COMPOSE_VARIABLES = (
    Variable(
        "POSTGRES_PASSWORD",
        "",
        "Password of PostgreSQL. It takes effect only when PostgreSQL's volume is new.",
    ),
    Variable(
        "COMPOSE_PROFILES",
        "",
        "Optional parts to run, separated by commas: tls, backup, pooler, replica, monitoring.",
    ),
    Variable(
        "TLS_DIRECTORY",
        "./tls",
        "Folder with fullchain.pem and privkey.pem for the profile tls; user 101 must be able to "
        "read them.",
    ),
    Variable(
        "BACKUP_DIRECTORY",
        "backup",
        "Where the profile backup writes: the volume backup, or a folder as ./folder or /folder, "
        "owned by user 999.",
    ),
    Variable("BACKUP_KEEP", 7, "Base backups that the profile backup keeps.", at_least=1),
)
_SECRETS = ("POSTGRES_PASSWORD", "SECRET_KEY")
_BY_NAME = {variable.name: variable for variable in VARIABLES}


def read(name: str) -> Any:
    """Return the value of variable `name`; its default if it is unset or empty.

    Errors: `InvalidEnvironment`, naming the variable and its allowed values.
    """
    variable = _BY_NAME[name]
    text = os.environ.get(name, "").strip()
    return variable.parse(text) if text else variable.default


def pool_url() -> str:
    """Return the URL of the pooler for requests; empty if they go to PostgreSQL directly.

    Errors: `InvalidEnvironment`, if the pooler is required and not configured.
    """
    wanted, url = read("USE_DATABASE_POOLER"), read("DATABASE_POOL_URL")
    if wanted == "true" and not url:
        raise InvalidEnvironment(
            "USE_DATABASE_POOLER=true needs DATABASE_POOL_URL; set it to the URL of the pooler"
        )
    return "" if wanted == "false" else str(url)


def data_dir() -> Path:
    """Return the absolute path of ENGINE_DATA_DIR; relative to the project's root if relative."""
    return (ROOT / str(read("ENGINE_DATA_DIR"))).resolve()


def command(words: str = "") -> str:
    """Return how to run a `manage.py` command in this installation, for people to copy.

    For example `.venv/bin/python manage.py check`; in a container, `python manage.py check`.
    """
    python = Path(sys.executable)
    if python.is_relative_to(ROOT):
        shown = str(python.relative_to(ROOT))
    else:
        shown = python.name if shutil.which(python.name) == str(python) else str(python)
    return f"{shown} manage.py {words}".strip()


def launched_on() -> str:
    """Return the address that `make run` listens on; empty if something else runs the engine."""
    return os.environ.get(LAUNCHED_ON, "")


def own_host() -> str:
    """Return a host name that the engine accepts in the `Host` header."""
    first = str(read("ALLOWED_HOSTS")).split(",")[0]
    return first.strip(" .*") or "localhost"


def _shown(default: str | int | float | bool) -> str:
    return str(default).lower() if isinstance(default, bool) else f"{default}"


def as_env_file() -> str:
    """Return the text of `.env.example`: secrets to fill in, everything else commented out."""
    secret = [variable for variable in COMPOSE_VARIABLES + VARIABLES if variable.name in _SECRETS]
    of_compose = [variable for variable in COMPOSE_VARIABLES if variable not in secret]
    of_engine = [variable for variable in VARIABLES if variable not in secret]
    return "\n".join(
        [
            _ENV_FILE_BEGINS,
            *(_env_block(variable, prefix="") for variable in secret),
            _ENV_FILE_OF_COMPOSE,
            *(_env_block(variable, prefix="# ") for variable in of_compose),
            _ENV_FILE_OF_THE_ENGINE,
            *(_env_block(variable, prefix="# ") for variable in of_engine),
        ]
    )


def _env_block(variable: Variable, prefix: str) -> str:
    comment = f"# {variable.meaning}{_choices(variable)}"
    return f"{comment}\n{prefix}{variable.name}={_shown(variable.default)}\n"


def as_markdown() -> str:
    """Return the settings table of the README."""
    rows = [
        f"| `{variable.name}` | {_code(_shown(variable.default))} "
        f"| {variable.meaning}{_choices(variable)} |\n"
        for variable in VARIABLES
    ]
    return "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _choices(variable: Variable) -> str:
    return f" One of: {', '.join(variable.choices)}." if variable.choices else ""


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def write_documents() -> None:
    """Write `.env.example` and the settings table of the README."""
    (ROOT / ".env.example").write_text(as_env_file())
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text().partition(_TABLE_BEGINS)
    _, end, after = rest.partition(_TABLE_ENDS)
    readme.write_text(f"{before}{begin}{as_markdown()}{end}{after}")


if __name__ == "__main__":
    write_documents()
