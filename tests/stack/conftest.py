"""One stack for all tests of a process; each leaves it running as it found it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import system_packages
from tests.stack.client import Client
from tests.stack.stack import Stack


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    system_packages.need("nginx", "openssl", "pgbouncer")
    # Not pytest's own folder, which another run closes to PostgreSQL's user.
    with TemporaryDirectory(prefix="energy-engine-stack-") as folder:
        # The load of one key is more than a key may send.
        limits = {"LIMIT_REQUESTS_PER_KEY": "0", "LIMIT_REQUESTS_PER_ADDRESS": "0"}
        stack = Stack(Path(folder), REPLICA_MAX_LAG_SECONDS="2", **limits)
        try:
            yield stack.start()
        finally:
            stack.stop()


@pytest.fixture(scope="package")
def key(stack: Stack) -> str:
    """A key that opens everything."""
    scopes = [part for scope in ("ingest", "read", "manage") for part in ("--scope", scope)]
    (token,) = (
        word
        for word in stack.manage("api_key", "create", "tests", *scopes).split()
        if word.startswith("eie_")
    )
    return token


@pytest.fixture
def client(stack: Stack, key: str) -> Iterator[Client]:
    """Somebody with a key, on the other side of nginx."""
    with Client(stack.connection, key) as client:
        yield client
