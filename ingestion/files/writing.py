"""Write readings to files: CSV, NDJSON and Parquet."""

import csv
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from fleet.http.wire import instant
from ingestion.files.formats import DELIVERIES, ID_FIELDS, RECEIVED_AT, wire_names
from ingestion.readings import DeviceKind

if TYPE_CHECKING:
    import pyarrow


class Sink(Protocol):
    """Writes readings to a file that the caller opens and closes.

    Rows have the fields of their kind, in the order of the API, then `receivedAt`.
    """

    def write(self, kind: DeviceKind, rows: Sequence[Sequence[Any]]) -> None: ...

    def finish(self) -> None: ...


def sink(file: IO[bytes], file_format: str, kinds: Sequence[DeviceKind]) -> Sink:
    """Return a sink that writes readings of `kinds` to `file`, in a format of `format_of`."""
    if file_format == "ndjson":
        return _NdjsonSink(file)
    return _CsvSink(file, kinds) if file_format == "csv" else _ParquetSink(file, kinds)


class _NdjsonSink:
    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._encoder = file, msgspec.json.Encoder()

    def write(self, kind: DeviceKind, rows: Sequence[Sequence[Any]]) -> None:
        struct = DELIVERIES[kind]
        self._file.write(self._encoder.encode_lines([struct(*row) for row in rows]))

    def finish(self) -> None:
        self._file.flush()


class _Header:
    """The columns of one kind or both, each once; `receivedAt` last."""

    def __init__(self, kinds: Sequence[DeviceKind]) -> None:
        names = dict.fromkeys(name for kind in kinds for name in wire_names(kind))
        self.names = [name for name in names if name != RECEIVED_AT] + [RECEIVED_AT]
        self._pickers = {kind: self._picker(wire_names(kind)) for kind in kinds}

    def _picker(self, own: list[str]) -> Callable[[Any], tuple[Any, ...]]:
        # Columns that a kind lacks get the None that `pick` appends.
        return itemgetter(*(own.index(name) if name in own else -1 for name in self.names))

    def pick(self, kind: DeviceKind, row: Sequence[Any]) -> tuple[Any, ...]:
        return self._pickers[kind]((*row, None))


class _CsvSink:
    def __init__(self, file: IO[bytes], kinds: Sequence[DeviceKind]) -> None:
        self._header = _Header(kinds)
        self._text = TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(self._header.names)

    def write(self, kind: DeviceKind, rows: Sequence[Sequence[Any]]) -> None:
        pick = self._header.pick
        self._writer.writerows(
            pick(kind, (*values, instant(measured_at), instant(received_at)))
            for *values, measured_at, received_at in rows
        )

    def finish(self) -> None:
        self._text.detach()


class ArrowRows:
    """Converts rows of one kind or both to Arrow, as they are in Parquet."""

    def __init__(self, kinds: Sequence[DeviceKind]) -> None:
        import pyarrow

        self._header = _Header(kinds)
        types = dict.fromkeys(ID_FIELDS, pyarrow.string())
        types |= dict.fromkeys(("timestamp", RECEIVED_AT), pyarrow.timestamp("us", "UTC"))
        self.schema = pyarrow.schema(
            [(name, types.get(name, pyarrow.float64())) for name in self._header.names]
        )

    def batch(self, kind: DeviceKind, rows: Sequence[Sequence[Any]]) -> "pyarrow.RecordBatch":
        import pyarrow

        columns = zip(*(self._header.pick(kind, row) for row in rows), strict=True)
        return pyarrow.record_batch(list(columns), schema=self.schema)


class _ParquetSink:
    def __init__(self, file: IO[bytes], kinds: Sequence[DeviceKind]) -> None:
        import pyarrow.parquet

        self._rows = ArrowRows(kinds)
        self._writer = pyarrow.parquet.ParquetWriter(file, self._rows.schema, compression="zstd")

    def write(self, kind: DeviceKind, rows: Sequence[Sequence[Any]]) -> None:
        self._writer.write_batch(self._rows.batch(kind, rows))

    def finish(self) -> None:
        self._writer.close()
