"""Webhooks: signed, tried again until they arrive, and never sent to where nobody may look."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from procrastinate.contrib.django.models import ProcrastinateJob

from analytics.alerting import faults, webhook_requests, webhooks
from analytics.alerting.kinds import KINDS
from analytics.alerting.webhook_requests import NotSent
from analytics.models import Fault, Webhook, WebhookDelivery
from fleet.models import Site, Vehicle
from ingestion.writer import record
from tests import system_packages
from tests.conftest import NOON, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

# The 24 bytes 0, 1, 2 … 23, and what openssl makes of them.
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


class Receiver:
    """A receiver of webhooks on this machine: keeps what it is sent, answers as it is told."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(HTTPServer):
            address_family = family

        self.server = Server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hooks?from=fleet"


@contextmanager
def serving(receiver: Receiver) -> Iterator[Receiver]:
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with serving(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def receiver_over_ipv6(settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    try:
        receiver = Receiver(socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(receiver):
        yield receiver


@pytest.fixture
def webhook(receiver) -> Webhook:
    return Webhook.objects.create(url=receiver.url, secret=SECRET)


def hot() -> Fault:
    """Let V1 be too hot, and the watch see it."""
    Vehicle.objects.create(vehicle_id="V1", site=Site.objects.create(name="Depot"))
    record([vehicle_reading("V1", "12:00", battery_temp_celsius=60)], NOON)
    faults.watch()
    return Fault.objects.get()


def jobs() -> list[ProcrastinateJob]:
    return list(ProcrastinateJob.objects.filter(status="todo").order_by("id"))


def run_jobs() -> None:
    """Do what is queued, whenever it is due, once."""
    for job in jobs():
        assert job.task_name == "analytics.webhooks.deliver"
        ProcrastinateJob.objects.filter(pk=job.pk)._raw_delete("default")
        webhooks.deliver(**job.args)


# --- Messages ---------------------------------------------------------------------------------


def test_every_step_of_a_fault_is_told(clock, webhook, receiver):
    fault = hot()
    clock.shift(timedelta(minutes=1))
    faults.acknowledge(fault.pk, User.objects.create_user("ada"))
    clock.shift(timedelta(minutes=1))
    faults.close(fault.pk, None, "fan replaced")
    run_jobs()

    bodies = [json.loads(body) for _, _, body in receiver.requests]
    opened = {
        "id": fault.pk,
        "kind": "hot_battery",
        "state": "open",
        "vehicleId": "V1",
        "meterId": None,
        "site": "Depot",
        "value": 60.0,
        "unit": "celsius",
        "threshold": 50.0,
        "openedAt": "2026-07-15T12:00:00Z",
        "acknowledgedAt": None,
        "closedAt": None,
    }
    acknowledged = opened | {"state": "acknowledged", "acknowledgedAt": "2026-07-15T12:01:00Z"}
    closed = acknowledged | {"state": "closed", "closedAt": "2026-07-15T12:02:00Z"}
    assert bodies == [
        {"type": "fault.opened", "timestamp": "2026-07-15T12:00:00Z", "data": opened},
        {"type": "fault.acknowledged", "timestamp": "2026-07-15T12:01:00Z", "data": acknowledged},
        {"type": "fault.closed", "timestamp": "2026-07-15T12:02:00Z", "data": closed},
    ]


def test_fault_that_closes_by_itself_is_told(clock, webhook, receiver):
    hot()
    record([vehicle_reading("V1", "12:00", battery_temp_celsius=20)], NOON)
    faults.watch()
    clock.shift(timedelta(minutes=5))
    faults.watch()
    run_jobs()

    types = [json.loads(body)["type"] for _, _, body in receiver.requests]
    assert types == ["fault.opened", "fault.closed"]


def test_request_carries_id_time_and_signature(webhook, receiver):
    hot()
    run_jobs()

    ((path, headers, body),) = receiver.requests
    delivery = WebhookDelivery.objects.get()
    assert path == "/hooks?from=fleet"
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == delivery.message_id
    assert headers["webhook-timestamp"] == "1784116800"  # date -d '2026-07-15 12:00 UTC' +%s
    signed = f"{delivery.message_id}.1784116800.".encode() + body
    digest = hmac.new(bytes(range(24)), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_signature_is_the_one_that_openssl_makes():
    # printf 'msg_1.1784116800.{"a":1}' | openssl dgst -sha256 -mac HMAC -binary \
    #   -macopt hexkey:000102030405060708090a0b0c0d0e0f1011121314151617 | base64
    assert (
        webhooks.signature(SECRET, "msg_1", 1784116800, '{"a":1}')
        == "v1,E5mHx6Hh+F3cmUsXu+ukUG3GshloO7OEtqXu/PXWd1c="
    )


def test_secret_is_new_each_time_and_has_256_bits():
    first, second = webhooks.new_secret(), webhooks.new_secret()

    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32


def test_inactive_webhook_gets_nothing(webhook, receiver):
    Webhook.objects.update(is_active=False)
    hot()

    assert jobs() == []


def test_webhook_that_has_become_inactive_gets_nothing_more(webhook, receiver):
    hot()
    Webhook.objects.update(is_active=False)
    run_jobs()

    assert receiver.requests == []
    assert jobs() == []


def test_webhook_that_is_gone_gets_nothing_more(webhook, receiver):
    hot()
    Webhook.objects.all().delete()
    run_jobs()

    assert receiver.requests == []


def test_each_webhook_has_a_message_and_a_log_of_its_own(webhook, receiver):
    other = Webhook.objects.create(url=receiver.url, secret=webhooks.new_secret())
    hot()
    run_jobs()

    ids = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert len(set(ids)) == 2
    assert [delivery.webhook for delivery in WebhookDelivery.objects.order_by("pk")] == [
        webhook,
        other,
    ]


def test_messages_wait_behind_the_jobs_of_the_engine(webhook):
    hot()

    assert [job.priority for job in jobs()] == [-1]


@pytest.mark.django_db(transaction=True)
def test_step_that_is_rolled_back_is_told_to_nobody(webhook):
    with transaction.atomic():
        hot()
        assert len(jobs()) == 1
        transaction.set_rollback(True)

    assert not WebhookDelivery.objects.exists()
    assert jobs() == []


@pytest.mark.parametrize("vehicles", [10, 200])
def test_announcing_costs_the_same_statements_however_many_faults(
    webhook, statements_sent, vehicles
):
    readings = [vehicle_reading(f"V{n}", battery_temp_celsius=60) for n in range(vehicles)]
    record(readings, NOON)

    with statements_sent() as sent:
        faults.watch()

    # Those of a watch, one for each finder among them, and: faults, deliveries, jobs.
    assert sent == [11 + len({record.find for record in KINDS.values()})]
    assert len(jobs()) == vehicles


# --- Attempts ---------------------------------------------------------------------------------


def test_delivery_is_logged(webhook, receiver):
    hot()
    run_jobs()

    delivery = WebhookDelivery.objects.get()
    assert (delivery.attempts, delivery.status_code, delivery.error) == (1, 204, "")
    assert (delivery.attempted_at, delivery.delivered_at) == (NOON, NOON)
    assert jobs() == []


def test_message_is_sent_again_after_an_error(clock, webhook, receiver):
    receiver.statuses = [500]
    hot()
    run_jobs()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.attempts, delivery.status_code, delivery.delivered_at) == (1, 500, None)
    assert delivery.error == "answered 500"
    assert [job.scheduled_at for job in jobs()] == [NOON + timedelta(seconds=5)]

    clock.shift(timedelta(seconds=5))
    run_jobs()

    delivery.refresh_from_db()
    assert (delivery.attempts, delivery.status_code, delivery.error) == (2, 204, "")
    assert delivery.delivered_at == NOON + timedelta(seconds=5)
    first, second = receiver.requests
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert int(second[1]["webhook-timestamp"]) - int(first[1]["webhook-timestamp"]) == 5
    assert first[2] == second[2]


def test_message_is_given_up_after_eight_attempts_in_a_day(clock, webhook, receiver):
    receiver.statuses = [503] * 9
    hot()
    moments: list[datetime] = []
    while jobs():
        (job,) = jobs()
        clock.move_to(job.scheduled_at or NOON)
        moments.append(job.scheduled_at or NOON)
        run_jobs()

    hours = [(moment - NOON).total_seconds() / 3600 for moment in moments]
    assert [round(hour, 2) for hour in hours] == [0, 0, 0.08, 0.58, 2.58, 7.58, 15.58, 23.58]
    assert WebhookDelivery.objects.get().attempts == 8


def test_message_that_has_arrived_is_not_sent_again(webhook, receiver):
    hot()
    (job,) = jobs()
    run_jobs()

    webhooks.deliver(**job.args)

    assert len(receiver.requests) == 1


def test_redirect_is_not_followed(webhook, receiver):
    receiver.statuses = [302]
    hot()
    run_jobs()

    assert [path for path, _, _ in receiver.requests] == ["/hooks?from=fleet"]
    assert WebhookDelivery.objects.get().error == "answered 302"


def test_receiver_that_is_away_is_logged(webhook, receiver):
    Webhook.objects.update(url="http://127.0.0.1:1/")
    hot()
    run_jobs()

    delivery = WebhookDelivery.objects.get()
    assert (delivery.status_code, delivery.delivered_at) == (None, None)
    assert delivery.error == "connection refused"
    assert len(jobs()) == 1


def test_log_is_kept_for_thirty_days_and_the_fault_for_ever(clock, webhook, receiver):
    hot()
    run_jobs()
    clock.shift(timedelta(days=30))
    assert webhooks.forget_old() == 0

    clock.shift(timedelta(seconds=1))

    assert webhooks.forget_old() == 1
    assert not WebhookDelivery.objects.exists()
    assert Fault.objects.get().changes.count() == 1


# --- Where a message may go -------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",  # 127.0.0.1 as one number
        "0x7f.1",
        "10.0.0.8",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 # an address to refuse
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
    ],
)
def test_addresses_that_are_not_of_the_internet_are_refused(host):
    with pytest.raises(NotSent, match="not public"):
        webhook_requests.post(f"http://{host}/", {}, b"")


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
def test_metadata_of_a_cloud_is_refused_also_where_private_addresses_are_not(settings, host):
    settings.WEBHOOK_ALLOW_PRIVATE = True

    with pytest.raises(NotSent, match="link-local"):
        webhook_requests.post(f"http://{host}/latest/meta-data/", {}, b"")


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_not(address):
    assert webhook_requests.is_public(address)


def test_refused_address_is_logged_and_tried_again(receiver, webhook, settings):
    settings.WEBHOOK_ALLOW_PRIVATE = False
    hot()
    run_jobs()

    assert receiver.requests == []
    assert "not public" in WebhookDelivery.objects.get().error
    assert len(jobs()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "ftp://example.org:21/",
        "file:///etc/passwd",
        "http:///hooks",
        "http://[",
        "http://a:99999/",
    ],
)
def test_address_that_is_none_is_refused(url):
    with pytest.raises(NotSent):
        webhook_requests.post(url, {}, b"")


