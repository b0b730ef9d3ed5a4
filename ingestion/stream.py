"""Take a stream of readings in: one JSON object per line, any length, in constant memory."""

from collections.abc import Iterable, Iterator
from typing import Final

from django.conf import settings
from django.utils import timezone
from rest_framework.exceptions import APIException

from fleet.body import BodyTooLarge
from ingestion.intake import MAX_LISTED_ERRORS, Outcome, record_known
from ingestion.readings import ItemError, Kind, decode_lines

MAX_LINE_BYTES: Final = 64 * 1024
# However few readings that is.
MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024


class LineTooLong(BodyTooLarge):
    """A line that is longer than any reading."""

    default_detail = f"A line may have at most {MAX_LINE_BYTES:,} bytes"


class StreamInterrupted(Exception):
    """A stream that could not be taken in to its end; `outcome` says what became of its start."""

    def __init__(self, cause: Exception, outcome: Outcome) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.outcome = outcome


def take_in_stream(blocks: Iterable[bytes], kind: Kind | None) -> Outcome:
    """Record the good readings among the lines of `blocks`, a chunk at a time, each committed.

    A reading without a timestamp gets the time at which its chunk was read. An item's index is the
    number of its line, counted from 0.
    Errors: `StreamInterrupted`, with the cause; every chunk before it is stored.
    """
    outcome = Outcome(0, 0, [])
    first_line = 0
    try:
        for chunk in _chunks(blocks, settings.INGEST_STREAM_CHUNK_READINGS):
            _take_in_chunk(chunk, kind, first_line, outcome)
            first_line += chunk.count(b"\n")
    except Exception as cause:
        raise StreamInterrupted(cause, outcome) from cause
    return outcome


def _take_in_chunk(chunk: bytes, kind: Kind | None, first_line: int, outcome: Outcome) -> None:
    received_at = timezone.now()
    decoded = decode_lines(chunk, kind, received_at)
    record_known(decoded, received_at)
    outcome.accepted += len(decoded.readings)
    outcome.rejected += len(decoded.errors)
    room = MAX_LISTED_ERRORS - len(outcome.errors)
    outcome.errors += [_moved(error, first_line) for error in decoded.errors[:room]]


def _moved(error: ItemError, first_line: int) -> ItemError:
    return ItemError(first_line + error.index, error.field, error.code, error.message)


def _chunks(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield whole lines, about `lines` of them at a time; also those before an error."""
    whole: list[bytes] = []
    count, size, rest = 0, 0, b""
    try:
        for block in blocks:
            complete, newline, begun = (rest + block).rpartition(b"\n")
            whole.append(complete + newline)
            count += block.count(b"\n")
            rest = begun
            _require_short(rest)
            size += len(block)
            if count >= lines or size >= MAX_CHUNK_BYTES:
                yield b"".join(whole)
                whole, count, size = [], 0, 0
    except APIException:
        yield b"".join(whole)
        raise
    yield b"".join(whole) + rest


def _require_short(line: bytes) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise LineTooLong
