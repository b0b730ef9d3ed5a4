"""What the tests need of the system beside Python's packages, and what happens where it is missing.

`python -m tests.system_packages` installs it as root. Other users are told what to install, and
meanwhile skip the tests that need it: those call `need`. Where CI=true, a skipped test has failed;
as a pytest plugin, loaded by `pyproject.toml`, this module sees to that.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

import pytest

# The Debian package of each program or library.
PACKAGES: Final = {
    "chromium": "chromium",
    "libatomic.so.1": "libatomic1",  # Playwright's Node.js loads it
    "nginx": "nginx-light",
    "openssl": "openssl",
    "pgbouncer": "pgbouncer",
    "promtool": "promtool",
}
# Has promtool in it before Debian 13, which split them.
_PROMETHEUS: Final = "prometheus"
# What `make bench` needs, and no test.
_OF_THE_BENCHMARKS: Final = {"wrk": "wrk", "cc": "build-essential"}
_ALL: Final = PACKAGES | _OF_THE_BENCHMARKS


def find(name: str) -> str | None:
    """Return where a program or library is; None where it is missing."""
    if name.endswith(".so.1"):
        return name if _loads(name) else None
    names = [name]
    if name == "chromium":
        named = os.environ.get("CHROMIUM")
        names = [named] if named else [name, "google-chrome"]
    # Debian keeps servers where ordinary users do not look.
    path = f"{os.environ['PATH']}:/usr/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def need(*names: str) -> None:
    """Skip the test that calls this, or is set up by it, where any of these is missing."""
    if missing := _missing(names):
        pytest.skip(f"missing here: {', '.join(missing)} ({_install_command(missing)})")


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if find(name) is None]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _install_command(names: Iterable[str]) -> str:
    return f"sudo apt-get install {' '.join(map(_package, names))}"


def _package(name: str) -> str:
    if name == "promtool" and not _is_package(_ALL[name]):
        return _PROMETHEUS
    return _ALL[name]


def _is_package(name: str) -> bool:
    """Tell whether apt-get, where there is one, has a package of this name."""
    if shutil.which("apt-cache") is None:
        return False
    return subprocess.run(["apt-cache", "show", name], capture_output=True).returncode == 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped, where CI=true: what CI does not run, nobody has tried."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which CI=true does not allow: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name at the end of a run, too, what skipped tests need."""
    missing = _missing(PACKAGES)
    if missing and (skipped := terminalreporter.stats.get("skipped")):
        terminalreporter.write_line(
            f"{len(skipped)} tests need what is missing here: {_install_command(missing)}"
        )


def main(names: list[str]) -> int:
    """Install what is missing of `names`, or of all that tests need; return the exit status.

    Only what was named must be there in the end: tests do without by skipping.
    """
    missing = _missing(names or PACKAGES)
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stdout.write(f"Installing {', '.join(missing)} (once) …\n")
        sys.stdout.flush()
        _install(missing)
        missing = _missing(missing)
    if missing:
        what_follows = "Install them" if names else "Tests that need them are skipped. To run them"
        sys.stdout.write(
            f"Missing here: {', '.join(missing)}. {what_follows}:\n\n"
            f"  {_install_command(missing)}\n\n"
        )
    return 1 if missing and names else 0


def _install(names: list[str]) -> None:
    """Install what can be: Ubuntu, for one, has no package of a browser."""
    if not _apt_get("update"):
        return
    for package in map(_package, names):
        if package == _PROMETHEUS:
            _extract_promtool()
        else:
            _apt_get("install", "--yes", "--no-install-recommends", package)


def _extract_promtool() -> None:
    """Install this one program of Prometheus' package, which would start a Prometheus."""
    with tempfile.TemporaryDirectory() as folder:
        if not _apt_get("download", _PROMETHEUS, cwd=folder):
            return
        [package] = Path(folder).glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        shutil.copy(f"{folder}/usr/bin/promtool", "/usr/local/bin/promtool")


def _apt_get(*arguments: str, cwd: str | None = None) -> bool:
    """Run apt-get without a word, and tell whether it succeeded; where it fails, show its words."""
    done = subprocess.run(
        ["apt-get", "--quiet=2", *arguments],
        cwd=cwd,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.stdout.write(f"apt-get {' '.join(arguments)}:\n{done.stdout}\n")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