def resolve(monkeypatch, *answers: list[str]) -> list[str]:
    """Let names have these addresses, one answer after the other; returns whom it was asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple]:
        addresses = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_name_with_one_address_that_is_not_public_is_refused(monkeypatch):
    resolve(monkeypatch, ["8.8.8.8", "127.0.0.1"])

    with pytest.raises(NotSent, match="not public"):
        webhook_requests.post("http://hooks.example/", {}, b"")


def test_connection_goes_to_the_address_that_was_checked(monkeypatch, receiver):
    asked = resolve(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])

    assert webhook_requests.post(f"http://hooks.example:{receiver.port}/", {}, b"{}") == 204

    assert asked == ["hooks.example"]
    assert receiver.requests[0][1]["Host"] == f"hooks.example:{receiver.port}"


def test_name_that_changes_its_mind_is_checked_for_each_message(monkeypatch, receiver, settings):
    settings.WEBHOOK_ALLOW_PRIVATE = False
    resolve(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    connected: list[str] = []

    async def connect(self: object, request: httpx.Request) -> httpx.Response:
        connected.append(request.url.host)
        return httpx.Response(204)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", connect)
    url = f"http://hooks.example:{receiver.port}/"

    assert webhook_requests.post(url, {}, b"{}") == 204
    with pytest.raises(NotSent, match="not public"):
        webhook_requests.post(url, {}, b"{}")

    assert connected == ["8.8.8.8"]


def test_message_goes_over_ipv6(receiver_over_ipv6):
    url = f"http://[::1]:{receiver_over_ipv6.port}/hooks"

    assert webhook_requests.post(url, {}, b"{}") == 204

    ((path, headers, _),) = receiver_over_ipv6.requests
    assert (path, headers["Host"]) == ("/hooks", f"[::1]:{receiver_over_ipv6.port}")


def test_proxies_of_the_environment_are_not_used(monkeypatch, receiver):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert webhook_requests.post(receiver.url, {}, b"{}") == 204


def test_user_and_password_of_an_address_are_not_sent(receiver):
    assert webhook_requests.post(f"http://ada:secret@127.0.0.1:{receiver.port}/", {}, b"{}") == 204

    ((_, headers, _),) = receiver.requests
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert "Authorization" not in headers


def test_path_that_is_not_ascii_is_encoded(receiver):
    assert (
        webhook_requests.post(f"http://127.0.0.1:{receiver.port}/säule 1?ort=köln", {}, b"{}")
        == 204
    )

    assert receiver.requests[0][0] == "/s%C3%A4ule%201?ort=k%C3%B6ln"


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    """A folder with an authority, `ca.pem`, and its certificate for hooks.example, `leaf.pem`."""
    system_packages.need("openssl")
    folder = tmp_path_factory.mktemp("authority")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500"
    ca = f"openssl req -x509 {key} -subj /CN=Authority -keyout ca.key -out ca.pem"
    leaf = (
        f"openssl req -x509 {key} -subj /CN=hooks.example -CA ca.pem -CAkey ca.key"
        " -addext subjectAltName=DNS:hooks.example -addext basicConstraints=CA:FALSE"
        " -keyout leaf.key -out leaf.pem"
    )
    for command in (ca, leaf):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def names_asked_for(receiver, authority) -> list[str | None]:
    """Let the receiver speak TLS; the names that clients ask a certificate for (SNI)."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "leaf.pem", authority / "leaf.key")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    return names


