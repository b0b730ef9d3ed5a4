"""Read Parquet as columns of text in bounded memory; uncompressed sizes are checked first.

A kilobyte of Parquet can expand to gigabytes: a page of nothing but zeros, or a text that a
dictionary repeats in every row. So a page may expand to at most `MAX_PAGE_BYTES`, according to its
own header, which the reader uses, and not to the footer. Long texts are replaced while they exist
only once, in the dictionary.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Final

from ingestion.files.thrift import Struct, read_struct

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

# Writers end a page at 1 MiB.
MAX_PAGE_BYTES: Final = 16 * 1024 * 1024
# No field of a reading is nearly as long.
MAX_TEXT_BYTES: Final = 256
# Invalid in every field, so that it is rejected with the message of the API.
_TOO_LONG: Final = "…"

_HEADER_BYTES: Final = 4 * 1024
# The largest size of a header, which may contain a minimum and a maximum text.
_MAX_HEADER_BYTES: Final = 1024 * 1024
# Numbers of fields and of an encoding in parquet.thrift.
_UNPACKED_SIZE, _PACKED_SIZE, _DATA_PAGE, _DATA_PAGE_V2 = 2, 3, 5, 8
_ENCODING: Final = {_DATA_PAGE: 2, _DATA_PAGE_V2: 4}
_DELTA_BYTE_ARRAY: Final = 7


class UnfitParquet(Exception):
    """The file expands to more than the limit, or has a column of a type that no reading has."""


def open_file(raw: IO[bytes], names: Collection[str]) -> "pyarrow.parquet.ParquetFile":
    """Open the file; those of its columns in `names` that are text are read as dictionaries.

    Errors: `UnfitParquet`, and those of pyarrow.
    """
    # Imported only where it is needed: it takes as much memory as everything else.
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(raw)
    fields = [field for field in file.schema_arrow if field.name in names]
    for field in fields:
        _require_fit(field)
    _require_small_pages(raw, file.metadata, {field.name for field in fields})
    texts = [field.name for field in fields if _is_text(field.type)]
    return pyarrow.parquet.ParquetFile(raw, read_dictionary=texts)


def texts(column: "pyarrow.Array") -> list[str]:
    """Return a column as it would be in CSV: times in UTC, an empty text for null."""
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_dictionary(column.type):
        once = column.dictionary.cast(pyarrow.string())
        is_long = pyarrow.compute.greater(pyarrow.compute.binary_length(once), MAX_TEXT_BYTES)
        once = pyarrow.compute.if_else(is_long, _TOO_LONG, once)
        column = pyarrow.DictionaryArray.from_arrays(column.indices, once).dictionary_decode()
    if pyarrow.types.is_timestamp(column.type) and column.type.tz:
        # Times finer than a microsecond stay so, and are rejected with the message of the API.
        with suppress(pyarrow.ArrowInvalid):
            column = column.cast(pyarrow.timestamp("us", "UTC"))
    found: list[str] = column.cast(pyarrow.string()).fill_null("").to_pylist()
    return found


def _is_text(of_column: "pyarrow.DataType") -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(of_column):
        of_column = of_column.value_type
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_kind(of_column) for is_kind in kinds)


def _require_fit(field: "pyarrow.Field") -> None:
    """Errors: `UnfitParquet`, if a value may have any size and is not text."""
    import pyarrow

    types = pyarrow.types
    kinds = (_is_text, types.is_primitive, types.is_decimal, types.is_null)
    if not any(is_kind(field.type) for is_kind in kinds):
        raise UnfitParquet(f"{field.name} is {field.type}: it must be text, a number or a time")


# --- Pages ------------------------------------------------------------------------------------


def _require_small_pages(
    raw: IO[bytes], metadata: "pyarrow.parquet.FileMetaData", names: Collection[str]
) -> None:
    """Errors: `UnfitParquet`, if a page of the columns expands to more than the limit."""
    for group in range(metadata.num_row_groups):
        of_group = metadata.row_group(group)
        for place in range(of_group.num_columns):
            chunk = of_group.column(place)
            # The reader reads no page of a column without values, and there may be none.
            if chunk.path_in_schema in names and chunk.num_values:
                for page in _pages(raw, chunk):
                    _require_small(chunk.path_in_schema, page)


def _pages(raw: IO[bytes], chunk: Any) -> Iterator[Struct]:
    """Yield the headers of the pages of a column in a row group."""
    starts = [chunk.data_page_offset]
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        starts.append(chunk.dictionary_page_offset)
    position = min(starts)
    end = position + chunk.total_compressed_size
    while position < end:
        header, length = _header(raw, position)
        yield header
        position += length + header[_PACKED_SIZE]


def _header(raw: IO[bytes], position: int) -> tuple[Struct, int]:
    """Return the header of a page, and its length in bytes."""
    for size in (_HEADER_BYTES, _MAX_HEADER_BYTES):
        raw.seek(position)
        data = BytesIO(raw.read(size))
        with suppress(EOFError, ValueError):
            header = read_struct(data)
            sizes = (header.get(_UNPACKED_SIZE), header.get(_PACKED_SIZE))
            if all(isinstance(size, int) and size >= 0 for size in sizes):
                return header, data.tell()
    raise UnfitParquet(f"not Parquet: no page starts at byte {position:,}")


def _require_small(name: str, page: Struct) -> None:
    if page[_UNPACKED_SIZE] > MAX_PAGE_BYTES:
        raise UnfitParquet(
            f"a page of {name} expands to {page[_UNPACKED_SIZE]:,} bytes, "
            f"more than {MAX_PAGE_BYTES:,}: write the file with smaller pages"
        )
    for kind, field in _ENCODING.items():
        of_kind = page.get(kind)
        # A few bytes of this encoding can expand to any number of long texts.
        if isinstance(of_kind, dict) and of_kind.get(field) == _DELTA_BYTE_ARRAY:
            raise UnfitParquet(
                f"{name} is encoded as DELTA_BYTE_ARRAY: write the file with dictionaries or PLAIN"
            )
