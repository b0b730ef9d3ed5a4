"""Import readings from files, by the rules of the API, while the engine keeps running."""

import gc
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import deque
from collections.abc import Collection, Iterator
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
from ingestion.decoding import of_any_age
from ingestion.external_ids import external_ids
from ingestion.files.formats import Unreadable
from ingestion.files.mapping import FORMATS, Map, read_map
from ingestion.files.reading import Block, decode_block
from ingestion.files.source import Source
from ingestion.files.spreadsheets import refuse, written_as_numbers
from ingestion.history.archive import ArchiveFailed, fetch
from ingestion.history.retention import restore
from ingestion.history.retention.tables import RetentionFailed
from ingestion.importing import summary
from ingestion.importing.beside import Checkpoint, Done, Report
from ingestion.importing.registry import Registry, known
from ingestion.intake import record_known
from ingestion.lanes import Lanes
from ingestion.readings import Decoded
from ingestion.sql import STATEMENTS

BLOCKS_AHEAD: Final = 3
# With the waits between them about 6 seconds, in which PostgreSQL may restart.
ATTEMPTS: Final = 6
SHOWN: Final = 10

_DROPPED: Final = "invalid optional fields left out (INGEST_BAD_OPTIONAL)"
_NOT_NOW: Final = (OperationalError, InterfaceError, Overloaded)
_identity = Statement(STATEMENTS / "database_identity.sql")


class Command(BaseCommand):
    """Record the readings of files; report rejected lines and continue."""

    help = (
        "Import readings from CSV, NDJSON (either also gzipped) or Parquet files, whose columns "
        "are named as in the API; from any other CSV, as a map says; and from NEM12, Green Button "
        "and exports of evcc, TeslaMate and Home Assistant; also in a zip. Importing a file again "
        "changes no figures."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE")
        parser.add_argument(
            "--archived",
            action="store_true",
            help="restore files from the archive: accept readings of any age; FILE may be a URL",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="read the files, print the first readings as they would be stored, and store none",
        )
        _add_map_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with _no_search_for_cycles():
                if options["archived"]:
                    _require_nothing_else(options)
                    self._bring_back(options["files"])
                else:
                    self._take(_sources(options), is_dry_run=options["dry_run"])
        except (Unreadable, ArchiveFailed, RetentionFailed) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None

    def _take(
        self, sources: list[Source], *, is_dry_run: bool = False, archived: bool = False
    ) -> None:
        for source in sources:
            source.path.open("rb").close()
        rejected = []
        for source in sources:
            result = _rehearse(source) if is_dry_run else _import(source, archived=archived)
            self.stdout.write(result.summary)
            if result.done.rejected and not result.done.accepted:
                rejected.append(f"{source.path}: every line was rejected")
        if rejected and not archived:
            raise CommandError("; ".join(rejected))

    def _bring_back(self, files: list[str]) -> None:
        with restore.bringing_back(), of_any_age():
            for file in files:
                with TemporaryDirectory() as folder:
                    self._bring_back_one(fetch(file, Path(folder)) if "://" in file else Path(file))

    def _bring_back_one(self, path: Path) -> None:
        self._take([Source(path)], archived=True)
        if Report.of(path).exists():
            raise RetentionFailed(f"{path.name} is not completely restored: lines were rejected")
        restore.bring_back(path.name)


# --- The map ------------------------------------------------------------------------------------

# Options and what they say; a map has the same keys.
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "format": {"choices": FORMATS, "help": "what the file is, if it is not recognized"},
    "separator": {"metavar": "CHARACTER", "help": "between cells, or tab; found if not given"},
    "decimal": {"choices": (".", ","), "help": "the decimal mark; a point if not given"},
    "thousands": {"metavar": "CHARACTER", "help": "between groups of three digits"},
    "encoding": {"metavar": "NAME", "help": "such as cp1252; UTF-8 or a byte order mark if not"},
    "unit": {"metavar": "UNIT", "help": "of energy: Wh, kWh (if not given), MWh or GWh"},
    "time_format": {"metavar": "FORMAT", "help": "such as '%%d.%%m.%%Y %%H:%%M', unix or unix_ms"},
    "tz": {"metavar": "ZONE", "help": "of times without an offset, such as Europe/Berlin"},
    "stamped": {"choices": ("end", "start"), "help": "which end of its interval a time is"},
    "interval": {"metavar": "LENGTH", "help": "of times stamped at the start, such as 15m"},
    "layout": {"choices": ("long", "wide"), "help": "wide: a column for each device"},
    "kind": {"choices": ("meter", "vehicle"), "help": "of devices that nothing else tells"},
    "meter": {"metavar": "ID", "help": "the whole file is of this meter"},
    "vehicle": {"metavar": "ID", "help": "the whole file is of this vehicle"},
    "register": {
        "choices": ("interval", "counter", "session_counter"),
        "help": "what the values are; new devices are registered so",
    },
    "skip_lines": {"type": int, "metavar": "N", "help": "lines before the header"},
}


