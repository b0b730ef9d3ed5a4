"""Open files and the members of zips as streams of bytes or text, with limits against bombs."""

import codecs
import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final, cast

from ingestion.files.reading import NotThatFormat

# A text of meter data packs to a fiftieth; one of zeros to a thousandth.
MAX_EXPANSION: Final = 500
# Small files may expand further: a year without any energy.
FREE_EXPANSION_BYTES: Final = 256 * 1024 * 1024
MAX_MEMBERS: Final = 1_000
SAMPLE_BYTES: Final = 64 * 1024
_ENCRYPTED: Final = 0x1
_BOMS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    # UTF-32 first: its mark begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Member:
    """A file, or one of the files in a zip; it may be opened several times."""

    name: str
    raw: IO[bytes]
    zipped: zipfile.ZipFile | None = None

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Yield its bytes from their start, unpacked."""
        if self.zipped is not None:
            with self.zipped.open(self.name) as file:
                yield file
            return
        self.raw.seek(0)
        if self.name.lower().endswith(".gz"):
            with gzip.open(self.raw) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield self.raw

    @contextmanager
    def text(self, encoding: str | None) -> Iterator[TextIOWrapper]:
        """Yield its text; a byte order mark wins over `encoding`. Errors: `NotThatFormat`."""
        found = _encoding(self.sample(), encoding)
        with self.open() as file:
            # A byte that does not fit makes its cell invalid, not the file.
            text = TextIOWrapper(file, found, errors="replace", newline="")
            try:
                yield text
            finally:
                text.detach()

    def sample(self) -> bytes:
        """Return its first 64 KiB."""
        with self.open() as file:
            return file.read(SAMPLE_BYTES)


def members(path: Path, raw: IO[bytes]) -> list[Member]:
    """Return the files in a zip, or the file itself. Errors: `NotThatFormat`."""
    if not path.name.lower().endswith(".zip"):
        return [Member(path.name, raw)]
    zipped = zipfile.ZipFile(raw)
    files = [info for info in zipped.infolist() if _is_data(info)]
    if not files:
        raise NotThatFormat("the zip has no files")
    if len(files) > MAX_MEMBERS:
        raise NotThatFormat(f"the zip has more than {MAX_MEMBERS:,} files")
    if any(info.flag_bits & _ENCRYPTED for info in files):
        raise NotThatFormat("the zip is encrypted: unpack it with its password first")
    size = sum(info.file_size for info in files)
    if size > FREE_EXPANSION_BYTES + MAX_EXPANSION * path.stat().st_size:
        raise NotThatFormat(
            f"the zip expands to {size:,} bytes, more than {MAX_EXPANSION} times its size"
        )
    return [Member(info.filename, raw, zipped) for info in files]


def _is_data(info: zipfile.ZipInfo) -> bool:
    name = info.filename.rsplit("/", 1)[-1]
    # macOS adds a folder of its own, and hidden files.
    return not (info.is_dir() or name.startswith(".") or info.filename.startswith("__MACOSX/"))


def _encoding(sample: bytes, told: str | None) -> str:
    for mark, encoding in _BOMS.items():
        if sample.startswith(mark):
            return encoding
    encoding = told or "utf-8"
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        if told:
            raise NotThatFormat(f"the file is not {told}: try another --encoding") from None
        hint = "utf-16" if b"\0" in sample else "cp1252, which Excel writes"
        raise NotThatFormat(
            f"the file is not UTF-8: say its encoding with --encoding, such as {hint}"
        ) from None
    return encoding
