"""The engine's log: one JSON object per line, or lines for people on a terminal.

The code logs with the standard library, `log.warning("…", extra={"setting": name})`; of `extra`,
what is in `_FIELDS` is shown. No line contains what a client has sent: an exception in a request is
logged with its type and its place, and an error of the database never with its row.

Imports neither Django nor psycopg: gunicorn logs before it may import either.
"""

import io
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from logging.config import dictConfig
from typing import TYPE_CHECKING, Any, Final, NoReturn

from structlog.processors import JSONRenderer, TimeStamper
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict

from energy_engine import environment
from energy_engine.origin import origin

if TYPE_CHECKING:
    from procrastinate import JobContext
    from procrastinate.worker import Worker

_FIELDS: Final = (
    *("method", "route", "status", "duration_ms", "key_id", "address", "database_pid"),
    *("setting", "where"),
)
# Keys, secrets, tokens and passwords in URLs: they do not belong in a line, and would be there only
# by mistake.
_secret = re.compile(r"(?i)\b(eie_[0-9a-f]+_|whsec_|bearer |://[^/\s:@]*:)[^\s@\"',]+")
_HIDDEN: Final = "***"
_STDERR: Final = 2
# PostgreSQL's class of errors whose first line already quotes a value.
_DATA_EXCEPTION: Final = "22"
log = logging.getLogger(__name__)


def configuration() -> dict[str, Any]:
    """Return the configuration for `logging.config`: LOGGING of the settings."""
    # Each attempt to connect would be a line; what fails because of it logs that itself. Refused
    # requests concern the client; `request_log` logs those that failed, without their path.
    levels = {
        "django.request": "CRITICAL",
        "django.security": "CRITICAL",
        "django.db.backends": "INFO",
        "psycopg.pool": "ERROR",
        "procrastinate": "WARNING",
        "axes": "WARNING",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": _formatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "stream": "ext://sys.__stderr__",
            }
        },
        "root": {"handlers": ["stderr"], "level": environment.read("LOG_LEVEL")},
        "loggers": {name: {"level": level} for name, level in levels.items()},
    }


def is_json() -> bool:
    """Return whether lines are JSON: by LOG_FORMAT, or unless they go to a terminal."""
    chosen = environment.read("LOG_FORMAT")
    return bool(chosen == "json" or (chosen == "auto" and not os.isatty(_STDERR)))


def take_over() -> None:
    """Log what would bypass the log: warnings and uncaught exceptions."""
    warnings.showwarning = _log_warning  # type: ignore[assignment] # accepts the other arguments, and ignores them
    sys.excepthook = lambda *found: _log_uncaught("uncaught exception", found)
    threading.excepthook = lambda thread: _log_uncaught(
        "uncaught exception in a thread",
        (thread.exc_type, thread.exc_value, thread.exc_traceback),
    )


def take_over_output() -> None:
    """Also log what a service prints, such as messages of a library, if lines are JSON."""
    take_over()
    logging.raiseExceptions = False  # it would print the arguments of a line that can't be written
    if is_json():
        sys.stderr = _Printed()


def refuse_to_start(reason: object) -> NoReturn:
    """Report why this process can't start, and end it."""
    try:
        is_for_people = not is_json()
        dictConfig(configuration())
    except environment.InvalidEnvironment:
        is_for_people = True
    if is_for_people:
        sys.exit(f"energy-engine: {reason}")
    log.critical("refused to start: %s", reason)
    sys.exit(1)


def summary(error: BaseException) -> str:
    """Return the type of `error` and its message, in a line, without what a client has sent."""
    said = error.__cause__ if _is_of_django(error) and error.__cause__ else error
    sqlstate = getattr(said, "sqlstate", None)
    words = _words(said, sqlstate, is_request=False).strip().partition("\n")[0] or sqlstate
    name = type(error).__name__
    return _without_secrets(f"{name}: {words}" if words else name)


async def name_job(
    run: Callable[[], Awaitable[Any]], context: "JobContext", _worker: "Worker"
) -> Any:
    """Mark everything that a job logs or sends to PostgreSQL with the job's name and number."""
    token = origin.set(_job(context.job.task_name, context.job.id))
    try:
        return await run()
    finally:
        origin.reset(token)


def _job(task_name: str, job_id: int | None) -> dict[str, str]:
    return {"job": task_name.rpartition(".")[2], "job_id": str(job_id)}


# --- What would bypass the log ----------------------------------------------------------------


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    # Its message may quote a value.
    said = category.__name__ if origin.get() else f"{category.__name__}: {message}"
    log.warning("%s", said, extra={"where": f"{_short(filename)}:{lineno}"})


