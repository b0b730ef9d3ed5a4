"""Take in a stream of readings: one JSON object per line, any length, in constant memory."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from django.conf import settings
from django.utils import timezone
from rest_framework.exceptions import APIException

from fleet.access.keyring import Grant
from fleet.access.limits import LimitExceeded, take_most_readings
from fleet.http.body import BodyTooLarge
from ingestion.clock_offsets import clock_offsets
from ingestion.decoding import decode_lines
from ingestion.external_ids import external_ids
from ingestion.group_commit import ALONE_FROM_READINGS
from ingestion.intake import (
    MAX_LISTED_ERRORS,
    Outcome,
    count_rejected,
    moved,
    record_known,
    reject_out_of_reach,
)
from ingestion.lanes import Lanes
from ingestion.readings import MAX_LINE_BYTES, Decoded, DeviceKind
from ingestion.server_clock import server_clock

# However few readings these are.
MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
# Chunks of a stream that may be in progress while the next one is read; this bounds memory.
CHUNKS_AHEAD: Final = 1

# Shared by the process: concurrent streams wait their turn here, and don't time out on connections.
_lanes = Lanes("stream")


class LineTooLong(BodyTooLarge):
    """A line that is longer than any reading."""

    default_detail = f"A line may have at most {MAX_LINE_BYTES:,} bytes"


class StreamInterrupted(Exception):
    """A stream failed before its end; `outcome` counts what was accepted and rejected until then.

    Each of its first `lines` lines is stored or rejected for good; send those after them again.
    """

    def __init__(self, cause: Exception, outcome: Outcome, lines: int) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.outcome = outcome
        self.lines = lines


def take_in_stream(
    blocks: Iterable[bytes], grant: Grant, kind: DeviceKind | None, drops_optional: bool = False
) -> Outcome:
    """Record the valid readings among the lines of `blocks`, committing a chunk at a time.

    A reading without a timestamp gets the time at which its chunk was read. An item's index is the
    number of its line, counted from 0.
    Errors: `StreamInterrupted`, with the cause; every chunk before it is stored. If the key reaches
    its limit for this minute, the cause is `LimitExceeded`, and all readings within the limit are
    stored: waiting here could block a request of the process for minutes.
    """
    outcome = Outcome(0, 0, [])
    begun: deque[_Begun] = deque()
    first_line = lines_done = 0
    try:
        for chunk in _chunks(blocks, settings.INGEST_STREAM_CHUNK_READINGS):
            begun.append(_begin(chunk, grant, kind, first_line, drops_optional))
            first_line = begun[-1].next_line
            if begun[-1].is_cut:
                raise LimitExceeded("readings", settings.LIMIT_READINGS_PER_KEY)
            while len(begun) > CHUNKS_AHEAD:
                lines_done = _finish(begun.popleft(), outcome, lines_done)
        while begun:
            lines_done = _finish(begun.popleft(), outcome, lines_done)
        count_rejected(kind, outcome.rejected)
    except Exception as cause:
        for started in begun:  # stored all the same, or failed for the same cause
            with suppress(Exception):
                lines_done = _finish(started, outcome, lines_done)
        raise StreamInterrupted(cause, outcome, lines_done) from cause
    return outcome


class _Begun(NamedTuple):
    """A chunk that is being written: what is done, and the parts that are still in progress."""

    first_line: int
    next_line: int
    is_cut: bool
    done: Decoded
    parts: list[Future[Decoded]]


def _begin(
    chunk: bytes, grant: Grant, kind: DeviceKind | None, first_line: int, drops_optional: bool
) -> _Begun:
    received_at = timezone.now()
    with clock_offsets.applied():
        decoded = decode_lines(chunk, kind, received_at, drops_optional)
    server_clock.notice(decoded, grant, received_at)
    count = len(decoded.readings) + len(decoded.errors)
    allowed = take_most_readings(grant.key_id, count)
    is_cut = allowed < count
    next_line = first_line + (_cut(decoded, allowed) if is_cut else chunk.count(b"\n"))
    external_ids.resolve(decoded)
    reject_out_of_reach(decoded, grant)
    record = partial(record_known, grant=grant)
    if len(decoded.readings) < ALONE_FROM_READINGS:
        record(decoded, received_at)  # shares its commit with other requests
        return _Begun(first_line, next_line, is_cut, decoded, [])
    parts = _lanes.submit(decoded, received_at, record)
    not_readings = Decoded([], [], decoded.errors, is_array=True, dropped=decoded.dropped)
    return _Begun(first_line, next_line, is_cut, not_readings, parts)


def _cut(decoded: Decoded, count: int) -> int:
    """Keep the first `count` items of `decoded`; return the line of the first one removed."""
    line = sorted([*decoded.indexes, *(error.index for error in decoded.errors)])[count]
    kept = bisect_left(decoded.indexes, line)
    decoded.readings, decoded.indexes = decoded.readings[:kept], decoded.indexes[:kept]
    decoded.errors = [error for error in decoded.errors if error.index < line]
    decoded.strangers = [one for one in decoded.strangers if one.error.index < line]
    return line


def _finish(begun: _Begun, outcome: Outcome, lines_done: int) -> int:
    """Wait until a chunk is committed, and count it; after an error, count the committed part.

    Returns how many lines from the first one on are done; before this chunk, `lines_done` were.
    """
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
    outcome.errors += [moved(error, begun.first_line) for error in errors[:room]]
    if dropped := begun.done.dropped:
        stored = {index for part in done for index in part.indexes}
        outcome.warn(dropped, stored, begun.first_line)
    if failed:
        raise failed
    return begun.next_line if begun.first_line == lines_done else lines_done


def _chunks(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield complete lines, about `lines` of them at a time; also those before an error."""
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
    """Require a short first line; the other lines are within one block.

    Errors: `LineTooLong`.
    """
    end = received.find(b"\n")
    if (end if end >= 0 else len(received)) > MAX_LINE_BYTES:
        raise LineTooLong
