"""How new gunicorn workers take over from the old ones on a reload.

gunicorn tells the old workers to stop as soon as it has forked the new ones, which take seconds to
load the engine; until then requests would wait. So the old workers stay until as many new ones have
reported that they serve. They report it through files in a folder of the master.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

# Well before gunicorn's graceful_timeout, after which it kills workers.
LONGEST_SECONDS: Final = 12.0
_LOOK_SECONDS: Final = 0.1
_STOPPING: Final = "stopping"


class Handover:
    """The handover as one worker sees it: `generation` counts reloads, the first start is 0."""

    def __init__(self, folder: Path, generation: int, workers: int) -> None:
        self._folder = folder
        self._generation = generation
        self._workers = workers

    def begin_next(self) -> "Handover":
        """Return the handover of the workers that a reload starts; called by the master."""
        (self._folder / _STOPPING).unlink(missing_ok=True)
        (self._folder / f"generation-{self._generation + 1}").touch()
        return Handover(self._folder, self._generation + 1, self._workers)

    def serves(self, pid: int) -> None:
        """Report to the previous workers that this one serves."""
        (self._folder / f"serves-{self._generation}-{pid}").touch()

    def is_replaced(self) -> bool:
        """Return whether others replace this worker; if not, all workers are told to stop."""
        if (self._folder / f"generation-{self._generation + 1}").exists():
            return True
        (self._folder / _STOPPING).touch()
        return False

    def wait(self, sleep: Callable[[float], object]) -> None:
        """Return when the replacements of this worker serve, or all of gunicorn stops."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline and not (self._folder / _STOPPING).exists():
            served_by = self._folder.glob(f"serves-{self._generation + 1}-*")
            if len(list(served_by)) >= self._workers:
                return
            sleep(_LOOK_SECONDS)
