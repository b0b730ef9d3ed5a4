"""nginx, PgBouncer, engine, primary and replica together: what each of them may and may not do."""

import gzip
import os
import re
import signal
import socket
import time
import uuid
from contextlib import closing
from http.client import HTTPConnection
from ssl import SSLError, TLSVersion

import psutil
import psycopg
import pytest

from energy_engine.postgres.databases import _DurableConnection
from tests.stack.client import Client
from tests.stack.load import Load

pytestmark = pytest.mark.xdist_group("stack")

# Ten by hand and by night.
RELOADS = int(os.environ.get("STACK_TEST_RELOADS", "2"))


@pytest.fixture
def vehicle() -> str:
    """The id of a vehicle that nobody has seen."""
    return f"V-{uuid.uuid4().hex}"


def charged(client: Client, vehicle_id: str, kwh: float = 1.0) -> None:
    assert client.post({"vehicleId": vehicle_id, "kwhDeliveredDc": kwh}).status == 201


def figure(client: Client, vehicle_id: str) -> dict[str, object]:
    # By its window: such a figure is not cached.
    answer = client.get(f"/v1/analytics/performance/{vehicle_id}?window=7d")
    assert answer.status == 200, answer
    return answer.body


def reads(stack) -> dict[tuple[str, str], float]:
    """Return how many reads each server has answered, and why."""
    with closing(HTTPConnection("127.0.0.1", stack.engine_port, timeout=10)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": "Bearer for prometheus"})
        text = connection.getresponse().read().decode()
    found = re.findall(r'engine_analytics_reads_total\{reason="(.*?)",server="(.*?)"\} (\S+)', text)
    return {(server, reason): float(number) for reason, server, number in found}


def replica_check(client: Client) -> str:
    return client.get("/health/ready").body["checks"]["replica"]


def replica_is_near(client: Client) -> bool:
    # Each worker process looks for itself; several answers come from several of them.
    return all(replica_check(client) == "ok" for _ in range(4))


# --- The replica ------------------------------------------------------------------------------


def test_figures_come_from_the_replica_and_live_state_from_the_primary(stack, client, vehicle):
    charged(client, vehicle)
    assert client.get(f"/v1/status/vehicle/{vehicle}").body["kwhDeliveredDc"] == 1
    stack.until_replicated()
    stack.until(lambda: replica_is_near(client), "a replica near enough")
    before = reads(stack).get(("replica", ""), 0)

    assert figure(client, vehicle)["energyDeliveredDc"] == 1
    assert reads(stack)["replica", ""] == before + 1


def test_vehicle_that_the_replica_has_not_heard_of_is_known_all_the_same(stack, client, vehicle):
    stack.until(lambda: replica_is_near(client), "a replica near enough")
    stack.asked(stack.replica_url, "SELECT pg_wal_replay_pause()")
    try:
        charged(client, vehicle)

        assert figure(client, vehicle)["energyDeliveredDc"] == 1
    finally:
        stack.asked(stack.replica_url, "SELECT pg_wal_replay_resume()")


def test_changed_link_is_in_the_next_figure_however_far_the_replica_is_behind(
    stack, client, vehicle
):
    charged(client, vehicle)
    stack.until_replicated()
    stack.until(lambda: replica_is_near(client), "a replica near enough")
    cached = f"/v1/analytics/performance/{vehicle}"
    assert client.get(cached).body["meterId"] is None
    stack.asked(stack.replica_url, "SELECT pg_wal_replay_pause()")
    try:
        assert client.link(vehicle, f"M-{vehicle}").status == 201

        assert client.get(cached).body["meterId"] == f"M-{vehicle}"
        assert client.get(cached).headers["X-Cache"] == "hit"
        assert client.get(f"{cached}/explain").body["figure"]["meterId"] == f"M-{vehicle}"
    finally:
        stack.asked(stack.replica_url, "SELECT pg_wal_replay_resume()")


def test_replica_that_falls_behind_is_not_asked_until_it_has_caught_up(stack, client, vehicle):
    charged(client, vehicle)
    stack.until_replicated()
    stack.until(lambda: replica_is_near(client), "a replica near enough")
    stack.asked(stack.replica_url, "SELECT pg_wal_replay_pause()")
    try:
        charged(client, vehicle, kwh=2)
        stack.until(
            lambda: all(replica_check(client) != "ok" for _ in range(4)), "the lag to be noticed"
        )

        assert client.get("/health/ready").body["status"] == "degraded"
        assert figure(client, vehicle)["energyDeliveredDc"] == 3
    finally:
        stack.asked(stack.replica_url, "SELECT pg_wal_replay_resume()")
    stack.until(lambda: replica_is_near(client), "the replica to catch up")


def test_list_as_csv_streams_from_the_replica_to_its_end(stack, client):
    fleet = [{"vehicleId": f"CSV-{number}", "kwhDeliveredDc": 1} for number in range(3_000)]
    assert client.post(fleet).body["accepted"] == 3_000
    stack.manage("shell", "-c", "from analytics.figures import snapshot; snapshot.refresh()")
    stack.until_replicated()
    stack.until(lambda: replica_is_near(client), "a replica near enough")

    with closing(stack.connection()) as connection:
        authorization = client._headers["Authorization"]
        headers = {"Accept": "text/csv", "Authorization": authorization}
        connection.request("GET", "/v1/analytics/performance", headers=headers)
        lines = connection.getresponse().read().decode().splitlines()

    assert sum(line.startswith("CSV-") for line in lines) == 3_000


def test_killed_replica_is_noticed_by_nobody_who_asks_for_figures(stack, client, vehicle):
    charged(client, vehicle)
    stack.until_replicated()
    stack.until(lambda: replica_is_near(client), "a replica near enough")

    stack.kill("replica")
    for _ in range(10):
        assert figure(client, vehicle)["energyDeliveredDc"] == 1
    assert client.get("/health/ready").status == 200

    stack.start_replica()
    stack.until(lambda: replica_is_near(client), "the replica to be asked again")


def test_frozen_replica_holds_up_no_figure(stack, client, vehicle):
    charged(client, vehicle)
    stack.until_replicated()
    stack.until(lambda: replica_is_near(client), "a replica near enough")
    with stack.frozen("replica"):
        for _ in range(10):
            began = time.monotonic()
            assert figure(client, vehicle)["energyDeliveredDc"] == 1
            # What is promised of a frozen server, and two seconds for a busy machine.
            assert time.monotonic() - began < 2.5 + 2

    stack.until(lambda: replica_is_near(client), "the replica to be asked again")


# --- The pooler and the primary ---------------------------------------------------------------


def test_frozen_primary_is_503_in_time_behind_the_pooler_too(stack, client, vehicle):
    charged(client, vehicle)
    # The replica has the figure, as long as it is near enough.
    paths = {"/v1/faults": {503}, f"/v1/analytics/performance/{vehicle}?window=7d": {200, 503}}
    with stack.frozen("primary"):
        for path, statuses in paths.items():
            began = time.monotonic()
            assert client.post({"vehicleId": vehicle, "kwhDeliveredDc": 1}).status == 503
            assert client.get(path).status in statuses
            assert time.monotonic() - began < 2 * (2.5 + 2)

    stack.until(
        lambda: client.post({"vehicleId": vehicle, "kwhDeliveredDc": 1}).status == 201,
        "readings to be taken again",
    )


def test_statements_behind_the_pooler_have_an_end(stack):
    assert stack.asked(stack.pool_url, "SHOW statement_timeout") == "1min"
    assert stack.asked(stack.pool_url, "SHOW client_connection_check_interval") == "1s"


def test_commits_wait_for_the_disk_behind_the_pooler_whatever_the_servers_default(stack):
    with psycopg.connect(stack.primary_url, autocommit=True) as primary:
        primary.execute("ALTER SYSTEM SET synchronous_commit = off")
        primary.execute("SELECT pg_reload_conf()")
        try:
            assert stack.asked(stack.pool_url, "SHOW synchronous_commit") == "on"
        finally:
            primary.execute("ALTER SYSTEM RESET synchronous_commit")
            primary.execute("SELECT pg_reload_conf()")


def test_connection_behind_which_commits_do_not_wait_is_refused(stack):
    with psycopg.connect(stack.primary_url, autocommit=True) as primary:
        primary.execute("CREATE ROLE hasty LOGIN PASSWORD 'hasty'")
        primary.execute("ALTER ROLE hasty SET synchronous_commit = off")
        url = stack.primary_url.replace("//engine:", "//hasty:").split(":")
        hasty = f"{url[0]}:{url[1]}:hasty@{stack.primary_url.split('@')[1]}"
        try:
            with pytest.raises(psycopg.OperationalError, match="synchronous_commit is off"):
                _DurableConnection.connect(hasty)
        finally:
            primary.execute("DROP ROLE hasty")


def test_killed_pooler_is_503_for_readings_until_it_is_back(stack, client, vehicle):
    stack.kill("pgbouncer")
    refused = client.post({"vehicleId": vehicle, "kwhDeliveredDc": 1})
    assert (refused.status, refused.body["code"]) == (503, "storage_unavailable")
    assert refused.headers["Retry-After"] == "2"

    stack.start_pooler()
    stack.until(
        lambda: client.post({"vehicleId": vehicle, "kwhDeliveredDc": 1}).status == 201,
        "readings to be taken again",
    )


def test_restarted_primary_is_503_for_a_while_and_loses_nothing(stack, client, vehicle):
    charged(client, vehicle)
    stack.kill("primary")
    assert client.post({"vehicleId": vehicle, "kwhDeliveredDc": 1}).status == 503

    stack.start_primary()
    stack.until(
        lambda: client.post({"vehicleId": f"{vehicle}-2", "kwhDeliveredDc": 1}).status == 201,
        "readings to be taken again",
    )
    assert client.get(f"/v1/status/vehicle/{vehicle}").body["kwhDeliveredDc"] == 1


# --- nginx ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("POST", "/v1/ingest", b" " * (10 * 1024 * 1024 + 1), {}, 413, "too_large"),
        ("GET", f"/v1/x?{'a' * 9000}", None, {}, 414, "request_uri_too_long"),
        ("GET", "/v1/x", None, {"X": "a" * 65536}, 431, "request_header_fields_too_large"),
        ("GET", "/metrics", None, {}, 404, "not_found"),
        ("GET", "/%6detrics", None, {}, 404, "not_found"),
    ],
)
def test_what_nginx_refuses_is_an_error_of_the_contract(
    client, method, path, body, headers, status, code
):
    answer = client.request(method, path, body, headers)

    assert (answer.status, answer.body["statusCode"], answer.body["code"]) == (status, status, code)
    assert answer.body.keys() == {
        *("statusCode", "path", "message", "code", "timestamp", "requestId", "errors")
    }
    assert answer.headers["X-Request-ID"] == answer.body["requestId"]


