"""Attacks that take a running engine: two web processes, sockets, many clients, and no Redis."""

import json
import secrets
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection

import pytest
from redis import Redis

from energy_engine.local import embedded
from tests.engine.conftest import Engine, at_once, wait_until

REQUESTS_PER_KEY = 50
READINGS_PER_KEY = 1_000
WRONG_KEYS_PER_ADDRESS = 100
GUESSES = 1_000
# Loopback has many addresses: each test attacks from one of its own.
PROXY = "127.0.0.9"
READING = {"vehicleId": "V1", "kwhDeliveredDc": 1}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = Engine(
        tmp_path_factory.mktemp("engine"),
        API_AUTH="required",
        WEB_WORKERS="2",
        TRUSTED_PROXIES=PROXY,
        LIMIT_REQUESTS_PER_KEY=str(REQUESTS_PER_KEY),
        LIMIT_READINGS_PER_KEY=str(READINGS_PER_KEY),
        LIMIT_WRONG_KEYS_PER_ADDRESS=str(WRONG_KEYS_PER_ADDRESS),
        INGEST_STREAM_CHUNK_READINGS="100",
    ).start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def manager(engine) -> str:
    return engine.manage("api_key", "create", "manager", "--scope", "manage").strip()


class Client:
    """A client at an address of loopback, with a connection that it keeps."""

    def __init__(self, engine: Engine, address: str, token: str = "", **headers: str) -> None:
        self._http = HTTPConnection(
            "127.0.0.1", engine.port, timeout=15, source_address=(address, 0)
        )
        self.headers = headers
        self.token = token

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict]:
        token = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self._http.request(method, path, body, token | self.headers | headers)
        answer = self._http.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")

    def post(self, body: object) -> tuple[int, dict]:
        raw = json.dumps(body).encode()
        return self.request("POST", "/v1/ingest", raw, **{"Content-Type": "application/json"})


@pytest.fixture
def token(engine, manager) -> str:
    """A new key, with a budget that nobody has drawn on."""
    return new_token(engine, manager)


def new_token(engine: Engine, manager: str) -> str:
    with Client(engine, "127.0.0.1", manager) as client:
        order = json.dumps({"name": "test", "scopes": ["ingest", "read"]}).encode()
        headers = {"Content-Type": "application/json"}
        status, made = client.request("POST", "/v1/keys", order, **headers)
    assert status == 201, made
    return made["token"]


def wait_for_a_fresh_minute() -> None:
    """Limits are of a minute of the clock: return when enough of one is left."""
    wait_until(lambda: time.time() % 60 < 45, 20, "the next minute")


