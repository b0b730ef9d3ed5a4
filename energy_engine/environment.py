"""Every value that the engine reads from the environment, with its default and its meaning.

The only place that knows them: `settings.py` and the launcher read through `read`, and `make docs`
writes `.env.example` and the README's table from here, so that neither can drift from the code.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import environ

_ENV_FILE_BEGINS: Final = """\
# Every setting. `docker compose` reads a copy of this file that is named .env: fill in the two
# secrets, and uncomment what you change. Elsewhere, export what you want to change.

# --- The two secrets
"""
_ENV_FILE_OF_COMPOSE: Final = "# --- Of docker-compose.yml itself\n"
_ENV_FILE_OF_THE_ENGINE: Final = "# --- Of the engine, with their defaults\n"
_TABLE_BEGINS: Final = "<!-- settings: written by `make docs` -->\n"
_TABLE_ENDS: Final = "<!-- /settings -->"

ROOT = Path(__file__).resolve().parent.parent
# On these, nobody but this machine reaches the engine.
LOOPBACK_HOSTS: Final = ("127.0.0.1", "::1", "localhost")


class InvalidEnvironment(Exception):
    """A variable of the environment has a value that the engine cannot use; the text says which."""


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
        """Return the value that `text` stands for. Errors: `InvalidEnvironment`."""
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


# Of `make run` to the processes that it starts.
LAUNCHED_ON = "ENERGY_ENGINE_LAUNCHED_ON"

VARIABLES = (
    Variable(
        "ENGINE_DATA_DIR",
        ".data",
        "Folder of the embedded PostgreSQL and Redis, and of the generated secret key.",
    ),
    Variable("HOST", "127.0.0.1", "Address that the HTTP server listens on."),
    Variable("PORT", 8000, "Port that the HTTP server listens on.", at_least=1, at_most=65535),
    Variable("WEB_WORKERS", 2, "Processes that answer HTTP requests.", at_least=1),
    Variable(
        "DATABASE_URL",
        "",
        "PostgreSQL to use, as postgresql://user:password@host:port/name; "
        "empty means the embedded one.",
    ),
    Variable(
        "DATABASE_POOL_URL",
        "",
        "PgBouncer in transaction mode, as a URL: requests go through it, where one is given; jobs "
        "and commands, which need sessions, go to DATABASE_URL.",
    ),
    Variable(
        "USE_DATABASE_POOLER",
        "auto",
        "true: start only with a DATABASE_POOL_URL; false: ignore it; auto: use it where given.",
        choices=("auto", "true", "false"),
    ),
    Variable(
        "DATABASE_REPLICA_URL",
        "",
        "Streaming replica that figures, series and lists of the fleet are read from; they come "
        "from DATABASE_URL while it is away or too far behind.",
    ),
    Variable(
        "REPLICA_MAX_LAG_SECONDS",
        5,
        "How old the state that the replica shows may be, in seconds, for it to be asked.",
        at_least=1,
        at_most=600,
    ),
    Variable(
        "DATABASE_POOL_SIZE",
        10,
        "Connections to PostgreSQL that each process may hold.",
        at_least=1,
    ),
    Variable(
        "STATEMENT_TIMEOUT_SECONDS",
        2.0,
        "How long a request may wait for PostgreSQL, all its statements together, before it gets "
        "503: a write, live state, a link.",
        at_least=0.5,
    ),
    Variable(
        "LONG_STATEMENT_TIMEOUT_SECONDS",
        60.0,
        "The same for requests that may take longer: figures, lists, the console, /metrics, and "
        "bodies over 64 KiB. While PostgreSQL answers nobody, they too get 503 within two seconds.",
        at_least=0.5,
        at_most=86_400,
    ),
    Variable(
        "REDIS_URL", "", "Redis to cache in, as redis://host:port/0; empty means the embedded one."
    ),
    Variable(
        "SECRET_KEY",
        "",
        "Key that signs sessions: 50 random characters or more; "
        "under `make run` one is generated and kept in ENGINE_DATA_DIR.",
    ),
    Variable(
        "ALLOWED_HOSTS",
        "localhost,127.0.0.1,[::1]",
        "Host names that requests may be addressed to, separated by commas.",
    ),
    Variable(
        "CSRF_TRUSTED_ORIGINS",
        "",
        "Origins, such as https://fleet.example.com, that the admin's forms may be sent from "
        "when a proxy changes the Host header.",
    ),
    Variable(
        "SECURE_COOKIES",
        True,
        "The console is there over HTTPS alone: its cookies, a redirect from HTTP, HSTS; "
        "`make run` on a loopback address and docker-compose.yml switch it off, unless told.",
    ),
    Variable(
        "HSTS_SECONDS",
        31_536_000,
        "Seconds for which a browser that was here over HTTPS comes over nothing else; 0 for none.",
        at_least=0,
    ),
    Variable(
        "SESSION_HOURS",
        12,
        "Hours after which a login to the console ends.",
        at_least=1,
        at_most=8_760,
    ),
    Variable(
        "LOGIN_FAILURES",
        5,
        "Failed sign-ins to the console after which a user name has to wait at an address; ten "
        "times as many make the name wait everywhere, and the address with every name.",
        at_least=1,
    ),
    Variable(
        "LOGIN_LOCKOUT_MINUTES",
        15,
        "Minutes for which it has to wait, and for which failures count.",
        at_least=1,
    ),
    Variable(
        "CONSOLE_TOTP",
        "optional",
        "Whether people may set up a second step for signing in to the console, or must.",
        choices=("optional", "required"),
    ),
    Variable(
        "DEBUG", False, "Show tracebacks in the browser; never where others can reach the engine."
    ),
    Variable(
        "LOG_LEVEL",
        "INFO",
        "Least severe message that is logged.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    ),
    Variable(
        "LOG_FORMAT",
        "auto",
        "How a line of the log looks; auto is text on a terminal, and JSON elsewhere.",
        choices=("auto", "json", "text"),
    ),
    Variable(
        "ACCESS_LOG",
        "off",
        "Requests that are logged besides those that were slow or failed for the engine's fault: "
        "none, those refused, or all; a line costs more than a reading.",
        choices=("off", "errors", "all"),
    ),
    Variable(
        "SLOW_REQUEST_SECONDS",
        1.0,
        "Seconds from which a request is slow, and logged.",
        at_least=0,
    ),
    Variable(
        "API_AUTH",
        "required",
        "Whether the API needs a key; open is for trying it out, under `make run` on a loopback "
        "address or with DEBUG, and refused elsewhere.",
        choices=("required", "open"),
    ),
    Variable(
        "LIMIT_REQUESTS_PER_KEY",
        6_000,
        "Requests that a key may make in a minute; 0 for no limit. Limits hold where keys do.",
        at_least=0,
    ),
    Variable(
        "LIMIT_READINGS_PER_KEY",
        3_000_000,
        "Readings that a key may send in a minute; 0 for no limit.",
        at_least=0,
    ),
    Variable(
        "LIMIT_REQUESTS_PER_ADDRESS",
        60_000,
        "Requests that an address may make in a minute, with any key or none; 0 for no limit.",
        at_least=0,
    ),
    Variable(
        "LIMIT_WRONG_KEYS_PER_ADDRESS",
        100,
        "Keys that open nothing that an address may show in a minute; 0 for no limit.",
        at_least=0,
    ),
    Variable(
        "TRUSTED_PROXIES",
        "",
        "Addresses or networks of proxies, such as 10.0.0.0/8, separated by commas: what they say "
        "in X-Forwarded-For of a client's address is believed.",
    ),
    Variable(
        "METRICS_TOKEN",
        "",
        "What Prometheus shows to read /metrics, as Authorization: Bearer …; without one, that "
        "takes an API key with the scope read for all devices.",
    ),
    Variable(
        "INGEST_UNKNOWN_DEVICES",
        "register",
        "What happens to a reading from a device that is not in the registry.",
        choices=("register", "reject"),
    ),
    Variable(
        "INGEST_STREAM_CHUNK_READINGS",
        5000,
        "Readings of an NDJSON stream that are committed together.",
        at_least=1,
    ),
    Variable(
        "HISTORY_HORIZON_DAYS",
        400,
        "Oldest reading that is accepted, in days before now.",
        at_least=1,
        at_most=36_500,
    ),
    Variable(
        "RETENTION_DAYS",
        0,
        "Age at which readings go from history into the archive, in whole partitions: more than "
        "HISTORY_HORIZON_DAYS, and 31 or more; 0 keeps them for ever.",
        at_least=0,
        at_most=36_500,
    ),
    Variable(
        "ARCHIVE_URL",
        "",
        "Where readings are archived before they go: file:///path, or "
        "s3://bucket/prefix?endpoint_override=host with the usual AWS_… variables.",
    ),
    Variable(
        "HISTORY_PARTITION_SIZE",
        "month",
        "Time span of one history partition; choose it before the first start.",
        choices=("month", "week", "day"),
    ),
    Variable(
        "HEALTHY_EFFICIENCY_PERCENT",
        85.0,
        "Efficiency from which a vehicle is healthy.",
        at_least=0,
    ),
    Variable(
        "DEGRADED_EFFICIENCY_PERCENT",
        70.0,
        "Efficiency from which a vehicle is degraded; below it, critical.",
        at_least=0,
    ),
    Variable(
        "MIN_ENERGY_KWH",
        2.0,
        "AC, in kWh, from which an efficiency says something about health; below it, fixed losses "
        "dominate.",
        at_least=0,
    ),
    Variable(
        "MIN_COVERAGE",
        0.5,
        "Part of the readings expected in a window that must have come for a health other than "
        "unknown.",
        at_least=0,
        at_most=1,
    ),
    Variable(
        "ONLINE_WINDOW",
        5,
        "Minutes for which a device counts as online after its last delivery.",
        at_least=1,
    ),
    Variable(
        "FLEET_SNAPSHOT_MINUTES",
        1,
        "Minutes between two looks at the last 24 hours of every vehicle, for lists, rankings, and"
        " what vehicles without a link have a share of.",
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
        "Let webhooks reach loopback, private and other addresses that are not of the internet.",
    ),
)
# What docker-compose.yml reads beside them; the engine does not.
COMPOSE_VARIABLES = (
    Variable(
        "POSTGRES_PASSWORD",
        "",
        "Password of PostgreSQL; it takes the password over only when its volume is new.",
    ),
    Variable(
        "COMPOSE_PROFILES",
        "",
        "Parts to run beside the engine, separated by commas: tls, backup, pooler, replica, "
        "monitoring.",
    ),
    Variable(
        "TLS_DIRECTORY",
        "./tls",
        "Folder with fullchain.pem and privkey.pem, which user 101 can read, for the profile tls.",
    ),
    Variable(
        "BACKUP_DIRECTORY",
        "backup",
        "Where the profile backup writes: a folder as ./folder or /folder, which belongs to user "
        "999, or else the volume backup.",
    ),
    Variable("BACKUP_KEEP", 7, "Copies of the database that the profile backup keeps.", at_least=1),
)
_SECRETS = ("POSTGRES_PASSWORD", "SECRET_KEY")
_BY_NAME = {variable.name: variable for variable in VARIABLES}


def read(name: str) -> Any:
    """Return the value of variable `name`; unset or empty means its default.

    Errors: `InvalidEnvironment`, naming the variable and what it may be.
    """
    variable = _BY_NAME[name]
    text = os.environ.get(name, "").strip()
    return variable.parse(text) if text else variable.default


def pool_url() -> str:
    """Return the URL of the pooler for requests; empty where they go to PostgreSQL itself.

    Errors: `InvalidEnvironment`, where the pooler is a must and there is none.
    """
    wanted, url = read("USE_DATABASE_POOLER"), read("DATABASE_POOL_URL")
    if wanted == "true" and not url:
        raise InvalidEnvironment(
            "USE_DATABASE_POOLER=true needs the pooler's address in DATABASE_POOL_URL"
        )
    return "" if wanted == "false" else str(url)


def data_dir() -> Path:
    """Return the absolute path of ENGINE_DATA_DIR; a relative one starts at the project's root."""
    return (ROOT / str(read("ENGINE_DATA_DIR"))).resolve()