def test_engine_that_is_away_is_502_with_retry_after(stack, client):
    stack.kill("web")
    try:
        answer = client.get("/v1/status/vehicle/V1")
    finally:
        stack.start_web()
        stack.until(stack.is_ready, "the engine")

    assert (answer.status, answer.body["code"]) == (502, "engine_unavailable")
    assert answer.headers["Retry-After"] == "2"


def test_answers_of_the_engine_pass_as_they_are(client):
    answer = client.post([{"vehicleId": "V1"}])

    assert (answer.status, answer.body["errors"][0]["field"]) == (400, "kwhDeliveredDc")


def test_request_has_one_name_in_nginx_and_engine_and_none_that_a_client_gave_it(client):
    answer = client.get("/v1/status/vehicle/nobody", **{"X-Request-ID": "forged"})

    assert re.fullmatch(r"[0-9a-f]{32}", answer.body["requestId"])
    assert answer.headers["X-Request-ID"] == answer.body["requestId"]


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/ingest", 403), ("/", 403), ("/admin/login/", 308)]
)
def test_plain_http_sends_people_on_and_refuses_devices(stack, path, status):
    with closing(HTTPConnection("127.0.0.1", stack.plain_port, timeout=10)) as plain:
        plain.request("GET", path, headers={"Host": "localhost"})
        answer = plain.getresponse()
        answer.read()

    assert answer.status == status
    if status == 308:
        assert answer.headers["Location"] == "https://localhost/admin/login/"