def trust(monkeypatch, authority: Path) -> None:
    trusting = ssl.create_default_context(cafile=authority / "ca.pem")
    monkeypatch.setattr(webhook_requests, "_tls", lambda: trusting)


def test_certificate_is_that_of_the_name_and_not_of_the_address(
    monkeypatch, receiver, authority, names_asked_for
):
    resolve(monkeypatch, ["127.0.0.1"])
    trust(monkeypatch, authority)

    assert webhook_requests.post(f"https://hooks.example:{receiver.port}/", {}, b"{}") == 204
    with pytest.raises(NotSent, match="certificate verify failed"):
        webhook_requests.post(f"https://other.example:{receiver.port}/", {}, b"{}")
    with pytest.raises(NotSent, match="certificate verify failed"):
        webhook_requests.post(f"https://127.0.0.1:{receiver.port}/", {}, b"{}")

    assert names_asked_for == ["hooks.example", "other.example", None]
    assert [headers["Host"] for _, headers, _ in receiver.requests] == [
        f"hooks.example:{receiver.port}"
    ]


def test_certificate_of_an_unknown_authority_is_refused(monkeypatch, receiver, names_asked_for):
    resolve(monkeypatch, ["127.0.0.1"])

    with pytest.raises(NotSent, match="certificate verify failed"):
        webhook_requests.post(f"https://hooks.example:{receiver.port}/", {}, b"{}")

    assert names_asked_for == ["hooks.example"]
    assert receiver.requests == []


