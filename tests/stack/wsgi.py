"""The engine as gunicorn serves it, at the instant that a test says in a header.

For tests alone: the product knows no such header.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import time_machine

from energy_engine.wsgi import application as engine


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    instant = environ.pop("HTTP_X_TEST_CLOCK", None)
    if instant is None:
        return engine(environ, start_response)
    with time_machine.travel(datetime.fromisoformat(instant), tick=False):
        answer = engine(environ, start_response)
        try:
            return [b"".join(answer)]
        finally:
            answer.close()
