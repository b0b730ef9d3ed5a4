"""Look up what a request's key grants, usually without a query.

Each process caches the keys that it has seen, 20,000 at most, and checks every two seconds which
keys have changed. So a revoked key is refused everywhere within that time.
"""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import Error
from django.utils import timezone

from fleet.access.issuing import digest_of
from fleet.models import ApiKey, Meter, Reach, Vehicle
from fleet.stores.batching import Batcher, Member


@dataclass(frozen=True)
class Grant:
    """What a key grants; ids None mean all devices, a `key_id` of None means no key."""

    key_id: int | None
    scopes: frozenset[str]
    site_id: int | None
    meter_ids: frozenset[str] | None
    vehicle_ids: frozenset[str] | None
    expires_at: datetime | None
    # The devices of a site change without the key, so such a grant expires after a while.
    good_until: float

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def is_for_all(self) -> bool:
        return self.meter_ids is None and self.vehicle_ids is None

    def reaches_meter(self, meter_id: str) -> bool:
        return self.meter_ids is None or meter_id in self.meter_ids

    def reaches_vehicle(self, vehicle_id: str) -> bool:
        return self.vehicle_ids is None or vehicle_id in self.vehicle_ids


class Keyring:
    """The keys that a process has seen lately; for any thread or greenlet."""

    MOST: Final = 20_000
    LOOK_SECONDS: Final = 2.0
    SITE_SECONDS: Final = 30.0
    NOTE_SECONDS: Final = 60.0
    # A change may be committed this long after its timestamp, including the error of clocks.
    COMMIT_SECONDS: Final = 30.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grants: dict[bytes, Grant] = {}
        # Unknown keys; kept apart, so that guessing does not push valid keys out.
        self._wrong: dict[bytes, None] = {}
        self._looked_at = 0.0
        self._changes_seen_until = timezone.now()
        self._noted_at = 0.0
        self._used: set[int | None] = set()
        # Concurrent look-ups share a statement and a connection.
        self._look_ups = Batcher[bytes, Grant](
            self._find, most_at_once=500, most_waiting=10_000, wait_seconds=1.8
        )

    def known(self, token: str) -> Grant | None:
        """Return the grant of `token` if it is cached; one call every two seconds makes a query.

        For a token that is not cached or no longer valid, call `look_up`.
        """
        now = time.monotonic()
        if now - self._looked_at > self.LOOK_SECONDS:
            self._look(now)
        grant = self._grants.get(digest_of(token))
        if grant is None or grant.good_until < now or grant.has_expired:
            return None
        self._used.add(grant.key_id)
        return grant

    def has_seen(self, token: str) -> bool:
        """Return whether `token` was looked up before; sending it again is not a guess."""
        digest = digest_of(token)
        return digest in self._grants or digest in self._wrong

    def look_up(self, token: str) -> Grant | None:
        """Return the grant of `token` from the database; None if it is not valid.

        An invalid token never becomes valid, so only a new guess costs a query.
        Errors: `Overloaded`.
        """
        digest = digest_of(token)
        if digest in self._wrong:
            return None
        grant = self._look_ups.run(digest)
        if grant is None:
            self._grants.pop(digest, None)
            self._remember(self._wrong, digest, None)
        else:
            self._remember(self._grants, digest, grant)
            self._used.add(grant.key_id)
        return grant

    def _remember(self, kept: dict[bytes, Any], digest: bytes, grant: Grant | None) -> None:
        with self._lock:
            kept[digest] = grant
            while len(kept) > self.MOST:
                del kept[next(iter(kept))]

    def _find(self, group: Sequence[Member[bytes, Grant]]) -> Error | None:
        """Look up the keys of concurrent requests; a key that has expired grants nothing."""
        try:
            digests = {member.work for member in group}
            keys = ApiKey.objects.filter(sha256__in=digests, revoked_at=None)
            found = {bytes(key.sha256): _grant_of(key, time.monotonic()) for key in keys}
        except Error as error:
            for member in group:
                member.error = error
            return error
        for member in group:
            grant = found.get(member.work)
            member.result = None if grant is None or grant.has_expired else grant
        return None

    def _look(self, now: float) -> None:
        """Expire the grants of keys that have changed since the last check, however long ago.

        Once a minute, store which keys were used. After a failed check, the next one catches up.
        """
        self._looked_at = now  # other threads continue with the cached grants
        asked_at = timezone.now()
        since = self._changes_seen_until - timedelta(seconds=self.COMMIT_SECONDS)
        changed = ApiKey.objects.filter(changed_at__gt=since).values_list("sha256", flat=True)
        with self._lock:
            for digest in map(bytes, changed):
                self._wrong.pop(digest, None)
                if grant := self._grants.get(digest):  # to be looked up again, which is not a guess
                    self._grants[digest] = replace(grant, good_until=0.0)
        self._changes_seen_until = asked_at
        if now - self._noted_at > self.NOTE_SECONDS and self._used:
            self._noted_at = now
            used, self._used = self._used, set()
            ApiKey.objects.filter(pk__in=used).update(last_used_at=timezone.now())


def _grant_of(key: ApiKey, now: float) -> Grant:
    meter_ids = vehicle_ids = None
    good_until = math.inf
    if key.reach == Reach.DEVICES:
        meter_ids, vehicle_ids = frozenset(key.meter_ids), frozenset(key.vehicle_ids)
    elif key.reach == Reach.SITE:
        meter_ids, vehicle_ids = _ids_at(Meter, key), _ids_at(Vehicle, key)
        good_until = now + Keyring.SITE_SECONDS
    return Grant(
        key_id=key.pk,
        scopes=frozenset(key.scopes),
        site_id=key.site_id,
        meter_ids=meter_ids,
        vehicle_ids=vehicle_ids,
        expires_at=key.expires_at,
        good_until=good_until,
    )


def _ids_at(model: type[Meter | Vehicle], key: ApiKey) -> frozenset[str]:
    return frozenset(model.objects.filter(site=key.site_id).values_list("pk", flat=True))


keyring = Keyring()
