"""Readings sent without pause by many clients, and what became of each request."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, IncompleteRead, RemoteDisconnected


class Load:
    """Clients that post a reading each, again and again, from `start` to `stop`.

    No client sends anything a second time: a request without a whole answer counts as one.
    """

    def __init__(self, connect: Callable[[], HTTPConnection], key: str, clients: int = 8) -> None:
        self.answers: Counter[int] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.broken: list[str] = []
        self._connect = connect
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=[number]) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def requests(self) -> int:
        return self.answers.total() + self.unanswered.total() + len(self.broken)

    def _send(self, number: int) -> None:
        with closing(self._connect()) as connection:
            self._send_over(connection, number)

    def _send_over(self, connection: HTTPConnection, number: int) -> None:
        body = json.dumps({"vehicleId": f"LOAD-{number}", "kwhDeliveredDc": 1})
        while not self._stopping.is_set():
            try:
                connection.request("POST", "/v1/ingest", body, self._headers)
                answer = connection.getresponse()
                json.loads(answer.read())
                self.answers[answer.status] += 1
                if answer.status != HTTPStatus.CREATED:
                    self._stopping.wait(0.05)  # as a client that is told to come again later
            except (IncompleteRead, ValueError) as error:
                self.broken.append(repr(error))
                connection.close()
            except RemoteDisconnected:
                self.unanswered["closed before an answer"] += 1
                connection.close()
            except OSError as error:
                self.unanswered[type(error).__name__] += 1
                connection.close()
                self._stopping.wait(0.05)  # refused at once, thousands of times a second
            except HTTPException as error:
                self.broken.append(repr(error))
                connection.close()
