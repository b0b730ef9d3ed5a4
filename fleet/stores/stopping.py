"""Long work stops between portions, where the process that does it is told to end.

Whoever runs the work says how to ask (`asked`); work that goes portion by portion calls `check`
between two of them, outside of transactions. What is done by then is committed, and the next run
goes on from there.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

asked: Final[ContextVar[Callable[[], bool]]] = ContextVar("asked", default=lambda: False)


class Stopped(Exception):
    """The work has stopped before its end, because its process is to end."""


def check() -> None:
    """Go on, unless the process is to end. Errors: `Stopped`."""
    if asked.get()():
        raise Stopped
