"""Whether a PostgreSQL answers at all: a frozen one answers nobody, unlike a slow statement.

It is asked on a connection of its own, past any pooler, and only while somebody waits for long.
"""

import logging
import threading
import time
from typing import Any, Final

import psycopg

log = logging.getLogger(__name__)

# With `LONG_WAIT_TICKS` before it, less than the two seconds in which a request gets its 503.
NO_ANSWER_TICKS: Final = 5
_CONNECT_SECONDS: Final = 2

# The servers that answer nobody, by the alias of their database.
frozen: Final[set[str]] = set()
_pulses: Final[dict[str, "Pulse"]] = {}


class _Connection(psycopg.Connection[Any]):
    """Waits in psycopg's own way, for as long as it takes: nobody gives the pulse up."""

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
        """Return once the server has answered, or is known to be away, however long that takes."""
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
        """Count the time without an answer; return whether it makes the server a frozen one.

        Call it while somebody has waited for long.
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
        """Ask once; return False where not even a connection came about in time."""
        try:
            if self._connection is None:
                self._connection = _Connection.connect(**self._parameters)
            self._connection.execute("SELECT 1")
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            # It is away: whoever asks it is told so at once.
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        return True


def wait_while_frozen(server: str) -> None:
    """Return once `server` answers, as far as is known; at once where nobody watches it."""
    if pulse := _pulses.get(server):
        pulse.wait()