def command(words: str = "") -> str:
    """Return how to run a command of `manage.py` here, for people to copy.

    Such as `.venv/bin/python manage.py check`, or in a container `python manage.py check`.
    """
    python = Path(sys.executable)
    if python.is_relative_to(ROOT):
        shown = str(python.relative_to(ROOT))
    else:
        shown = python.name if shutil.which(python.name) == str(python) else str(python)
    return f"{shown} manage.py {words}".strip()


def launched_on() -> str:
    """Return the address that `make run` listens on; empty where something else serves."""
    return os.environ.get(LAUNCHED_ON, "")


def own_host() -> str:
    """Return a name that the engine answers to; it refuses requests for any other host."""
    first = str(read("ALLOWED_HOSTS")).split(",")[0]
    return first.strip(" .*") or "localhost"


def _shown(default: str | int | float | bool) -> str:
    return str(default).lower() if isinstance(default, bool) else f"{default}"


def as_env_file() -> str:
    """Return the text of `.env.example`: secrets to fill in, all else commented out."""
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
    """Write `.env.example` and the settings table of the README anew."""
    (ROOT / ".env.example").write_text(as_env_file())
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text().partition(_TABLE_BEGINS)
    _, end, after = rest.partition(_TABLE_ENDS)
    readme.write_text(f"{before}{begin}{as_markdown()}{end}{after}")


if __name__ == "__main__":
    write_documents()