def _add_map_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("files as they are", "see docs/importing.md")
    group.add_argument("--map", metavar="FILE.toml", help="the options below, in a file")
    for name, told in _OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, **told)
    group.add_argument(
        "--column",
        action="append",
        type=_column,
        default=[],
        metavar="FIELD=NAME",
        help="the column that has a field of the API; may be repeated",
    )


def _column(text: str) -> tuple[str, str]:
    field, _, name = text.partition("=")
    if not field or not name:
        raise ArgumentTypeError("must be FIELD=NAME, such as timestamp=Time")
    return field, name


def _require_nothing_else(options: dict[str, Any]) -> None:
    """Errors: `CommandError`, if more is said of files of the archive, which are as they were."""
    others = [name for name in ("dry_run", "map", "column", *_OPTIONS) if options[name]]
    if others:
        raise CommandError(f"--archived excludes --{others[0].replace('_', '-')}")


def _sources(options: dict[str, Any]) -> list[Source]:
    """Errors: `Unreadable`."""
    given = {name: options.get(name) for name in _OPTIONS} | {"columns": dict(options["column"])}
    mapping = read_map(Path(options["map"]) if options["map"] else None, given)
    return [Source(Path(file), mapping) for file in options["files"]]


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Disable garbage collection: its search through millions of cells takes half of CSV's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Result(NamedTuple):
    """How far a file came, and what to print of it."""

    done: Done
    summary: str


def _import(source: Source, *, archived: bool) -> _Result:
    """Import one file. Errors: `Unreadable`, `CommandError`."""
    began, path = time.perf_counter(), source.path
    checkpoint = Checkpoint(path, database=_database_identity(), mapping=_as_text(source.mapping))
    start = done = checkpoint.load()
    report = Report(path, start.report_bytes)
    run = _Run(source, report, archived)
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(_progress(path, start))
            lanes = stack.enter_context(Lanes("import"))
            for written in _ahead(run.written(start.last_line, lanes)):
                done = run.outcome(written, done)
                checkpoint.save(done)
                _show(progress, start, done)
    except (*_NOT_NOW, KeyboardInterrupt) as error:
        raise CommandError(f"{_reason(error)}; {_how_to_go_on(path, done)}") from None
    except Unreadable as error:
        raise Unreadable(f"{error}; {_how_to_go_on(path, done)}" if done.lines else error) from None
    checkpoint.clear()
    return _Result(done, run.summary(start, done, time.perf_counter() - began))


def _rehearse(source: Source) -> _Result:
    """Read one file as an import would, and store nothing. Errors: `Unreadable`.

    Without the database, external ids and registered ids that look like numbers are not found.
    """
    done, devices, shown = Done(), summary.Devices(), list[str]()
    finds_devices = True
    with _progress(source.path, done) as progress:
        for block in source.blocks():
            decoded = decode_block(block, timezone.now())
            if finds_devices:
                finds_devices = _find_devices(decoded)
            _require_readings(source.path, block, decoded)
            if suspects := written_as_numbers(decoded.readings):
                refuse(decoded, suspects - (known(suspects) if finds_devices else set()))
            block.notes.update(_dropped_notes(decoded, set(decoded.indexes)))
            shown += summary.as_taken(decoded, block, SHOWN - len(shown))
            devices.add(decoded.readings)
            done = summary.added(done, block, decoded.readings, decoded.errors, 0)
            _show(progress, Done(), done)
    lines = [f"{source.path}: {done.accepted:,} readings would be imported, {done.rejected:,} not"]
    lines += [f"  {line}" for line in shown]
    lines += [f"  {line}" for line in (*summary.details(done, devices), *summary.reasons(done))]
    remarks = source.remarks()
    if not finds_devices:
        remarks = [*remarks, "external ids were not looked up: the database is not available"]
    return _Result(done, "\n".join(lines + [f"  Note: {line}" for line in remarks]))


