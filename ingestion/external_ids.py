"""Give readings that carry a device's external id the id of that device.

A reading with a known id costs nothing here: the writer's statement fails if an unknown id is an
external id, and only then it is looked up. As soon as that has happened, the process keeps the
external ids of the registry, 50,000 at most, to look up the next ones before they fail. What it has
found holds for two seconds: a change counts everywhere within that time.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from django.conf import settings
from django.db import Error

from fleet.models import Meter, Vehicle
from fleet.stores.batching import Batcher, Member
from fleet.stores.statements import Statement
from ingestion.readings import Decoded, DeviceKind, ItemError, MeterReading, Reading, device_id
from ingestion.sql import STATEMENTS

_LONGEST: Final = Meter._meta.get_field("external_id").max_length or 0
_AMBIGUOUS: Final = ""
_statements: Final = {
    DeviceKind.METER: Statement(STATEMENTS / "meters_by_external_id.sql"),
    DeviceKind.VEHICLE: Statement(STATEMENTS / "vehicles_by_external_id.sql"),
}
# An external id and the kind of its device.
_Key = tuple[DeviceKind, str]


class _Found(NamedTuple):
    """The id of the device that has an external id, and how long that is taken for true."""

    device_id: str
    good_until: float


# Surely an external id a while ago, but of a device that is yet to be looked up.
_HINT: Final = _Found("", 0.0)


class ExternalIds:
    """The external ids that a process knows of; for any thread or greenlet."""

    MOST: Final = 50_000
    LOOK_SECONDS: Final = 2.0
    HINT_SECONDS: Final = 10.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[_Key, _Found] = {}
        self._hinted_at = -self.HINT_SECONDS
        # Concurrent requests share a statement and a connection.
        self._look_ups = Batcher[set[_Key], dict[_Key, str]](
            self._find, most_at_once=50_000, most_waiting=500_000, wait_seconds=1.8
        )

    def resolve(self, decoded: Decoded) -> None:
        """Resolve what is no well-formed id, and external ids that were seen before.

        Errors: those of the database; `Overloaded`.
        """
        if decoded.strangers:
            self._admit(decoded)
        if self._seen:
            self.resolve_where(decoded, lambda kind, text: (kind, text) in self._seen)

    def resolve_failed(self, decoded: Decoded) -> None:
        """Resolve after the writer has failed on an external id; learn which ones there are.

        Errors: those of the database; `Overloaded`.
        """
        now = time.monotonic()
        if now - self._hinted_at > self.HINT_SECONDS:
            self._hinted_at = now
            for kind, registry in ((DeviceKind.METER, Meter), (DeviceKind.VEHICLE, Vehicle)):
                self._hint(kind, registry)
        self.resolve_where(decoded, lambda _kind, _text: True)

    def _hint(self, kind: DeviceKind, registry: type[Meter | Vehicle]) -> None:
        named = registry.objects.exclude(external_id=None).values_list("external_id", flat=True)
        texts = list(named[: self.MOST])
        with self._lock:
            for text in texts[: self.MOST - len(self._seen)]:
                self._seen.setdefault((kind, text), _HINT)

    def resolve_where(self, decoded: Decoded, may_be: Callable[[DeviceKind, str], bool]) -> None:
        """Resolve the external ids among the ids of readings that `may_be` is true of.

        Errors: those of the database; `Overloaded`.
        """
        keys = [_key(reading) for reading in decoded.readings]
        found = self.devices({key for key in set(keys) if may_be(*key)})
        if not found:
            return
        for key, reading in zip(keys, decoded.readings, strict=True):
            if key in found:
                _set_id(reading, found[key])
        if _AMBIGUOUS in found.values():
            _refuse_ambiguous(decoded)

    def _admit(self, decoded: Decoded) -> None:
        """Move the strangers that have an external id from the errors to the readings."""
        found = self.devices({_key(stranger.reading) for stranger in decoded.strangers})
        admitted: list[tuple[int, Reading]] = []
        settled: set[int] = set()
        for stranger in decoded.strangers:
            key = _key(stranger.reading)
            if key not in found:
                continue
            error, problem = stranger.error, stranger.problem
            if problem is not None:
                error.field, error.code = problem.field, problem.code
                error.message = problem.message
            else:
                _set_id(stranger.reading, found[key])
                admitted.append((error.index, stranger.reading))
                settled.add(id(error))
        if admitted:
            decoded.errors = [error for error in decoded.errors if id(error) not in settled]
            _set_readings(
                decoded, [*zip(decoded.indexes, decoded.readings, strict=True), *admitted]
            )
            _refuse_ambiguous(decoded)

    def devices(self, keys: set[_Key]) -> dict[_Key, str]:
        """Return the id of the device of each of `keys` that is an external id.

        Empty if it is that of several devices, but for its case. Errors: as of `resolve`.
        """
        now = time.monotonic()
        found = {
            key: seen.device_id
            for key in keys
            if (seen := self._seen.get(key)) and seen.good_until > now
        }
        unsure = {key for key in keys if key not in found and _may_be_external(key[1])}
        if unsure:
            fresh = self._look_ups.run(unsure, len(unsure)) or {}
            self._remember(unsure, fresh)
            found |= fresh
        return found

    def _remember(self, asked: set[_Key], found: dict[_Key, str]) -> None:
        good_until = time.monotonic() + self.LOOK_SECONDS
        with self._lock:
            for key in asked & self._seen.keys():
                del self._seen[key]
            for key, device in found.items():
                if device != _AMBIGUOUS:
                    self._seen[key] = _Found(device, good_until)
            while len(self._seen) > self.MOST:
                del self._seen[next(iter(self._seen))]

    def _find(self, group: Sequence[Member[set[_Key], dict[_Key, str]]]) -> Error | None:
        """Look up what concurrent requests ask for, in a statement for each kind."""
        asked: defaultdict[DeviceKind, set[str]] = defaultdict(set)
        for member in group:
            for kind, text in member.work:
                asked[kind].add(text)
        try:
            found = {
                (kind, text): device
                for kind, texts in asked.items()
                for text, device in _look_up(kind, texts)
            }
        except Error as error:
            for member in group:
                member.error = error
            return error
        for member in group:
            member.result = {key: found[key] for key in member.work if key in found}
        return None


def _look_up(kind: DeviceKind, texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield each of `texts` that is an external id, with the id of its device."""
    ignore_case = settings.EXTERNAL_IDS_IGNORE_CASE
    rows = _statements[kind].rows({"texts": list(texts), "ignore_case": ignore_case})
    name = attrgetter("external_id")
    for text, of_text in groupby(sorted(rows, key=name), key=name):
        devices = list(of_text)
        exact = [row for row in devices if row.is_exact] or devices
        yield text, exact[0].device_id if len(exact) == 1 else _AMBIGUOUS


