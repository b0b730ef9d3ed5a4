"""Whether PostgreSQL answers at all: a frozen server does not, unlike one with a slow statement.

It is asked on a separate connection, not through a pooler, and only while a request waits long.
"""

import logging
import threading
import time
from typing import Any, Final

import psycopg

log = logging.getLogger(__name__)

# Together with `LONG_WAIT_TICKS`, less than the two seconds in which a request gets its 503.
NO_ANSWER_TICKS: Final = 5
_CONNECT_SECONDS: Final = 2

# The servers that do not answer, by the alias of their database.
frozen: Final[set[str]] = set()
_pulses: Final[dict[str, "Pulse"]] = {}


class _Connection(psycopg.Connection[Any]):
    """Waits with psycopg's own code, for as long as it takes: the pulse is never given up."""

    wait = psycopg.Connection.wait


class Pulse:
    """What is known of one server; ticks come from `energy_engine.server.waiting`."""

    def __init__(self, server: str, parameters: dict[str, Any]) -> None:
        self._server = server
        self._parameters = parameters | {
            "connect_timeout": _CONNECT_SECONDS,
            "cursor_factory": psycopg.Cursor,
            "autocommit": True,
        }
        self._connection: psycopg.Connection[Any] | None = None
        self._answered = threading.Event()
        self._answered.set()
        self.is_asking = False
        self._ticks = 0
        _pulses[server] = self

    def ask(self) -> None:
        """Return once the server has answered or is unreachable, however long that takes."""
        self.is_asking, self._ticks, began_at = True, 0, time.monotonic()
        try:
            while not self._is_told():
                pass
        finally:
            self.is_asking = False
            if self._server in frozen:
                frozen.discard(self._server)
                seconds = time.monotonic() - began_at
                log.warning("PostgreSQL (%s) answers again after %.0f s", self._server, seconds)
            self._answered.set()

    def tick(self) -> bool:
        """Count the time without an answer; return whether the server counts as frozen from now on.

        Call it while a request is waiting long.
        """
        if not self.is_asking or self._server in frozen:
            return False
        self._ticks += 1
        if self._ticks < NO_ANSWER_TICKS:
            return False
        frozen.add(self._server)
        self._answered.clear()
        return True

    def wait(self) -> None:
        """Return once the server is not frozen."""
        self._answered.wait()

    def _is_told(self) -> bool:
        """Ask once; return False if not even a connection was made in time."""
        try:
            if self._connection is None:
                self._connection = _Connection.connect(**self._parameters)
            self._connection.execute("SELECT 1")
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            # It is unreachable: requests find that out immediately.
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        return True


def wait_while_frozen(server: str) -> None:
    """Return once `server` answers, as far as is known; immediately if it is not watched."""
    if pulse := _pulses.get(server):
        pulse.wait()
