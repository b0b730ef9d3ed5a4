"""The archive of history: Parquet files in a directory or an S3-compatible bucket; no database.

A file is written completely or not at all, and never replaces a complete one. Its contents are
compared with history row by row before anything relies on them.
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

# Rows held in memory at once; also the size of a row group.
BATCH_ROWS: Final = 50_000

Rows = Iterable[Sequence[Sequence[Any]]]
# Called with the number of rows processed.
Progress = Callable[[int], object]


class ArchiveFailed(Exception):
    """The archive can't be written or read, or has the wrong contents; the message says why."""


class Archive:
    """The files at a URL: `file:///path`, or `s3://bucket/prefix` with the usual AWS variables.

    Errors of all methods: `ArchiveFailed`.
    """

    def __init__(self, url: str) -> None:
        # Imported only where it is needed: it takes as much memory as everything else.
        import pyarrow.fs

        with _named(shown(url)):
            self._files, root = pyarrow.fs.FileSystem.from_uri(url)
        self._url, self._root = shown(url), root.rstrip("/")
        self._is_local = isinstance(self._files, pyarrow.fs.LocalFileSystem)

    def where(self, name: str) -> str:
        """Return the URL of a file for display, without passwords."""
        return f"{self._url}/{name}"

    def is_whole(self, name: str) -> bool:
        """Return whether a file exists and is complete."""
        import pyarrow

        try:
            with _named(self.where(name)), self._open(name) as file:
                return bool(file.metadata)
        except ArchiveFailed as error:
            # An incomplete Parquet file lacks its footer, which is written last.
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
                # Write no footer: a bucket keeps the interrupted file, which would look complete.
                writer.is_open = False
                raise
            writer.close()

    def require_equal(self, name: str, kind: DeviceKind, batches: Rows, progress: Progress) -> None:
        """Read the whole file back and require the rows of `batches`, in the same order.

        Errors: `ArchiveFailed`, also if the file has fewer or more rows.
        """
        import pyarrow

        rows_of = ArrowRows([kind])
        with _named(self.where(name)), self._open(name) as file:
            written = self._row_groups(file)
            for rows in batches:
                expected = pyarrow.Table.from_batches([rows_of.batch(kind, rows)])
                found = next(written, None)
                if found is None or not found.equals(expected):
                    raise ArchiveFailed(f"{self.where(name)}: rows differ from history")
                progress(len(rows))
            if next(written, None) is not None:
                raise ArchiveFailed(f"{self.where(name)}: has more rows than history")

    def rows(self, name: str) -> int:
        """Return the number of rows according to the file's footer."""
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
        """Open a file that exists, and is on disk, once it is closed."""
        path = f"{self._root}/{name}"
        if not self._is_local:
            # A bucket shows a file only once it is closed; an interrupted one lacks its footer.
            with self._files.open_output_stream(path) as file:
                yield file
            return
        with _durable(Path(path)) as file:
            yield file


def fetch(url: str, folder: Path) -> Path:
    """Copy a file of an archive into `folder`; return its path. Errors: `ArchiveFailed`."""
    import pyarrow.fs

    with _named(shown(url)):
        files, path = pyarrow.fs.FileSystem.from_uri(url)
        target = folder / Path(path).name
        pyarrow.fs.copy_files(path, str(target), files, pyarrow.fs.LocalFileSystem())
    return target


def shown(url: str) -> str:
    """Return a URL for display, without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


@contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name; rename it once it is on disk, and sync the rename."""
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
    """Turn errors of a file into `ArchiveFailed`, with the file's name."""
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ArchiveFailed(f"{where}: {reason}") from error