def test_old_tls_is_refused(stack):
    context = stack.tls
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is nginx that refuses
    with pytest.deprecated_call():
        context.minimum_version = context.maximum_version = TLSVersion.TLSv1_1

    with (
        socket.create_connection(("127.0.0.1", stack.port), timeout=10) as raw,
        pytest.raises(SSLError, match="PROTOCOL_VERSION"),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


@pytest.mark.parametrize("is_gzipped", [True, False])
def test_stream_longer_than_any_json_body_passes(client, vehicle, is_gzipped):
    line = b'{"vehicleId":"%s","kwhDeliveredDc":1,"padding":"%s"}\n' % (
        vehicle.encode(),
        b"x" * 4_000,
    )
    body = line * 3_000
    assert len(body) > 10 * 1024 * 1024
    headers = {"Content-Type": "application/x-ndjson"}
    if is_gzipped:
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}

    answer = client.post(body, **headers)

    assert (answer.status, answer.body["accepted"]) == (201, 3_000)


def test_slow_clients_wait_in_nginx_and_hold_no_worker(stack, client, vehicle):
    slow = []
    head = b"POST /v1/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n["
    try:
        for _ in range(50):
            raw = socket.create_connection(("127.0.0.1", stack.port), timeout=10)
            slow.append(stack.tls.wrap_socket(raw, server_hostname="localhost"))
            slow[-1].sendall(head)
        charged(client, vehicle)

        at_the_engine = [
            found
            for found in psutil.net_connections("tcp")
            if found.laddr.port == stack.engine_port and found.status == psutil.CONN_ESTABLISHED
        ]
        assert len(at_the_engine) < 10
    finally:
        for connection in slow:
            connection.close()


