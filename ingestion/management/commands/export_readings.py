"""Export history to a file that `import_readings` can read."""

import gzip
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from tqdm import tqdm

from fleet.http.wire import instant
from fleet.models import Meter, Vehicle
from ingestion.files.formats import Unreadable, format_of
from ingestion.files.writing import sink
from ingestion.history.deliveries import select_deliveries
from ingestion.history.retention import restore
from ingestion.history.retention.tables import HISTORY
from ingestion.management.arguments import instant_of
from ingestion.readings import DeviceKind

# Rows held in memory at once; also the size of a row group of Parquet.
BATCH_ROWS: Final = 20_000

_TABLES: Final = {of.kind: of.table for of in HISTORY}
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_REGISTRIES: Final = {DeviceKind.METER: Meter, DeviceKind.VEHICLE: Vehicle}


class Command(BaseCommand):
    """Write the deliveries of one device or of all devices to a file, in constant memory."""

    help = (
        "Export deliveries from history to a CSV, NDJSON (either also gzipped) or Parquet file; "
        "the file's extension chooses the format. import_readings can read the file."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--vehicle", metavar="ID", help="only this vehicle")
        which.add_argument("--meter", metavar="ID", help="only this meter")
        which.add_argument("--vehicles", action="store_true", help="all vehicles, no meters")
        which.add_argument("--meters", action="store_true", help="all meters, no vehicles")
        add = parser.add_argument
        add("--from", type=instant_of, dest="start", metavar="TIME", help="RFC 3339, inclusive")
        add("--to", type=instant_of, dest="end", metavar="TIME", help="RFC 3339, exclusive")
        add("--counted", action="store_true", help="only the delivery that counts, per timestamp")
        add("--output", required=True, metavar="FILE", help="- for NDJSON on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        selection = _selection(options)
        try:
            self._say_what_has_gone(selection)
            self._export(selection, options["output"])
        except Unreadable as error:
            raise CommandError(str(error)) from None
        except BrokenPipeError:
            return  # the reader of standard output has closed it
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        except (OperationalError, InterfaceError) as error:
            raise CommandError(f"The database is not available: {error}") from None

    def _say_what_has_gone(self, selection: "_Selection") -> None:
        gone_until = restore.gone_until(selection.start or _EVER, selection.end or timezone.now())
        if gone_until:
            self.stderr.write(
                f"Some readings before {instant(gone_until)} are only in the archive; "
                f"`{settings.MANAGE_PY} retention plan` lists its files"
            )

    def _export(self, selection: "_Selection", output: str) -> None:
        if output == "-":
            _write(selection, cast("IO[bytes]", _TextOutput(self.stdout)), "ndjson")
            return
        path, file_format = Path(output), format_of(output)
        with _replacing(path) as file:
            count = _write(selection, file, file_format)
        self.stdout.write(f"{path}: {count:,} readings")


class _Selection(NamedTuple):
    """Which deliveries to export; None means no limit."""

    kinds: list[DeviceKind]
    device_id: str | None
    start: datetime | None
    end: datetime | None
    counted: bool


def _selection(options: dict[str, Any]) -> _Selection:
    """Errors: `CommandError`, if nothing can be selected."""
    start, end = options["start"], options["end"]
    if start and end and start >= end:
        raise CommandError("--from must be before --to")
    kinds = [kind for kind in DeviceKind if options[kind] is not None or options[f"{kind}s"]]
    device_id = options["vehicle"] if options["meter"] is None else options["meter"]
    if device_id is not None and not _REGISTRIES[kinds[0]].objects.filter(pk=device_id).exists():
        raise CommandError(f"{kinds[0].capitalize()} not found")
    return _Selection(kinds or list(DeviceKind), device_id, start, end, options["counted"])


def _write(selection: _Selection, file: IO[bytes], file_format: str) -> int:
    """Write the selected deliveries to `file`; return how many there were."""
    target = sink(file, file_format, selection.kinds)
    with tqdm(desc="readings", unit=" readings", unit_scale=True) as progress:
        for kind in selection.kinds:
            for rows in _batches(kind, selection):
                target.write(kind, rows)
                progress.update(len(rows))
        target.finish()
        return int(progress.n)


def _batches(kind: DeviceKind, selection: _Selection) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the deliveries of one kind from a server-side cursor, as of one moment."""
    with (
        transaction.atomic(),
        connection.wrap_database_errors,
        connection.connection.cursor("export_readings") as cursor,
    ):
        statement = select_deliveries("export_readings.sql", kind, _TABLES[kind])
        cursor.execute(statement, selection._asdict())
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield rows


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` once it is complete."""
    part = path.with_name(f"{path.name}.part")
    is_zipped = path.name.lower().endswith(".gz")
    try:
        with gzip.open(part, "wb", 6) if is_zipped else part.open("wb") as file:
            yield cast("IO[bytes]", file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _TextOutput:
    """The command's standard output, as a file of bytes."""

    def __init__(self, stdout: OutputWrapper) -> None:
        self._stdout = stdout

    def write(self, text: bytes) -> None:
        self._stdout.write(text.decode(), ending="")

    def flush(self) -> None:
        self._stdout.flush()
