"""What generators make of the OpenAPI document are clients that work with a running engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.xdist_group("clients")

CLIENTS = Path(__file__).parent / "clients"
BIN = Path(sys.executable).parent
# Beside what pip installs; thousands of files have no place among the sources.
INSTALLED = Path(sys.prefix) / "clients"
MODULES = INSTALLED / "node_modules"
# Redocly's tool would tell its makers that it was run, and look for a newer one.
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_NOTIFICATIONS": "true"}


@pytest.fixture(scope="module")
def tools() -> None:
    """Install what package-lock.json names, unless it is there."""
    wanted = (CLIENTS / "package-lock.json").read_bytes()
    done = INSTALLED / "installed"
    if not done.exists() or done.read_bytes() != wanted:
        INSTALLED.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(CLIENTS / name, INSTALLED)
        run(BIN / "npm", "ci", folder=INSTALLED)
        done.write_bytes(wanted)


@pytest.fixture
def folder(engine, tmp_path) -> Path:
    """A folder with the document of the engine, as openapi.json."""
    document = requests.get(f"{url(engine)}/v1/schema", timeout=30)
    (tmp_path / "openapi.json").write_bytes(document.content)
    return tmp_path


@pytest.mark.usefixtures("tools")
def test_document_passes_redocly_lint(folder):
    run_tool("@redocly/cli/bin/cli.js", "lint", "openapi.json", folder=folder)


@pytest.mark.usefixtures("tools")
def test_types_for_typescript_compile_and_their_client_works(engine, folder):
    for name in ("package.json", "tsconfig.json", "smoke.ts"):
        shutil.copy(CLIENTS / name, folder)
    (folder / "node_modules").symlink_to(MODULES)

    run_tool("openapi-typescript/bin/cli.js", "openapi.json", "--output=api.d.ts", folder=folder)
    run_tool("typescript/bin/tsc", folder=folder)
    run(BIN / "node", "smoke.js", url(engine), folder=folder)


def test_client_for_python_works(engine, folder):
    made = ["--path=openapi.json", "--output-path=energy_client", "--meta=none"]
    run(BIN / "openapi-python-client", "generate", *made, folder=folder)
    run(sys.executable, CLIENTS / "smoke.py", url(engine), folder=folder)


def url(engine) -> str:
    return f"http://127.0.0.1:{engine.port}"


def run_tool(script: str, *words: str, folder: Path) -> None:
    run(BIN / "node", MODULES / script, *words, folder=folder)


def run(*command: str | Path, folder: Path) -> None:
    """Run a program in `folder`; where it fails, say what it printed."""
    paths = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | QUIET | paths,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
