"""A PostgreSQL and a Redis of the tests' own, started before Django reads its settings.

Loaded as a pytest plugin by `pyproject.toml`; the worker processes of pytest-xdist inherit them.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from energy_engine.local import embedded
from energy_engine.local.supervisor import Supervisor

# Tests prove what is stored, not that the disk keeps it: crash tests start an engine of their own.
POSTGRES_SETTINGS = {"fsync": "off", "shared_buffers": "128MB"}


def _start() -> None:
    data_dir = Path(tempfile.mkdtemp(prefix="energy-engine-tests-"))
    data_dir.chmod(0o711)  # PostgreSQL passes through it as a user of its own
    supervisor = Supervisor()
    atexit.register(shutil.rmtree, data_dir, ignore_errors=True)
    atexit.register(supervisor.stop)
    embedded.start_postgres(supervisor, data_dir, POSTGRES_SETTINGS)
    embedded.start_redis(supervisor, data_dir)
    os.environ["ENGINE_TEST_SERVICES"] = "started"
    os.environ["ENGINE_DATA_DIR"] = str(data_dir)
    os.environ["SECRET_KEY"] = "only for tests " * 4
    os.environ["SECURE_COOKIES"] = "false"
    # As `make run` has it; tests of access close it.
    os.environ["API_AUTH"] = "open"
    os.environ["ENERGY_ENGINE_LAUNCHED_ON"] = "127.0.0.1"
    # A worker of pytest-xdist caches in a Redis database of its own; see `conftest.py`.
    os.environ["TEST_REDIS_URL"] = embedded.redis_url(data_dir)


if "ENGINE_TEST_SERVICES" not in os.environ:
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    _start()
_worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
os.environ["REDIS_URL"] = f"{os.environ['TEST_REDIS_URL']}?db={_worker}"
