"""What a worker does with more requests than it can serve: it says so at once, and stays reachable.

One worker, whose writes a lock in the database holds up, so that requests stay in hand.
"""

import json
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from energy_engine.server.admission import MOST_IN_HAND, is_whole
from tests.engine.conftest import Engine, wait_until
from tests.engine.wire import Answer, answer_to, answers_on, connected, post, reading_for

PATH = "/v1/ingest/vehicle"
ONE_READING = post(PATH, reading_for(PATH))
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
MORE = 300
PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # this process holds the clients
    engine = Engine(tmp_path_factory.mktemp("admission"), WEB_WORKERS="1").start()
    yield engine
    try:
        engine.assert_well()
    finally:
        engine.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def writes_held_up(engine: Engine) -> Iterator[None]:
    """Let no reading be stored meanwhile."""
    with engine.connected() as connection:
        connection.execute("LOCK TABLE fleet_vehiclelivestate")
        yield
        connection.rollback()


class Crowd:
    """Clients that have sent the same request, each on a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[socket.socket] = []

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._waiting:
            client.close()

    def send(self, size: int, request: bytes) -> None:
        self._waiting = [connected(self._engine, PATIENCE_SECONDS) for _ in range(size)]
        for client in self._waiting:
            client.sendall(request)

    def answers(self, count: int | None = None) -> list[Answer]:
        """Return the next answers, `count` or more, in the order in which they come; else all."""
        answers: list[Answer] = []
        poll = select.poll()
        by_file = {client.fileno(): client for client in self._waiting}
        for file in by_file:
            poll.register(file, select.POLLIN)
        while by_file and (count is None or len(answers) < count):
            ready = poll.poll(PATIENCE_SECONDS * 1000)
            assert ready, f"{len(by_file)} clients got no answer"
            for file, _ in ready:
                poll.unregister(file)
                client = by_file.pop(file)
                self._waiting.remove(client)
                answers.append(_only_answer(client))
                client.close()
        return answers


def _only_answer(client: socket.socket) -> Answer:
    client.shutdown(socket.SHUT_WR)
    (answer,) = answers_on(client)
    return answer


def is_refusal(answer: Answer) -> bool:
    answer.is_error(503, "overloaded", answer.body["path"])
    return 1 <= int(answer.headers["Retry-After"]) <= 5


def test_what_is_too_much_is_refused_while_the_rest_waits(engine):
    with Crowd(engine) as crowd:
        with writes_held_up(engine):
            crowd.send(MOST_IN_HAND + MORE, ONE_READING)
            at_once = crowd.answers(MORE - 50)
            live = answer_to(engine, LIVE)
        later = crowd.answers()

    assert all(is_refusal(answer) for answer in at_once)
    assert {answer.body["path"] for answer in at_once} == {""}  # Django has not seen them
    assert live.status == 200
    assert all(answer.status == 201 or is_refusal(answer) for answer in later)
    assert any(answer.status == 201 for answer in later)
    assert answer_to(engine, ONE_READING).status == 201


def test_refused_client_may_send_again_on_its_connection(engine):
    with connected(engine) as client, Crowd(engine) as crowd:
        assert exchange(client, ONE_READING)[0] == 201
        with writes_held_up(engine):
            crowd.send(MOST_IN_HAND + MORE, ONE_READING)
            crowd.answers(1)
            status, headers = exchange(client, ONE_READING)
        crowd.answers()

        assert status == 503
        assert "connection" not in headers
        assert exchange(client, ONE_READING)[0] == 201


def test_refused_client_reads_its_answer_while_it_sends_a_large_body(engine):
    body = b"[%s]" % b",".join([reading_for(PATH)] * 100_000)
    with Crowd(engine) as crowd:
        with writes_held_up(engine):
            crowd.send(MOST_IN_HAND + MORE, ONE_READING)
            crowd.answers(1)
            answer = answer_to(engine, post(f"{PATH}/batch", body))
        crowd.answers()

    assert is_refusal(answer)


def test_clients_that_dawdle_take_no_place(engine):
    with Crowd(engine) as crowd:
        crowd.send(MOST_IN_HAND + MORE, ONE_READING[:-5])
        # They are dropped after 20 s; while they arrive, all at once, they are many.
        wait_until(lambda: answer_to(engine, ONE_READING).status == 201, 10, "to be served")


def test_console_and_health_checks_have_places_of_their_own(engine):
    with Crowd(engine) as crowd:
        with writes_held_up(engine):
            crowd.send(MOST_IN_HAND + MORE, ONE_READING)
            crowd.answers(1)
            statuses = [status_of(engine, path) for path in ("/admin/login/", "/health/live") * 5]
        crowd.answers()

    assert statuses == [200] * 10


def test_worker_out_of_file_descriptors_refuses_and_recovers(engine):
    (_, worker) = sorted(engine.processes_of("gunicorn"), key=lambda process: process.pid)
    limits = worker.rlimit(psutil.RLIMIT_NOFILE)
    wait_until(lambda: not has_clients(worker), PATIENCE_SECONDS, "to close connections")
    with connected(engine) as client:
        assert exchange(client, ONE_READING)[0] == 201
        worker.rlimit(psutil.RLIMIT_NOFILE, (lowest_free_file(worker), limits[1]))
        try:
            refused = [answer_to(engine, ONE_READING) for _ in range(20)]
            still_served = exchange(client, ONE_READING)[0]
        finally:
            worker.rlimit(psutil.RLIMIT_NOFILE, limits)

    assert all(is_refusal(answer) for answer in refused)
    assert still_served == 201
    assert answer_to(engine, ONE_READING).status == 201


@pytest.mark.parametrize(
    ("first_bytes", "whole"),
    [
        (LIVE, True),
        (ONE_READING, True),
        (ONE_READING[:-1], False),
        (ONE_READING + b"G", False),
        (ONE_READING.replace(b"Content-Length", b"content-length"), True),
        (LIVE[:-1], False),
        (post(PATH, b"0\r\n\r\n", "Transfer-Encoding: chunked", length=None), False),
        (post(PATH, b"", "Expect: 100-continue"), False),
    ],
)
def test_request_is_whole_if_nothing_is_missing_and_nothing_follows(first_bytes, whole):
    assert is_whole(first_bytes) is whole


def status_of(engine: Engine, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", engine.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def has_clients(worker: psutil.Process) -> bool:
    return any(of.status != psutil.CONN_LISTEN for of in worker.net_connections("tcp"))


def lowest_free_file(process: psutil.Process) -> int:
    """Return the descriptor that the next file of `process` would get."""
    open_files = {int(file.name) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
    return next(number for number in range(len(open_files) + 1) if number not in open_files)


def exchange(client: socket.socket, request: bytes) -> tuple[int, dict[str, str]]:
    """Send a request on a connection that stays open; return status and headers, in lower case."""
    client.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received or b"}" not in received.split(b"\r\n\r\n", 1)[1]:
        part = client.recv(65536)
        assert part, received
        received += part
    head, body = received.split(b"\r\n\r\n", 1)
    json.loads(body)
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:])
