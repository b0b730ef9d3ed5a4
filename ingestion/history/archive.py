"""The archive of history: Parquet files in a directory or an S3-compatible bucket; no database.

A file is written as a whole or not at all, and never in place of another that is whole. What it
holds is compared with history row by row before anybody relies on it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from ingestion.files.writing import ArrowRows
from ingestion.readings import DeviceKind

if TYPE_CHECKING:
    import pyarrow

# Rows held in memory at once, and a row group of the file.
BATCH_ROWS: Final = 50_000

Rows = Iterable[Sequence[Sequence[Any]]]
# Is told how many rows have been gone through.
Progress = Callable[[int], object]


class ArchiveFailed(Exception):
    """The archive can't be written or read, or does not hold what it should; the text says why."""


class Archive:
    """The files at a URL: `file:///path`, or `s3://bucket/prefix` with AWS' usual variables.

    Errors of all its methods: `ArchiveFailed`.
    """

    def __init__(self, url: str) -> None:
        # Loaded only where it is needed: it takes as much memory as all the rest.
        import pyarrow.fs

        with _named(shown(url)):
            self._files, root = pyarrow.fs.FileSystem.from_uri(url)
        self._url, self._root = shown(url), root.rstrip("/")
        self._is_local = isinstance(self._files, pyarrow.fs.LocalFileSystem)

    def where(self, name: str) -> str:
        """Return the URL of a file, for people to read: without passwords."""
        return f"{self._url}/{name}"

    def is_whole(self, name: str) -> bool:
        """Tell whether a file is there, and was written to its end."""
        import pyarrow

        try:
            with _named(self.where(name)), self._open(name) as file:
                return bool(file.metadata)
        except ArchiveFailed as error:
            # Parquet that breaks off has no list of its parts, which stands at its end.
            if isinstance(error.__cause__, FileNotFoundError | pyarrow.ArrowInvalid):
                return False
            raise

    def write(self, name: str, kind: DeviceKind, batches: Rows, progress: Progress) -> None:
        """Write the rows of `batches`, as `ArrowRows` takes them, to a new file."""
        import pyarrow.parquet

        rows_of = ArrowRows([kind])
        with _named(self.where(name)), self._created(name) as file:
            writer = pyarrow.parquet.ParquetWriter(
                file, rows_of.schema, compression="zstd", write_page_checksum=True
            )
            try:
                for rows in batches:
                    writer.write_batch(rows_of.batch(kind, rows))
                    progress(len(rows))
            except BaseException:
                # What broke off gets no end: a bucket keeps it, and it would pass for whole.
                writer.is_open = False
                raise
            writer.close()

    def require_equal(self, name: str, kind: DeviceKind, batches: Rows, progress: Progress) -> None:
        """Read a file back, to its end: its rows are those of `batches`, in their order.

        Errors: `ArchiveFailed`, also where it holds fewer rows, or more.
        """
        import pyarrow

        rows_of = ArrowRows([kind])
        with _named(self.where(name)), self._open(name) as file:
            written = self._row_groups(file)
            for rows in batches:
                expected = pyarrow.Table.from_batches([rows_of.batch(kind, rows)])
                found = next(written, None)
                if found is None or not found.equals(expected):
                    raise ArchiveFailed(f"{self.where(name)}: holds other rows than history")
                progress(len(rows))
            if next(written, None) is not None:
                raise ArchiveFailed(f"{self.where(name)}: holds more rows than history")

    def rows(self, name: str) -> int:
        """Return how many rows a file says that it holds."""
        with _named(self.where(name)), self._open(name) as file:
            return int(file.metadata.num_rows)

    @staticmethod
    def _row_groups(file: Any) -> "Iterator[pyarrow.Table]":
        return (file.read_row_group(number) for number in range(file.num_row_groups))

    def _open(self, name: str) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(
            f"{self._root}/{name}", filesystem=self._files, page_checksum_verification=True
        )

    @contextmanager
    def _created(self, name: str) -> Iterator[Any]:
        """Open a file that is there, and on the disk, once it is closed."""
        path = f"{self._root}/{name}"
        if not self._is_local:
            # In a bucket nothing is to be seen before the end; what broke off is not whole.
            with self._files.open_output_stream(path) as file:
                yield file
            return
        with _durable(Path(path)) as file:
            yield file


def fetch(url: str, folder: Path) -> Path:
    """Copy a file of an archive into `folder`; return where. Errors: `ArchiveFailed`."""
    import pyarrow.fs

    with _named(shown(url)):
        files, path = pyarrow.fs.FileSystem.from_uri(url)
        target = folder / Path(path).name
        pyarrow.fs.copy_files(path, str(target), files, pyarrow.fs.LocalFileSystem())
    return target


def shown(url: str) -> str:
    """Return a URL for people to read: without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


@contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes its name when it is whole and on the disk, as is its name then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        yield cast("IO[bytes]", file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn what goes wrong with a file into `ArchiveFailed`, with its name."""
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ArchiveFailed(f"{where}: {reason}") from error
