"""The files beside an imported one: the report of rejected lines, and how far the import is."""

import csv
import os
from datetime import datetime
from pathlib import Path

import msgspec

from ingestion.readings import ItemError


class Reason(msgspec.Struct):
    """How often lines were rejected for one reason, and the first of them."""

    count: int
    line: int


class Done(msgspec.Struct, frozen=True):
    """How far a file has been imported: all of this is committed."""

    last_line: int = 0
    position_bytes: int = 0
    accepted: int = 0
    rejected: int = 0
    report_bytes: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    reasons: dict[str, Reason] = {}
    notes: dict[str, int] = {}

    @property
    def lines(self) -> int:
        return self.accepted + self.rejected


class Report:
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

    def write(self, errors: list[ItemError], member: str = "", lines_before: int = 0) -> None:
        """Append the errors; in a zip, with the name of the file in it, and that file's line."""
        if not errors:
            return
        is_new = not self.path.exists()
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            of_zip, name = (["file"], [member]) if member else ([], [])
            if is_new:
                writer.writerow([*of_zip, "line", "field", "code", "message"])
            writer.writerows(
                [*name, e.index - lines_before, e.field, e.code, e.message] for e in errors
            )


class Checkpoint:
    """`FILE.progress.json`: how far a file is imported into this database; removed at the end.

    It is ignored for another file, another map or another database.
    """

    def __init__(self, path: Path, *, database: str, mapping: str = "") -> None:
        self._file = path.with_name(f"{path.name}.progress.json")
        status = path.stat()
        self._of = "/".join(
            filter(None, (str(status.st_size), str(status.st_mtime_ns), database, mapping))
        )

    def load(self) -> Done:
        try:
            saved = msgspec.json.decode(self._file.read_bytes(), type=_Saved)
        except (FileNotFoundError, msgspec.DecodeError):
            return Done()
        return saved.done if saved.of == self._of else Done()

    def save(self, done: Done) -> None:
        new = self._file.with_name(f"{self._file.name}.new")
        new.write_bytes(msgspec.json.encode(_Saved(self._of, done)))
        new.replace(self._file)

    def clear(self) -> None:
        self._file.unlink(missing_ok=True)


class _Saved(msgspec.Struct):
    """The contents of a checkpoint."""

    of: str
    done: Done
