"""Read a struct of Thrift's compact protocol, as far as the headers of Parquet pages need it.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import IO, Any, Final

Struct = dict[int, Any]

_MAX_DEPTH: Final = 4
_MAX_VARINT_BYTES: Final = 10
_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(9)
_STRUCT: Final = 12


def read_struct(data: IO[bytes], depth: int = 0) -> Struct:
    """Read the struct at the position of `data`; return its integers and structs by field number.

    Other fields are skipped. Errors: `EOFError` if `data` ends within it; `ValueError` if it is not
    such a struct, or has lists, sets or maps.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("structs nested too deeply")
    fields: Struct = {}
    number = 0
    while (head := _byte(data)) & 0x0F != _STOP:
        number = number + (head >> 4) if head >> 4 else _integer(data)
        value = _value(data, head & 0x0F, depth)
        if value is not None:
            fields[number] = value
    return fields


def _value(data: IO[bytes], kind: int, depth: int) -> int | Struct | None:
    if kind == _STRUCT:
        return read_struct(data, depth + 1)
    if kind in (_I16, _I32, _I64):
        return _integer(data)
    if kind in (_BYTE, _DOUBLE, _BINARY):
        length = {_BYTE: 1, _DOUBLE: 8}.get(kind) or _varint(data)
        if len(data.read(length)) < length:
            raise EOFError
    elif kind not in (_TRUE, _FALSE):
        raise ValueError(f"unexpected field type {kind}")
    return None


def _byte(data: IO[bytes]) -> int:
    found = data.read(1)
    if not found:
        raise EOFError
    return found[0]


def _varint(data: IO[bytes]) -> int:
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = _byte(data)
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value
    raise ValueError("an integer that is too long")


def _integer(data: IO[bytes]) -> int:
    """Return a signed integer: 0, -1, 1, -2, … stand for 0, 1, 2, 3, …"""
    value = _varint(data)
    return (value >> 1) ^ -(value & 1)