def _may_be_external(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and "\0" not in text


def _key(reading: Reading) -> _Key:
    is_meter = isinstance(reading, MeterReading)
    return (DeviceKind.METER if is_meter else DeviceKind.VEHICLE), device_id(reading)


def _set_id(reading: Reading, device: str) -> None:
    if isinstance(reading, MeterReading):
        reading.meter_id = device
    else:
        reading.vehicle_id = device


def _set_readings(decoded: Decoded, readings: list[tuple[int, Reading]]) -> None:
    readings.sort(key=lambda pair: pair[0])
    decoded.indexes = [index for index, _ in readings]
    decoded.readings = [reading for _, reading in readings]


def _refuse_ambiguous(decoded: Decoded) -> None:
    """Move the readings that could be of several devices to the errors."""
    kept: list[tuple[int, Reading]] = []
    for index, reading in zip(decoded.indexes, decoded.readings, strict=True):
        kind, device = _key(reading)
        if device == _AMBIGUOUS:
            message = f"{kind}Id is the external id of several {kind}s, but for its case"
            decoded.errors.append(ItemError(index, f"{kind}Id", "ambiguous_id", message))
        else:
            kept.append((index, reading))
    _set_readings(decoded, kept)
    decoded.errors.sort(key=lambda error: error.index)


external_ids = ExternalIds()