def _find_devices(decoded: Decoded) -> bool:
    """Give readings by external ids the ids of their devices; return whether that is possible."""
    try:
        external_ids.resolve(decoded)
        external_ids.resolve_where(decoded, lambda _kind, _text: True)
    except _NOT_NOW:
        return False
    return True


def _dropped_notes(decoded: Decoded, stored: Collection[int]) -> dict[str, int]:
    """Return how many invalid optional fields the stored readings were left without."""
    dropped = sum(error.index in stored for error in decoded.dropped or ())
    return {_DROPPED: dropped} if dropped else {}


def _as_text(mapping: Map) -> str:
    return "" if mapping == Map() else msgspec.json.encode(mapping).decode()


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Stopped"
    return f"The database is not available: {error or type(error).__name__}"


def _how_to_go_on(path: Path, done: Done) -> str:
    return (
        f"{path} is imported up to line {done.last_line:,}; "
        "run the same command to continue from there, nothing counts twice"
    )


# --- Blocks ------------------------------------------------------------------------------------


class _Written(NamedTuple):
    """A block that is being written to the database."""

    block: Block
    decoded: Decoded
    parts: "list[Future[Decoded]]"


class _Run:
    """The import of one file."""

    def __init__(self, source: Source, report: Report, archived: bool) -> None:
        self._source = source
        self._report = report
        self._archived = archived
        self._registry = Registry()
        self._devices = summary.Devices()

    def written(self, after_line: int, lanes: Lanes) -> Iterator[_Written]:
        """Yield the blocks of the file, each submitted to the lanes and not waited for."""
        for block in self._source.blocks(after_line):
            received_at = timezone.now()
            decoded = decode_block(block, received_at)
            external_ids.resolve(decoded)
            _require_readings(self._source.path, block, decoded)
            # The archive has what was stored, whatever its ids look like.
            if not self._archived and (suspects := written_as_numbers(decoded.readings)):
                refuse(decoded, suspects - known(suspects))
            self._registry.notice(self._source.registers)
            yield _Written(block, decoded, lanes.submit(decoded, received_at, _record))

    def outcome(self, written: _Written, before: Done) -> Done:
        """Wait until the block is committed; report its rejected lines; return the new progress."""
        parts = [part.result() for part in written.parts]
        errors = [error for part in parts for error in part.errors] + written.decoded.errors
        block = written.block
        self._report.write(
            sorted(errors, key=lambda error: error.index), block.member, block.lines_before
        )
        readings = [reading for part in parts for reading in part.readings]
        self._registry.set_new(self._source.registers, self._devices.add(readings))
        stored = {line for part in parts for line in part.indexes}
        block.notes.update(_dropped_notes(written.decoded, stored))
        return summary.added(before, block, readings, errors, self._report.size_bytes)

    def summary(self, start: Done, done: Done, seconds: float) -> str:
        """Return what to print at the end."""
        path = self._source.path
        rate = (done.lines - start.lines) / max(seconds, 1e-3)
        lines = [f"{path}: {done.accepted:,} readings in {seconds:.1f} s: {rate:,.0f} readings/s"]
        if start.lines:
            lines.append(
                f"  continued after line {start.last_line:,}, where an earlier run stopped"
            )
        lines += [f"  {line}" for line in summary.details(done, self._devices)]
        if done.rejected:
            report = self._report.path
            lines.append(f"  {done.rejected:,} lines rejected; see {report} for the reasons")
            lines += [f"    {line}" for line in summary.reasons(done)]
        remarks = [*self._source.remarks(), *self._registry.remarks(self._source.registers)]
        return "\n".join(lines + [f"  Note: {line}" for line in remarks])


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


def _database_identity() -> str:
    try:
        (row,) = _identity.rows({})
    except _NOT_NOW as error:
        raise CommandError(f"The database is not available: {error}") from None
    finally:
        connection.close()
    return str(row.identity)


# --- Progress ----------------------------------------------------------------------------------


def _progress(path: Path, start: Done) -> Any:
    return tqdm(
        total=path.stat().st_size,
        initial=start.position_bytes,
        desc=path.name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
    )


def _show(progress: Any, start: Done, done: Done) -> None:
    seconds = max(progress.format_dict["elapsed"], 1e-3)
    rate = (done.lines - start.lines) / seconds
    progress.set_postfix_str(f"{rate:,.0f} readings/s", refresh=False)
    progress.update(done.position_bytes - progress.n)
