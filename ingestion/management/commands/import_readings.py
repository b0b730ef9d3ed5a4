"""Import readings from files, by the rules of the API, while the engine keeps running."""

import csv
import gc
import os
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import msgspec
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone
from tqdm import tqdm

from fleet.stores.batching import Overloaded
from fleet.stores.statements import Statement
from ingestion.files.formats import Unreadable, format_of
from ingestion.files.reading import Block, blocks, decode_block
from ingestion.history.archive import ArchiveFailed, fetch
from ingestion.history.retention import restore
from ingestion.history.retention.tables import RetentionFailed
from ingestion.intake import record_known
from ingestion.lanes import Lanes
from ingestion.readings import Decoded, ItemError, of_any_age
from ingestion.sql import STATEMENTS

BLOCKS_AHEAD: Final = 3
# With the waits between them about 6 seconds, in which PostgreSQL may restart.
ATTEMPTS: Final = 6

_NOT_NOW: Final = (OperationalError, InterfaceError, Overloaded)
_identity = Statement(STATEMENTS / "database_identity.sql")


class Command(BaseCommand):
    """Record the readings of files; report rejected lines and continue."""

    help = (
        "Import readings from CSV, NDJSON (either also gzipped) or Parquet files, whose columns "
        "are named as in the API. Importing a file again changes no figures."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE")
        parser.add_argument(
            "--archived",
            action="store_true",
            help="restore files from the archive: accept readings of any age; FILE may be a URL",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with _no_search_for_cycles():
                if options["archived"]:
                    self._bring_back(options["files"])
                else:
                    self._take([Path(file) for file in options["files"]])
        except (Unreadable, ArchiveFailed, RetentionFailed) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None

    def _take(self, paths: list[Path]) -> None:
        for path in paths:
            format_of(path.name)
            path.open("rb").close()
        for path in paths:
            self.stdout.write(_import(path))

    def _bring_back(self, files: list[str]) -> None:
        with restore.bringing_back(), of_any_age():
            for file in files:
                with TemporaryDirectory() as folder:
                    self._bring_back_one(fetch(file, Path(folder)) if "://" in file else Path(file))

    def _bring_back_one(self, path: Path) -> None:
        self._take([path])
        if _Report.of(path).exists():
            raise RetentionFailed(f"{path.name} is not completely restored: lines were rejected")
        restore.bring_back(path.name)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Disable garbage collection: its search through millions of cells takes half of CSV's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Done(msgspec.Struct, frozen=True):
    """How far a file has been imported: all of this is committed."""

    last_line: int = 0
    position_bytes: int = 0
    accepted: int = 0
    rejected: int = 0
    report_bytes: int = 0

    @property
    def lines(self) -> int:
        return self.accepted + self.rejected


def _import(path: Path) -> str:
    """Import one file; return a summary. Errors: `Unreadable`, `CommandError`."""
    began = time.perf_counter()
    checkpoint = _Checkpoint(path)
    start = done = checkpoint.load()
    report = _Report(path, start.report_bytes)
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(_progress(path, start))
            lanes = stack.enter_context(Lanes("import"))
            for written in _ahead(_written(path, start.last_line, lanes)):
                done = written.outcome(done, report)
                checkpoint.save(done)
                _show(progress, start, done)
    except (*_NOT_NOW, KeyboardInterrupt) as error:
        raise CommandError(f"{_reason(error)}; {_how_to_go_on(path, done)}") from None
    except Unreadable as error:
        raise Unreadable(f"{error}; {_how_to_go_on(path, done)}" if done.lines else error) from None
    checkpoint.clear()
    return _summary(path, start, done, report, time.perf_counter() - began)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Stopped"
    return f"The database is not available: {error or type(error).__name__}"


def _how_to_go_on(path: Path, done: _Done) -> str:
    return (
        f"{path} is imported up to line {done.last_line:,}; "
        "run the same command to continue from there, nothing counts twice"
    )


def _summary(path: Path, start: _Done, done: _Done, report: "_Report", seconds: float) -> str:
    rate = (done.lines - start.lines) / max(seconds, 1e-3)
    lines = [f"{path}: {done.accepted:,} readings in {seconds:.1f} s: {rate:,.0f} readings/s"]
    if start.lines:
        lines.append(f"  continued after line {start.last_line:,}, where an earlier run stopped")
    if done.rejected:
        lines.append(f"  {done.rejected:,} lines rejected; see {report.path} for the reasons")
    return "\n".join(lines)


# --- Blocks ------------------------------------------------------------------------------------


class _Written(NamedTuple):
    """A block that is being written to the database."""

    path: Path
    block: Block
    decoded: Decoded
    parts: "list[Future[Decoded]]"

    def outcome(self, before: _Done, report: "_Report") -> _Done:
        """Wait until the block is committed; report its rejected lines; return the new progress."""
        parts = [part.result() for part in self.parts]
        errors = [error for part in parts for error in part.errors] + self.decoded.errors
        report.write(sorted(errors, key=lambda error: error.index))
        return _Done(
            last_line=self.block.last_line,
            position_bytes=self.block.position_bytes,
            accepted=before.accepted + sum(len(part.readings) for part in parts),
            rejected=before.rejected + len(errors),
            report_bytes=report.size_bytes,
        )


def _written(path: Path, after_line: int, lanes: Lanes) -> Iterator[_Written]:
    """Yield the blocks of a file, each submitted to the lanes and not waited for."""
    for block in blocks(path, after_line):
        received_at = timezone.now()
        decoded = decode_block(block, received_at)
        _require_readings(path, block, decoded)
        yield _Written(path, block, decoded, lanes.submit(decoded, received_at, _record))


def _ahead(written: Iterator[_Written]) -> Iterator[_Written]:
    """Yield the same blocks, a few blocks behind; after an error, first the blocks before it."""
    waiting: deque[_Written] = deque()
    try:
        for block in written:
            waiting.append(block)
            if len(waiting) > BLOCKS_AHEAD:
                yield waiting.popleft()
    except Unreadable:
        yield from waiting
        raise
    yield from waiting


def _require_readings(path: Path, block: Block, decoded: Decoded) -> None:
    """Errors: `Unreadable`, if not one of the first lines is a JSON object."""
    is_first = bool(block.lines) and block.lines[0] <= len(block.lines)
    if is_first and len(decoded.errors) == len(block.lines):
        first = decoded.errors[0]
        if all(error.code == "malformed_json" for error in decoded.errors):
            raise Unreadable(f"{path} has no readings: line {first.index} is {first.message}")


def _record(part: Decoded, received_at: datetime) -> None:
    """Record `part`; retry if PostgreSQL restarts meanwhile.

    A retry is safe: if the delivery was committed after all, the second one counts.
    """
    attempt = 1
    while True:
        try:
            record_known(part, received_at)
            return
        except _NOT_NOW:
            if attempt == ATTEMPTS:
                raise
            connection.close()
            time.sleep(0.1 * 2**attempt)
            attempt += 1


# --- Beside the file ---------------------------------------------------------------------------


class _Report:
    """`FILE.rejected.csv`: the rejected lines; absent if there are none."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Keep the first `size_bytes` of an earlier report."""
        self.path = self.of(path)
        if size_bytes and self.path.exists():
            os.truncate(self.path, size_bytes)
        else:
            self.path.unlink(missing_ok=True)

    @staticmethod
    def of(path: Path) -> Path:
        return path.with_name(f"{path.name}.rejected.csv")

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def write(self, errors: list[ItemError]) -> None:
        if not errors:
            return
        is_new = not self.path.exists()
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(("line", "field", "code", "message"))
            writer.writerows((e.index, e.field, e.code, e.message) for e in errors)


class _Checkpoint:
    """`FILE.progress.json`: how far a file is imported into this database; removed at the end.

    It is ignored for another file or another database.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.with_name(f"{path.name}.progress.json")
        status = path.stat()
        self._of = f"{status.st_size}/{status.st_mtime_ns}/{_database_identity()}"

    def load(self) -> _Done:
        try:
            saved = msgspec.json.decode(self._file.read_bytes(), type=_Saved)
        except (FileNotFoundError, msgspec.DecodeError):
            return _Done()
        return saved.done if saved.of == self._of else _Done()

    def save(self, done: _Done) -> None:
        new = self._file.with_name(f"{self._file.name}.new")
        new.write_bytes(msgspec.json.encode(_Saved(self._of, done)))
        new.replace(self._file)

    def clear(self) -> None:
        self._file.unlink(missing_ok=True)


class _Saved(msgspec.Struct):
    """The contents of a checkpoint."""

    of: str
    done: _Done


def _database_identity() -> str:
    try:
        (row,) = _identity.rows({})
    except _NOT_NOW as error:
        raise CommandError(f"The database is not available: {error}") from None
    finally:
        connection.close()
    return str(row.identity)


# --- Progress ----------------------------------------------------------------------------------


def _progress(path: Path, start: _Done) -> Any:
    return tqdm(
        total=path.stat().st_size,
        initial=start.position_bytes,
        desc=path.name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
    )


def _show(progress: Any, start: _Done, done: _Done) -> None:
    seconds = max(progress.format_dict["elapsed"], 1e-3)
    rate = (done.lines - start.lines) / seconds
    progress.set_postfix_str(f"{rate:,.0f} readings/s", refresh=False)
    progress.update(done.position_bytes - progress.n)
