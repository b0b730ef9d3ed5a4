"""Files and folders that only their owner can open, and secrets that survive a crash."""

import os
from pathlib import Path
from typing import IO, Any, Final

MAKE_A_NEW_KEY: Final = (
    "delete it, and `make run` creates a new one; everyone has to sign in to the console again"
)

_SHORTEST_SECRET: Final = 32
# What distinguishes a data directory from any other folder.
_OURS: Final = frozenset({"engine.lock", "postgres", "postgres_password", "secret_key"})


class Unusable(Exception):
    """A file or folder of the data directory can't be used; the text says why and what to do."""


def make_folder(folder: Path) -> None:
    """Create `folder`, or close it to other users if it is already the engine's.

    Errors: `Unusable`, if it contains other files.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 == 0o700:
        return
    names = {path.name for path in folder.iterdir()}
    if names and not names & _OURS:
        raise Unusable(
            f"{folder} contains files that are not the engine's: set ENGINE_DATA_DIR to a separate "
            f"folder, such as {folder}/energy-engine"
        )
    folder.chmod(0o700)


def open_file(path: Path, mode: str) -> IO[Any]:
    """Open a file for writing that only its owner can read, whatever the umask; follow no link."""
    file = open(path, mode, opener=_open_without_following)  # noqa: SIM115 # the caller closes it
    os.fchmod(file.fileno(), 0o600)
    return file


def _open_without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def write_secret(path: Path, secret: str) -> None:
    """Write a file that only its owner can read; completely and synced to disk, or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with open_file(unfinished, "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_folder(path.parent)


def read_secret(path: Path, what_to_do: str) -> str:
    """Return what `write_secret` wrote. Errors: `Unusable`, if the file is incomplete."""
    secret = path.read_text(errors="replace").strip("\0\r\n ")
    if len(secret) < _SHORTEST_SECRET:
        raise Unusable(f"{path} is empty or incomplete: {what_to_do}")
    return secret


def sync_folder(folder: Path) -> None:
    """Sync the names in `folder` to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