# --- Reloads and stops under load -------------------------------------------------------------


def workers(stack) -> set[int]:
    master = psutil.Process(stack.supervisor._running[stack.programs["web"]].pid)
    return {child.pid for child in master.children()}


def reload(stack) -> None:
    """Let gunicorn start anew with its old workers gone, while others go on asking."""
    before = workers(stack)
    stack.signal("web", signal.SIGHUP)
    stack.until(lambda: len(workers(stack)) == 2 and not workers(stack) & before, "the reload")


@pytest.mark.parametrize("way", ["directly", "through nginx"])
def test_reload_under_load_fails_no_request(stack, key, way):
    def directly() -> HTTPConnection:
        return HTTPConnection("127.0.0.1", stack.engine_port, timeout=60)

    with Load(directly if way == "directly" else stack.connection, key) as load:
        for _ in range(RELOADS):
            reload(stack)

    print(f"{RELOADS} reloads, {way}: {load.requests} requests {dict(load.answers)}")
    assert (load.unanswered, load.broken) == ({}, [])
    assert set(load.answers) == {201}


@pytest.mark.parametrize("way", ["directly", "through nginx"])
def test_stop_under_load_breaks_no_answer_and_keeps_what_was_acknowledged(stack, key, way):
    def directly() -> HTTPConnection:
        return HTTPConnection("127.0.0.1", stack.engine_port, timeout=60)

    count = "SELECT count(*) FROM ingestion_vehiclereading WHERE vehicle_id LIKE 'LOAD-%'"
    stored = stack.asked(stack.primary_url, count)
    web = stack.supervisor._running.pop(stack.programs["web"])
    with Load(directly if way == "directly" else stack.connection, key) as load:
        stack.until(lambda: load.answers[201] > 200, "some load")
        web.send_signal(signal.SIGTERM)
        assert web.wait(40) == 0
    stack.start_web()
    stack.until(stack.is_ready, "the engine")

    print(f"stop, {way}: {dict(load.answers)}, no answer: {dict(load.unanswered)}")
    assert load.broken == []
    assert set(load.answers) <= {201, 502}
    assert stack.asked(stack.primary_url, count) - stored >= load.answers[201]
