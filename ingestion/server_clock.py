"""Detect from the readings of its devices that this server's clock is behind.

A reading that is too far ahead is rejected for good: devices discard what gets a 400. If most
devices are ahead, the server's clock is wrong, and the devices must keep their readings.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from fleet.access.keyring import Grant
from ingestion.readings import Decoded, MeterReading, Reading, device_id

log = logging.getLogger(__name__)


class ServerClockBehind(Exception):
    """Most devices are ahead of this server; nothing of the current body was stored."""


class _Sighting(NamedTuple):
    seen_at: float
    is_ahead: bool
    key_id: int | None


class ServerClock:
    """What the devices seen last by this process imply about its clock; for any thread or greenlet.

    It counts devices and keys, not readings: neither one device that sends a thousand readings nor
    one key, however many devices it invents, outvotes the others.
    """

    # Only the devices seen last, so that a large fleet reveals a wrong clock at once, too.
    MOST_DEVICES: Final = 100
    # If fewer are ahead, the cause may be their firmware.
    LEAST_DEVICES_AHEAD: Final = 5
    SECONDS: Final = 300.0
    # A body of 50,000 readings is only sampled.
    MOST_OF_A_BODY: Final = 20

    def __init__(self) -> None:
        self._sightings: dict[str, _Sighting] = {}
        self._lock = threading.Lock()
        self._was_behind = False

    def notice(self, decoded: Decoded, grant: Grant, received_at: datetime) -> None:
        """Note what the readings of a body imply about the clock.

        Errors: `ServerClockBehind`, if some are too new and most devices are ahead.
        """
        size = len(decoded.readings) + len(decoded.too_new)
        step = size // self.MOST_OF_A_BODY + 1
        now = time.monotonic()
        with self._lock:
            for reading in decoded.readings[::step]:
                if reading.measured_at is not received_at:  # stamped here, it proves nothing
                    self._note(device_id(reading), _Sighting(now, False, grant.key_id))
            for reading in _reached(decoded.too_new[::step], grant):
                self._note(device_id(reading), _Sighting(now, True, grant.key_id))
        if decoded.too_new and self.is_behind():
            raise ServerClockBehind

    def is_behind(self) -> bool:
        """Return whether more than half of the devices, and of the keys, are ahead; log changes."""
        is_behind = self._most_are_ahead()
        if is_behind != self._was_behind:
            self._was_behind = is_behind
            if is_behind:
                log.error("most devices are ahead of the server's clock: it seems to be behind")
            else:
                log.info("most devices agree with the server's clock again")
        return is_behind

    def _note(self, device: str, sighting: _Sighting) -> None:
        self._sightings.pop(device, None)  # move it to the end: seen last
        self._sightings[device] = sighting
        if len(self._sightings) > self.MOST_DEVICES:
            del self._sightings[next(iter(self._sightings))]

    def _most_are_ahead(self) -> bool:
        since = time.monotonic() - self.SECONDS
        with self._lock:
            sightings = [seen for seen in self._sightings.values() if seen.seen_at > since]
        ahead = sum(seen.is_ahead for seen in sightings)
        if ahead < self.LEAST_DEVICES_AHEAD or ahead * 2 <= len(sightings):
            return False
        majorities: defaultdict[int | None, int] = defaultdict(int)
        for seen in sightings:
            majorities[seen.key_id] += 1 if seen.is_ahead else -1
        return sum(majority > 0 for majority in majorities.values()) * 2 > len(majorities)


def _reached(readings: list[Reading], grant: Grant) -> Iterator[Reading]:
    """Yield the readings of devices within `grant`: a key is no evidence for others."""
    for reading in readings:
        is_meter = isinstance(reading, MeterReading)
        reaches = grant.reaches_meter if is_meter else grant.reaches_vehicle
        if reaches(device_id(reading)):
            yield reading


server_clock = ServerClock()
