"""Processes that an engine leaves behind when it is killed, and that still finish their work."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

_PATIENCE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_LONGEST_COMMAND: Final = 100


class StillThere(Exception):
    """A process of another engine, or another program, is in the way; the text names it."""


def wait_for_end(
    what: str, holder: Callable[[], psutil.Process | None], stopping: Callable[[], bool]
) -> None:
    """Return when no process uses `what`, or `stopping()` is true; print once what it waits for.

    Errors: `StillThere`, after 30 s.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    is_said = False
    while (process := holder()) and not stopping():
        if not is_said:
            sys.stderr.write(
                f"energy-engine: {what} is still in use by {described(process)}: waiting up to "
                f"{_PATIENCE_SECONDS:g} seconds until it ends\n"
            )
            is_said = True
        if time.monotonic() > deadline:
            raise StillThere(
                f"{what} is still in use by {described(process)} after {_PATIENCE_SECONDS:g} "
                f"seconds: end it (`kill {process.pid}`), then start again"
            )
        time.sleep(_POLL_SECONDS)


def described(process: psutil.Process) -> str:
    """Return a process for people to read: its id and its command."""
    try:
        command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        command = "which has just ended"
    if len(command) > _LONGEST_COMMAND:
        command = f"{command[:_LONGEST_COMMAND]} …"
    return f"process {process.pid} ({command})"


def listener(family: socket.AddressFamily, address: str, port: int = 0) -> psutil.Process | None:
    """Return the process that listens on a TCP port, or the Unix socket `address`, if visible."""
    if family == socket.AF_UNIX:
        held = (c.pid for c in psutil.net_connections("unix") if c.laddr == address)
    else:
        held = (
            c.pid
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        )
    return next((psutil.Process(pid) for pid in sorted({pid for pid in held if pid})), None)


def is_leftover(process: psutil.Process) -> bool:
    """Return whether a process belongs to an engine whose launcher is gone."""
    try:
        commands = [" ".join(one.cmdline()) for one in (process, *process.parents())]
    except psutil.Error:
        return True  # it is ending just now
    return "energy_engine" in commands[0] and not any(
        "energy_engine.local.run" in command or "energy_engine.run" in command
        for command in commands
    )


def postgres_on(cluster: Path) -> psutil.Process | None:
    """Return the oldest process of a PostgreSQL that works on `cluster`."""
    return min(_postgres_on(cluster), key=lambda process: process.create_time(), default=None)


def _postgres_on(cluster: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and _is_at_work(process, cluster):
                yield process
        except psutil.Error:
            continue


def _is_at_work(process: psutil.Process, cluster: Path) -> bool:
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    try:
        return bool(process.cwd() == str(cluster))
    except psutil.AccessDenied:  # root without the right to look into processes of others
        return str(cluster) in process.cmdline()


def forget_postgres(cluster: Path, run_dir: Path) -> None:
    """Remove stale lock files that would keep PostgreSQL from starting.

    PostgreSQL sees that a process with that id exists, not that it is a zombie, which nobody waits
    for, or another program that got the id of a killed one. By its shared memory, PostgreSQL itself
    makes sure that nothing of the old server is left on `cluster`.
    """
    locks = (cluster / "postmaster.pid", run_dir / ".s.PGSQL.5432.lock")
    stale = [lock for lock in locks if lock.exists() and _process_exists(lock)]
    if stale and postgres_on(cluster) is None:
        for lock in stale:
            lock.unlink()


def _process_exists(lock: Path) -> bool:
    number = lock.read_text().partition("\n")[0].strip()
    return number.isdecimal() and psutil.pid_exists(int(number))