def raw(engine: Engine, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        received = b""
        with suppress(ConnectionError):  # who sends too much is cut off
            connection.sendall(request)
            while part := connection.recv(65536):
                received += part
    return received


def test_requests_at_the_limit_pass_exactly_as_often_as_it_says(engine, token):
    wait_for_a_fresh_minute()
    statuses: list[int] = []
    begin = threading.Barrier(100)

    def send(_: int) -> None:
        with Client(engine, "127.0.0.2", token) as client:
            begin.wait()
            statuses.append(client.post(READING)[0])

    at_once(100, send)

    assert sorted(set(statuses)) == [201, 429]
    assert statuses.count(201) == REQUESTS_PER_KEY
    assert len({process.pid for process in engine.processes_of("gunicorn")}) >= 3


def test_thousands_of_random_keys_cost_no_look_up_each_and_harm_nobody(engine, manager, token):
    known, unknown = token, new_token(engine, manager)
    wait_for_a_fresh_minute()
    before, memory = look_ups(engine), memory_bytes(engine)

    statuses, of_neighbour = [], set()
    with Client(engine, "127.0.0.3", known) as neighbour, Client(engine, "127.0.0.3") as guesser:
        for number in range(GUESSES):
            if number % 50 == 0:  # on its connection, so of a process that knows its key
                of_neighbour.add(neighbour.request("GET", "/v1/links")[0])
            guesser.token = f"eie_{secrets.token_hex(5)}_{secrets.token_urlsafe(32)}"
            forged = f"203.0.113.{number % 250}"  # believed of nobody but proxies
            status, _ = guesser.request("GET", "/v1/links", **{"X-Forwarded-For": forged})
            statuses.append(status)

    assert of_neighbour == {200}
    assert statuses.count(401) == WRONG_KEYS_PER_ADDRESS
    assert statuses.count(429) == GUESSES - WRONG_KEYS_PER_ADDRESS
    assert look_ups(engine) - before <= WRONG_KEYS_PER_ADDRESS + 10
    assert memory_bytes(engine) - memory < 20_000_000
    with Client(engine, "127.0.0.4", unknown) as elsewhere:
        assert elsewhere.request("GET", "/v1/links")[0] == 200


def show_at_once(engine: Engine, address: str, token: str) -> None:
    """Show a key on many connections, so that more than one process gets to know it."""

    def show(_: int) -> None:
        with Client(engine, address, token) as client:
            assert client.request("GET", "/v1/links")[0] == 200

    at_once(20, show)


def look_ups(engine: Engine) -> int:
    """Return how many look-ups of keys PostgreSQL has seen, once it has counted them."""
    counts: list[int] = []

    def is_at_rest() -> bool:
        ((count,),) = engine.rows(
            "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%sha256%'"
        )
        counts.append(int(count))
        return len(counts) > 30 and len(set(counts[-25:])) == 1

    wait_until(is_at_rest, 20, "PostgreSQL's statistics")
    return counts[-1]


def memory_bytes(engine: Engine) -> int:
    return sum(process.memory_info().rss for process in engine.processes_of("gunicorn"))


def test_address_behind_a_trusted_proxy_is_held_to_its_own_limit(engine):
    wait_for_a_fresh_minute()

    def guess(address: str, forwarded: str, times: int) -> list[int]:
        with Client(engine, address, **{"X-Forwarded-For": forwarded}) as client:
            statuses = []
            for number in range(times):
                client.token = f"eie_{forwarded}_{number}".replace(" ", "")
                statuses.append(client.request("GET", "/v1/links")[0])
            return statuses

    # What a client has forged stands before what its proxy has seen.
    assert guess(PROXY, "10.0.0.1, 198.51.100.1", 120).count(401) == WRONG_KEYS_PER_ADDRESS
    assert set(guess(PROXY, "10.0.0.2, 198.51.100.1:4711", 5)) == {429}
    assert set(guess(PROXY, "198.51.100.2", 5)) == {401}
    assert guess(PROXY, "2001:db8:0:1::1", 120).count(401) == WRONG_KEYS_PER_ADDRESS
    assert set(guess(PROXY, "[2001:db8:0:1::ffff]:4711", 5)) == {429}
    assert set(guess(PROXY, "2001:db8:0:2::1", 5)) == {401}


def test_revoked_key_is_refused_by_every_process_within_seconds(engine, manager, token):
    show_at_once(engine, "127.0.0.5", token)
    prefix = "_".join(token.split("_")[:2])
    with Client(engine, "127.0.0.5", manager) as client:
        assert client.request("DELETE", f"/v1/keys/{prefix}")[0] == 200
        revoked_at = time.monotonic()

    refused: list[float] = []

    def is_refused() -> bool:
        with Client(engine, "127.0.0.5", token) as client:
            if client.request("GET", "/v1/links")[0] == 401:
                refused.append(time.monotonic() - revoked_at)
            else:
                refused.clear()
        return len(refused) >= 25

    wait_until(is_refused, 15, "the end of a revoked key")


def test_limits_hold_while_redis_is_away_and_when_it_is_back(engine, token):
    wait_for_a_fresh_minute()
    for process in engine.processes_of("valkey-server"):
        process.kill()
    statuses: list[int] = []

    def send(_: int) -> None:
        with Client(engine, "127.0.0.6", token) as client:
            for _ in range(10):
                statuses.append(client.post(READING)[0])

    at_once(20, send)
    wait_until(lambda: redis_answers(engine), 20, "Redis' return")
    at_once(20, send)

    assert set(statuses) == {201, 429}
    # Each of two processes for itself, and once more by what Redis has forgotten.
    assert REQUESTS_PER_KEY <= statuses.count(201) <= 3 * REQUESTS_PER_KEY


def redis_answers(engine: Engine) -> bool:
    _, body = engine.request("GET", "/health/ready")
    return body["checks"]["cache"] == "ok"


def test_stream_over_its_budget_is_stored_as_far_as_it_came(engine, token):
    wait_for_a_fresh_minute()
    lines = "\n".join(
        json.dumps({"vehicleId": "STREAM", "kwhDeliveredDc": 1, "timestamp": instant(number)})
        for number in range(READINGS_PER_KEY + 500)
    )

    with Client(engine, "127.0.0.7", token) as client:
        status, body = client.request(
            "POST", "/v1/ingest", lines.encode(), **{"Content-Type": "application/x-ndjson"}
        )

    assert (status, body["code"]) == (429, "throttled")
    assert 0 < body["accepted"] <= READINGS_PER_KEY
    ((stored,),) = engine.rows(
        "SELECT count(*) FROM ingestion_vehiclereading WHERE vehicle_id = 'STREAM'"
    )
    assert stored == body["accepted"]


def instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7200 + seconds))


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Authorization: Bearer " + "a" * 8_000, 401),
        ("Authorization: Bearer {0}\r\nAuthorization: Bearer {0}", 401),
        ("Authorization: Bearer {0}\r\nAuthorization: Bearer x", 401),
        ("Authorization: Bearer \u00e9\u00ff", 401),
        ("HTTP_AUTHORIZATION: Bearer {0}", 401),
        ("Authorization: Bearer {0}  ", 200),
        ("authorization: bearer {0}", 200),
        ("SCRIPT_NAME: /v1\r\nAuthorization: Bearer {0}", 200),
        ("PATH_INFO: /health/live", 401),
    ],
)
def test_header_of_an_attacker(engine, token, line, status):
    head = f"GET /v1/links HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{line}\r\n\r\n"

    answer = raw(engine, head.format(token).encode("latin-1"))

    assert int(answer.split()[1]) == status
    assert token.encode() not in answer


