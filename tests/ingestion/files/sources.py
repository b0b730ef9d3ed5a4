"""Read files of the tests as an import would, without a database."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ingestion.files.mapping import read_map
from ingestion.files.reading import decode_block
from ingestion.files.source import Source
from ingestion.readings import MeterReading
from tests.conftest import NOON


class Taken(NamedTuple):
    """What became of a file: readings as (id, time, kWh), errors as (line, field, code)."""

    readings: list[tuple[str, str, float]]
    errors: list[tuple[int, str | None, str]]
    messages: list[str]
    notes: Counter[str]
    registers: dict[str, str]
    lines: list[int]


def taken(path: Path, content: str | bytes, map_file: str = "", **options: object) -> Taken:
    """Write `content` to `path`, and read it with a map and options. Errors: `Unreadable`."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    told = path.with_name("map.toml") if map_file else None
    if told is not None:
        told.write_text(map_file)
    return read(Source(path, read_map(told, options)))


def read(source: Source, after_line: int = 0) -> Taken:
    """Return what became of the lines after `after_line`."""
    result = Taken([], [], [], Counter(), {}, [])
    for block in source.blocks(after_line):
        decoded = decode_block(block, NOON)
        for reading in decoded.readings:
            told = (
                (reading.meter_id, reading.energy_ac_kwh)
                if isinstance(reading, MeterReading)
                else (reading.vehicle_id, reading.energy_dc_kwh)
            )
            at = f"{reading.measured_at:%m-%d %H:%M}"
            result.readings.append((told[0], at, told[1]))
        result.errors.extend((e.index, e.field, e.code) for e in decoded.errors)
        result.messages.extend(e.message for e in decoded.errors)
        result.notes.update(block.notes)
        result.lines.extend(decoded.indexes)
    result.registers.update({id_: told for (_, id_), told in source.registers.items()})
    return result
