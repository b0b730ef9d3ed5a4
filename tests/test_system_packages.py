"""What the system lacks is named with the way to get it; CI runs every test or fails."""

import os
import re
import subprocess
import sys

import pytest

from energy_engine.environment import ROOT
from tests import system_packages

NEEDS_PROMTOOL = """
from tests import system_packages

def test_of_alerts():
    system_packages.need("promtool")
"""


@pytest.fixture
def bare(monkeypatch) -> None:
    """A system on which an ordinary user finds no program but those of /usr/sbin."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def outcome(tmp_path, **variables: str) -> tuple[int, str]:
    """Return exit status and output of a test run on a system without promtool."""
    test = tmp_path / "test_alerts.py"
    test.write_text(NEEDS_PROMTOOL)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider"),
            *("-p", "tests.system_packages", "--rootdir", tmp_path, test),
        ],
        cwd=ROOT,
        env={"PATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1", **variables},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_test_that_lacks_a_program_is_skipped_and_says_how_to_install_it(tmp_path):
    status, output = outcome(tmp_path)

    assert status == 0, output
    assert "1 skipped" in output
    [command] = re.findall(r"^1 tests need .*: sudo apt-get install (.*)$", output, re.MULTILINE)
    assert "prometheus" in command.split()


def test_skipped_test_fails_in_ci(tmp_path):
    status, output = outcome(tmp_path, CI="true")

    assert status == 1, output
    assert "1 failed" in output
    assert "missing here: promtool (sudo apt-get install prometheus)" in output


def test_user_is_told_one_command_that_installs_all_that_is_missing(bare, capsys):
    assert system_packages.main([]) == 0

    printed = capsys.readouterr().out
    assert "Tests that need them are skipped" in printed
    [command] = [line for line in printed.splitlines() if "apt-get install" in line]
    assert {"chromium", "openssl", "prometheus"} <= set(command.split())


def test_what_was_asked_for_by_name_must_be_there(bare, capsys):
    assert system_packages.main(["wrk"]) == 1
    assert "sudo apt-get install wrk\n" in capsys.readouterr().out


def test_library_and_server_are_found_outside_the_path(bare):
    system_packages.need("libatomic.so.1", "nginx")

    assert system_packages.find("libatomic.so.1") == "libatomic.so.1"
    assert system_packages.find("nginx") == "/usr/sbin/nginx"


def test_browser_that_is_named_is_the_only_one_looked_for(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")

    assert system_packages.find("chromium") is None


def test_package_that_can_not_be_installed_keeps_no_other_from_being(monkeypatch, tmp_path, capsys):
    apt_get = tmp_path / "apt-get"
    apt_get.write_text(
        f"""#!/bin/sh
case "$*" in
*chromium) echo "no installation candidate"; exit 100 ;;
*another) touch {tmp_path}/a-program; chmod +x {tmp_path}/a-program ;;
esac
"""
    )
    apt_get.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system_packages, "_ALL", {"chromium": "chromium", "a-program": "another"})

    assert system_packages.main(["chromium", "a-program"]) == 1
    printed = capsys.readouterr().out
    assert "no installation candidate" in printed
    assert "Missing here: chromium. " in printed
