"""Stop long-running work between two steps when its process must end.

The runner sets `asked`, which tells whether to stop. Work that proceeds in steps calls `check`
between them, outside of transactions. The finished steps are committed, and the next run continues
from there.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

asked: Final[ContextVar[Callable[[], bool]]] = ContextVar("asked", default=lambda: False)


class Stopped(Exception):
    """The work stopped early, because its process must end."""


def check() -> None:
    """Return, unless the process must end. Errors: `Stopped`."""
    if asked.get()():
        raise Stopped