def _log_uncaught(event: str, found: tuple[Any, Any, Any]) -> None:
    if issubclass(found[0], KeyboardInterrupt | SystemExit):
        sys.__excepthook__(*found)
    else:
        log.critical(event, exc_info=found)


class _Printed(io.TextIOBase):
    """Replaces standard error: each line that is printed there is logged."""

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = f"{self._begun}{text}".split("\n")
        for line in filter(str.strip, lines):
            log.info("printed: %s", line)
        return len(text)

    def fileno(self) -> int:
        return _STDERR


# --- Lines ------------------------------------------------------------------------------------


def _formatter() -> ProcessorFormatter:
    return ProcessorFormatter(
        foreign_pre_chain=[
            TimeStamper(fmt="iso", utc=True),
            add_log_level,
            add_logger_name,
            _add_origin,
            ExtraAdder(_FIELDS),
            _add_exception,
            _hide_secrets,
        ],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            # In ASCII: no character of a value can end the line or control a terminal.
            JSONRenderer() if is_json() else _as_text,
        ],
    )


def _add_origin(_logger: object, _level: str, line: EventDict) -> EventDict:
    event, source = line.pop("event"), origin.get()
    job = getattr(line["_record"], "job", None)
    if isinstance(job, dict):  # procrastinate's messages contain the job's arguments and result
        event = event.replace(job["call_string"], job["task_name"]).partition(" - Result")[0]
        source = _job(job["task_name"], job["id"])
    line.update(event=event, **source)
    return line


def _add_exception(_logger: object, _level: str, line: EventDict) -> EventDict:
    found = line.pop("exc_info", None)
    line.pop("stack_info", None)
    if found and found[1] is not None:
        is_request = "request_id" in line
        line["exception"] = [_told(error, is_request) for error in _chain(found[1])]
    return line


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and its causes, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _told(error: BaseException, is_request: bool) -> dict[str, Any]:
    kind = type(error)
    frames = [
        f"{_short(frame.filename)}:{frame.lineno} {frame.name}"
        for frame in traceback.StackSummary.extract(
            traceback.walk_tb(error.__traceback__), lookup_lines=False
        )
    ]
    told = {"type": f"{kind.__module__}.{kind.__qualname__}", "frames": frames}
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate:
        told["sqlstate"] = sqlstate
    return told | {"message": words} if (words := _words(error, sqlstate, is_request)) else told


def _words(error: BaseException, sqlstate: str | None, is_request: bool) -> str:
    """Return the message of `error`, without what a client has sent."""
    kind = type(error)
    if _is_of_django(error):
        return ""  # it repeats the driver's error, which caused it
    if sqlstate:
        # Only its first line: the others contain the row, or the statement with its values.
        diagnosis: Any = error
        quotes_a_value = sqlstate.startswith(_DATA_EXCEPTION)
        return "" if quotes_a_value else str(diagnosis.diag.message_primary)
    is_away = kind.__module__.startswith("psycopg") and "OperationalError" in map(_name, kind.mro())
    return "" if is_request and not is_away else str(error)


def _is_of_django(error: BaseException) -> bool:
    return type(error).__module__.startswith("django.db")


def _name(kind: type) -> str:
    return kind.__name__


def _short(filename: str) -> str:
    """Return a path relative to the project, or to where packages are installed."""
    below = filename.removeprefix(f"{environment.ROOT}/").partition("site-packages/")
    return below[2] or below[0]


def _hide_secrets(_logger: object, _level: str, line: EventDict) -> EventDict:
    line["event"] = _without_secrets(line["event"])
    for error in line.get("exception", ()):
        error |= {"message": _without_secrets(error["message"])} if "message" in error else {}
    return line


def _without_secrets(text: str) -> str:
    return _secret.sub(rf"\g<1>{_HIDDEN}", text)


def _as_text(_logger: object, _level: str, line: EventDict) -> str:
    exception = line.pop("exception", ())
    head = (str(line.pop(name)) for name in ("timestamp", "level", "logger", "event"))
    said = "{} {} {}: {}".format(*map(_printable, head))
    rest = [f"{name}={_printable(str(value))}" for name, value in line.items()]
    places = [
        f"\n  {_printable(': '.join((error['type'], error.get('message', ''))))}"
        + "".join(f"\n    {_printable(frame)}" for frame in error["frames"])
        for error in exception
    ]
    return " ".join([said, *rest]) + "".join(places)


def _printable(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
