"""What pyproject.toml, the changelog and the license say of the project is so, and said once."""

import importlib
import re
import tomllib

from energy_engine import __version__
from energy_engine.environment import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_version_is_that_of_the_code_and_the_newest_in_the_changelog():
    dynamic = PYPROJECT["tool"]["setuptools"]["dynamic"]
    module, name = dynamic["version"]["attr"].rsplit(".", 1)
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert "version" in PROJECT["dynamic"]
    assert getattr(importlib.import_module(module), name) == __version__
    assert headings[:2] == ["Unreleased", __version__]


def test_oldest_python_is_the_same_everywhere():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    major, minor = oldest.split(".")

    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{major}{minor}"
    assert f"version_info < ({major}, {minor})" in (ROOT / "Makefile").read_text()
    assert f"Python {oldest} or later" in (ROOT / "README.md").read_text()


def test_license_is_the_one_that_is_named():
    [file] = PROJECT["license-files"]

    assert (ROOT / file).read_text().startswith(f"{PROJECT['license']} License\n")


def test_every_package_and_its_files_belong_to_the_project():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    endings = {
        path.suffix
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    setuptools = PYPROJECT["tool"]["setuptools"]

    assert set(setuptools["packages"]["find"]["include"]) == {f"{name}*" for name in packages}
    # Templates and static files lie in folders of these names; what else there is, is named.
    assert endings == {".py", ".sql", ".html", ".css", ".js"}
    assert set(setuptools["package-data"]["*"]) == {
        *("**/*.sql", "**/templates/**/*", "**/static/**/*"),
    }