def test_receiver_that_does_not_speak_tls_is_an_error(receiver):
    with pytest.raises(NotSent):
        webhook_requests.post(f"https://127.0.0.1:{receiver.port}/", {}, b"{}")


def test_receiver_has_five_seconds_to_set_up_a_connection(monkeypatch, listener):
    monkeypatch.setattr(webhook_requests, "_CONNECT_TIMEOUT_SECONDS", 0.1)

    with pytest.raises(NotSent, match=r"no connection within 0\.1 seconds"):
        webhook_requests.post(f"https://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}")


# --- Answers ----------------------------------------------------------------------------------


@pytest.fixture
def listener(settings):
    """A server that is no HTTP server, or a slow one: `answer` is all it sends."""
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def answer_with(listener: socket.socket, answer: bytes) -> threading.Thread:
    def serve() -> None:
        peer, _ = listener.accept()
        with peer, suppress(ConnectionError):
            peer.sendall(answer)
            while peer.recv(1000):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_receiver_has_ten_seconds(listener, monkeypatch):
    monkeypatch.setattr(webhook_requests, "TIMEOUT_SECONDS", 0.1)
    thread = answer_with(listener, b"HTTP/1.1 200 O")

    with pytest.raises(NotSent, match=r"no response within 0\.1 seconds"):
        webhook_requests.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}")
    thread.join()


def test_interim_answers_are_passed_over(listener):
    thread = answer_with(
        listener, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n"
    )

    assert webhook_requests.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}") == 202
    thread.join()


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1 ok ok\r\n\r\n"]
)
def test_answer_that_is_no_http_is_an_error(listener, answer):
    thread = answer_with(listener, answer)

    with pytest.raises(NotSent, match="not HTTP"):
        webhook_requests.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}")
    thread.join()


def test_answer_without_an_end_is_an_error(listener):
    thread = answer_with(listener, b"x" * 200_000)

    with pytest.raises(NotSent, match="not HTTP"):
        webhook_requests.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}")
    thread.join()


def test_body_of_an_answer_is_not_read(listener):
    thread = answer_with(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nab")

    assert webhook_requests.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}") == 200
    thread.join()


def test_name_server_has_no_longer_than_the_receiver(monkeypatch):
    monkeypatch.setattr(webhook_requests, "TIMEOUT_SECONDS", 0.1)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait())

    with pytest.raises(NotSent, match=r"no response within 0\.1 seconds"):
        webhook_requests.post("http://hooks.example/", {}, b"{}")
    answered.set()
