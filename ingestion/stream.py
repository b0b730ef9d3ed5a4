"""Take a stream of readings in: one JSON object per line, any length, in constant memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, NamedTuple

from django.conf import settings
from django.utils import timezone
from rest_framework.exceptions import APIException

from fleet.body import BLOCK_BYTES, BodyTooLarge
from fleet.keys import Grant
from fleet.limits import take_readings
from ingestion.group_commit import ALONE_FROM_READINGS
from ingestion.intake import (
    MAX_LISTED_ERRORS,
    Outcome,
    count_rejected,
    record_known,
    reject_out_of_reach,
)
from ingestion.lanes import Lanes
from ingestion.readings import Decoded, ItemError, Kind, decode_lines

MAX_LINE_BYTES: Final = BLOCK_BYTES
# However few readings that is.
MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
# What a stream has on its way at most, while the next chunk is read: memory is bounded by it.
CHUNKS_AHEAD: Final = 1

# Of the whole process: many streams at once wait for their turn, not for a connection in vain.
_lanes = Lanes("stream")


class LineTooLong(BodyTooLarge):
    """A line that is longer than any reading."""

    default_detail = f"A line may have at most {MAX_LINE_BYTES:,} bytes"


class StreamInterrupted(Exception):
    """A stream that could not be taken in to its end; `outcome` says what became of its start."""

    def __init__(self, cause: Exception, outcome: Outcome) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.outcome = outcome


def take_in_stream(blocks: Iterable[bytes], grant: Grant, kind: Kind | None) -> Outcome:
    """Record the good readings among the lines of `blocks`, a chunk at a time, each committed.

    A reading without a timestamp gets the time at which its chunk was read. An item's index is the
    number of its line, counted from 0.
    Errors: `StreamInterrupted`, with the cause; every chunk before it is stored.
    """
    outcome = Outcome(0, 0, [])
    begun: deque[_Begun] = deque()
    first_line = 0
    try:
        for chunk in _chunks(blocks, settings.INGEST_STREAM_CHUNK_READINGS):
            begun.append(_begin(chunk, grant, kind, first_line))
            first_line += chunk.count(b"\n")
            while len(begun) > CHUNKS_AHEAD:
                _finish(begun.popleft(), outcome)
        while begun:
            _finish(begun.popleft(), outcome)
        count_rejected(kind, outcome.rejected)
    except Exception as cause:
        for started in begun:  # it is stored all the same, or fails for the same cause
            with suppress(Exception):
                _finish(started, outcome)
        raise StreamInterrupted(cause, outcome) from cause
    return outcome


class _Begun(NamedTuple):
    """A chunk on its way into the database: what is done with already, and what is not yet."""

    first_line: int
    done: Decoded
    parts: list[Future[Decoded]]


def _begin(chunk: bytes, grant: Grant, kind: Kind | None, first_line: int) -> _Begun:
    received_at = timezone.now()
    decoded = decode_lines(chunk, kind, received_at)
    take_readings(grant.key_id, len(decoded.readings) + len(decoded.errors))
    reject_out_of_reach(decoded, grant)
    if len(decoded.readings) < ALONE_FROM_READINGS:
        record_known(decoded, received_at)  # shares its commit with other requests
        return _Begun(first_line, decoded, [])
    parts = _lanes.submit(decoded, received_at, record_known)
    return _Begun(first_line, Decoded([], [], decoded.errors, is_array=True), parts)


def _finish(begun: _Begun, outcome: Outcome) -> None:
    """Wait until a chunk is committed, and count it; as much of it as was, before an error."""
    done = [begun.done]
    failed = None
    for part in begun.parts:
        try:
            done.append(part.result())
        except Exception as error:
            failed = error
    outcome.accepted += sum(len(part.readings) for part in done)
    errors = sorted((error for part in done for error in part.errors), key=lambda e: e.index)
    outcome.rejected += len(errors)
    room = MAX_LISTED_ERRORS - len(outcome.errors)
    outcome.errors += [_moved(error, begun.first_line) for error in errors[:room]]
    if failed:
        raise failed


def _moved(error: ItemError, first_line: int) -> ItemError:
    return ItemError(first_line + error.index, error.field, error.code, error.message)


def _chunks(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield whole lines, about `lines` of them at a time; also those before an error."""
    whole: list[bytes] = []
    count, size, rest = 0, 0, b""
    try:
        for block in blocks:
            received = rest + block
            _require_short_line(received)
            complete, newline, rest = received.rpartition(b"\n")
            whole.append(complete + newline)
            count += block.count(b"\n")
            size += len(block)
            if count >= lines or size >= MAX_CHUNK_BYTES:
                yield b"".join(whole)
                whole, count, size = [], 0, 0
    except APIException:
        yield b"".join(whole)
        raise
    yield b"".join(whole) + rest


def _require_short_line(received: bytes) -> None:
    """Pass bytes whose first line is short; the others lie within a block.

    Errors: `LineTooLong`.
    """
    end = received.find(b"\n")
    if (end if end >= 0 else len(received)) > MAX_LINE_BYTES:
        raise LineTooLong
