"""Which PostgreSQL each process uses, and how: Django's DATABASES, from the environment.

`default` takes every write, and every read that has to be current. In processes that answer
requests it connects through the pooler, if there is one; everything else (commands, the background
worker, whose queue listens on a session) connects to DATABASE_URL directly. `replica` exists if
DATABASE_REPLICA_URL is set; `fleet.stores.replica` says what is read from it.
"""

import logging
from typing import Any, ClassVar, Final

import environ
import psycopg
from django.db import DEFAULT_DB_ALIAS
from psycopg import IsolationLevel

from energy_engine import environment
from energy_engine.postgres.pulse import wait_while_frozen
from energy_engine.postgres.sql_comments import CommentingCursor
from fleet.stores.replica import REPLICA

log = logging.getLogger(__name__)

# A 2xx means committed, whatever the server's own default is. A prepared statement is planned once:
# planning a figure's statement for its parameters each time takes longer than the figure.
_SESSION: Final = "-c synchronous_commit=on -c plan_cache_mode=force_generic_plan"
_DURABLE: Final = ("on", "remote_apply")
# How soon PostgreSQL notices that a statement's client is gone, and cancels it.
_CLIENT_CHECK: Final = "1s"
# A figure that waits longer for the replica than this comes from the primary.
_REPLICA_SECONDS: Final = 0.5

_answers_requests = False


class _Connection(psycopg.Connection[Any]):
    """A connection of a pool; `server` is the alias of its database."""

    server: ClassVar = DEFAULT_DB_ALIAS

    @classmethod
    def connect(cls, *args: Any, **options: Any) -> Any:
        # The pool pauses between attempts; this one succeeds as soon as the server answers again.
        wait_while_frozen(cls.server)
        return super().connect(*args, **options)


class _ReplicaConnection(_Connection):
    server = REPLICA


class _DurableConnection(_Connection):
    """A connection on which a commit waits for the disk; any other is refused.

    A pooler accepts no settings from its clients, so the server's setting is checked: once for each
    connection, which lasts for as long as the process uses it.
    """

    @classmethod
    def connect(cls, *args: Any, **options: Any) -> Any:
        connection = super().connect(*args, **options)
        (setting,) = connection.execute("SHOW synchronous_commit").fetchone() or ("unknown",)
        if setting not in _DURABLE:
            connection.close()
            reason = f"synchronous_commit is {setting} behind DATABASE_POOL_URL; run `prepare`"
            log.error(reason)
            raise psycopg.OperationalError(reason)
        return connection


def answer_requests() -> None:
    """Let this process use the pooler, if there is one; call it before Django is set up."""
    global _answers_requests
    _answers_requests = True


def databases(primary_url: str) -> dict[str, dict[str, Any]]:
    """Return Django's DATABASES for this process. Errors: `InvalidEnvironment`."""
    pooler = environment.pool_url()
    through_pooler = bool(pooler) and _answers_requests
    default = _through_pooler(pooler) if through_pooler else _direct(primary_url)
    replica_url = environment.read("DATABASE_REPLICA_URL")
    return {"default": default} | ({REPLICA: _replica(replica_url)} if replica_url else {})


def servers(primary_url: str) -> dict[str, dict[str, Any]]:
    """Return how to reach each PostgreSQL directly, not through a pooler, by alias."""
    replica_url = environment.read("DATABASE_REPLICA_URL")
    found = {DEFAULT_DB_ALIAS: _direct(primary_url)}
    return found | ({REPLICA: _replica(replica_url)} if replica_url else {})


def parsed(url: str) -> dict[str, Any]:
    """Return Django's description of a PostgreSQL URL, without the engine's options."""
    described: dict[str, Any] = environ.Env.db_url_config(url, engine="psqlextra.backend")
    return described


def _described(url: str, **options: Any) -> dict[str, Any]:
    database = parsed(url)
    database["OPTIONS"] = {
        **database.get("OPTIONS", {}),
        # Without a pool, each greenlet would open a connection of its own for each request.
        "pool": {
            "min_size": 1,
            "max_size": environment.read("DATABASE_POOL_SIZE"),
            # Refuse with 503 within two seconds instead of waiting without end.
            "timeout": 1.5,
            # The pauses between attempts double up to this many seconds, then start over.
            "reconnect_timeout": 2,
            "connection_class": _Connection,
        },
        "connect_timeout": 2,
        # A lost network is noticed in seconds, not hours.
        "tcp_user_timeout": 5000,
        "application_name": "energy-engine",
        "cursor_factory": CommentingCursor,
        **options,
    }
    return database


def _direct(url: str, **options: Any) -> dict[str, Any]:
    # Statements run with `fleet.stores.statements` are planned once per connection.
    database = _described(url, prepare_threshold=0, **options)
    given = database["OPTIONS"].get("options", "")
    database["OPTIONS"]["options"] = f"{given} {_SESSION} {_limits()}".strip()
    return database


def _limits() -> str:
    """Return the settings that end a request's statement; statements of jobs may take any time.

    A request gives up by itself when it times out, but its process may be killed before that.
    """
    if not _answers_requests:
        return ""
    seconds = environment.read("LONG_STATEMENT_TIMEOUT_SECONDS")
    return (
        f"-c statement_timeout={round(seconds * 1000)}"
        f" -c client_connection_check_interval={_CLIENT_CHECK}"
    )


def _through_pooler(url: str) -> dict[str, Any]:
    """Keep nothing in a session: the next transaction may run in another one."""
    database = _described(url, prepare_threshold=None)
    database["OPTIONS"]["pool"]["connection_class"] = _DurableConnection
    return database | {"DISABLE_SERVER_SIDE_CURSORS": True}


def _replica(url: str) -> dict[str, Any]:
    # Statements of one figure see one snapshot.
    database = _direct(url, isolation_level=IsolationLevel.REPEATABLE_READ)
    database["OPTIONS"]["pool"] |= {
        "timeout": _REPLICA_SECONDS,
        "connection_class": _ReplicaConnection,
    }
    return database
