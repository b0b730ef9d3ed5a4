"""Start programs, keep them running, and stop them in reverse order.

The usual supervisor libraries do one of two things that an engine in a terminal must not: end
everything when one program ends (honcho), or reload when the terminal closes (supervisord, circus).
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from energy_engine.local import private_files

_PR_SET_PDEATHSIG: Final = 1
_RESTART_PAUSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, eq=False)
class Program:
    """A program to keep running.

    `log_file` takes its output, which otherwise goes to the terminal; `user` is the system user it
    runs as, by default the caller.
    """

    name: str
    argv: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    log_file: Path | None = None
    user: str | None = None


class Supervisor:
    """Runs programs in the order in which they were started; use it as a context manager."""

    def __init__(self) -> None:
        self._running: dict[Program, subprocess.Popen[bytes]] = {}
        self._start_again_at: dict[Program, float] = {}

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, program: Program) -> None:
        """Start `program`; from now on `watch` keeps it running."""
        self._running[program] = _spawn(program)

    def has_ended(self, program: Program) -> bool:
        """Return whether `program` is not running at this moment."""
        return self._running[program].poll() is not None

    def watch(self, until: Callable[[], bool]) -> None:
        """Restart programs that end by themselves, until `until()` is true."""
        while not until():
            for program, process in list(self._running.items()):
                if process.poll() is not None:
                    self._start_again(program, process.returncode)
            time.sleep(_POLL_SECONDS)

    def _start_again(self, program: Program, returncode: int) -> None:
        due = self._start_again_at.get(program)
        if due is None:
            _say(f"{program.name} ended with {returncode}; restarting it")
            self._start_again_at[program] = time.monotonic() + _RESTART_PAUSE_SECONDS
        elif time.monotonic() >= due:
            del self._start_again_at[program]
            self._running[program] = _spawn(program)

    def stop(self, seconds: float = 30.0) -> None:
        """End every program, the last one started first, each within `seconds`."""
        for program, process in reversed(list(self._running.items())):
            _end(program, process, seconds)
            del self._running[program]


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        output = None
        if program.log_file:
            output = stack.enter_context(private_files.open_file(program.log_file, "ab"))
        return subprocess.Popen(
            program.argv,
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            # Out of the terminal's process group: Ctrl-C reaches the supervisor alone, which then
            # stops the programs in the right order.
            start_new_session=True,
            preexec_fn=lambda: _end_with_parent(program.stop_signal),
            user=program.user,
            group=program.user,
            extra_groups=[] if program.user else None,
        )


def _end_with_parent(stop_signal: signal.Signals) -> None:
    """Let the kernel send `stop_signal` to the calling process when the supervisor is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(stop_signal))


def _end(program: Program, process: subprocess.Popen[bytes], seconds: float) -> None:
    if process.poll() is not None:
        return
    process.send_signal(program.stop_signal)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _say(f"{program.name} did not end within {seconds:g} seconds; killing it")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _say(text: str) -> None:
    sys.stderr.write(f"energy-engine: {text}\n")
    sys.stderr.flush()