def test_megabyte_of_a_key_is_not_read_to_its_end(engine):
    head = b"GET /v1/links HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "

    answer = raw(engine, head + b"a" * 1_000_000 + b"\r\n\r\n")

    assert answer == b"" or answer.split()[1] == b"431"
    assert engine.request("GET", "/health/live")[0] == 200


@pytest.mark.parametrize("path", ["//v1/links", "//admin/", "/x/v1/links", "http://x//admin/"])
def test_path_of_an_attacker(engine, path):
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "SCRIPT_NAME: /x", "Connection: close"]

    answer = raw(engine, "\r\n".join([*lines, "", ""]).encode())

    assert int(answer.split()[1]) == 404


def test_no_key_is_in_redis_in_postgresql_or_in_the_log(engine, token):
    secret = token.split("_", 2)[2]
    with Client(engine, "127.0.0.8", token) as client:
        assert client.request("GET", f"/v1/links?key={token}&access_token={token}")[0] == 400
        assert client.request("GET", f"/v1/nothing/{token}%0aERROR forged".replace(" ", "%20"))
        client.post(READING | {"vehicleId": token + "\n"})
        client.token = ""
        assert client.request("GET", f"/v1/links?key={token}")[0] == 401

    redis = Redis.from_url(embedded.redis_url(engine.data_dir))
    wait_until(lambda: kept_after_a_request(engine, token, redis), 15, "a count in Redis")
    kept = str([(key, redis.dump(key)) for key in redis.scan_iter("*")])
    ((rows,),) = engine.rows("SELECT string_agg(key::text, '') FROM fleet_apikey key")
    for text in (kept, rows, "".join(engine.output)):
        assert secret not in text
        assert "ERROR forged" not in text


def kept_after_a_request(engine: Engine, token: str, redis: Redis) -> bool:
    with Client(engine, "127.0.0.8", token) as client:
        client.request("GET", "/v1/analytics/performance/V1")
    return redis.dbsize() > 0
