"""API keys: made, rotated and revoked here; and found by what a request carries, without a query.

Each process remembers the keys that it has seen, some thousands at most, and asks every two seconds
which of them have changed: a revoked key is refused everywhere within that time.
"""

import hashlib
import math
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import Error, transaction
from django.utils import timezone

from fleet.models import ApiKey, Meter, Reach, Scope, Site, Vehicle
from fleet.stores.batching import Batcher, Member

_BEGINS: Final = "eie"
_SECRET_BYTES: Final = 32
_PREFIX_BYTES: Final = 5
# How long a key that was rotated is good for beside its successor.
ROTATION_OVERLAP: Final = timedelta(days=7)


class NotUsable(Exception):
    """A key that has been revoked already, or has expired."""


@dataclass(frozen=True)
class NewKey:
    """A key that was just made: `token` is shown once, and kept nowhere."""

    key: ApiKey
    token: str


def make_key(
    name: str,
    scopes: Iterable[Scope],
    *,
    site: Site | None = None,
    meter_ids: Iterable[str] = (),
    vehicle_ids: Iterable[str] = (),
    expires_at: datetime | None = None,
) -> NewKey:
    """Make a key for the devices of a site, for listed ones, or, where neither is told, for all."""
    meters, vehicles = sorted(set(meter_ids)), sorted(set(vehicle_ids))
    listed = Reach.DEVICES if meters or vehicles else Reach.ALL
    key = ApiKey(
        name=name,
        scopes=sorted(set(scopes)),
        reach=Reach.SITE if site else listed,
        site=site,
        meter_ids=meters,
        vehicle_ids=vehicles,
        expires_at=expires_at,
    )
    return NewKey(key, issue(key))


def issue(key: ApiKey) -> str:
    """Store `key` under a new token, and return that."""
    key.prefix = f"{_BEGINS}_{secrets.token_hex(_PREFIX_BYTES)}"
    token = f"{key.prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key.sha256 = _digest(token)
    key.save()
    return token


def rotate(key: ApiKey, overlap: timedelta = ROTATION_OVERLAP) -> NewKey:
    """Make a successor of `key`, which itself is good for `overlap` more. Errors: `NotUsable`.

    Where the key was to expire, its successor does too, after as long a life.
    """
    with transaction.atomic():
        old = ApiKey.objects.select_for_update().get(pk=key.pk)
        now = timezone.now()
        if old.revoked_at or (old.expires_at and old.expires_at <= now):
            raise NotUsable
        new = make_key(
            old.name,
            [Scope(scope) for scope in old.scopes],
            site=old.site,
            meter_ids=old.meter_ids,
            vehicle_ids=old.vehicle_ids,
            expires_at=old.expires_at and now + (old.expires_at - old.created_at),
        )
        old.expires_at = min(old.expires_at or now + overlap, now + overlap)
        old.save()
    return new


def revoke(key: ApiKey) -> None:
    """Let `key` open nothing any more, in every process within two seconds."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(
        revoked_at=timezone.now(), changed_at=timezone.now()
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# --- On the hot path --------------------------------------------------------------------------


@dataclass(frozen=True)
class Grant:
    """What a key opens; ids None stand for all devices, a `key_id` of None for no key."""

    key_id: int | None
    scopes: frozenset[str]
    site_id: int | None
    meter_ids: frozenset[str] | None
    vehicle_ids: frozenset[str] | None
    expires_at: datetime | None
    # Which devices stand at a site changes without the key: such a grant is good for a while.
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
    """The keys that a process has seen lately; for any thread or greenlet of it."""

    MOST: Final = 20_000
    LOOK_SECONDS: Final = 2.0
    SITE_SECONDS: Final = 30.0
    NOTE_SECONDS: Final = 60.0
    # A change may be committed this long after the time that it bears, by a clock that is off.
    COMMIT_SECONDS: Final = 30.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grants: dict[bytes, Grant] = {}
        # What was looked up in vain; kept apart, so that no guessing pushes good keys out.
        self._wrong: dict[bytes, None] = {}
        self._looked_at = 0.0
        self._changes_seen_until = timezone.now()
        self._noted_at = 0.0
        self._used: set[int | None] = set()
        # Many unknown keys at once share a statement and a connection.
        self._look_ups = Batcher[bytes, Grant](
            self._find, most_at_once=500, most_waiting=10_000, wait_seconds=1.8
        )

    def known(self, token: str) -> Grant | None:
        """Return what `token` opens, if this process has seen it; no query, but every two seconds.

        One that was not seen, or opens nothing any more, is for `look_up`.
        """
        now = time.monotonic()
        if now - self._looked_at > self.LOOK_SECONDS:
            self._look(now)
        grant = self._grants.get(_digest(token))
        if grant is None or grant.good_until < now or grant.has_expired:
            return None
        self._used.add(grant.key_id)
        return grant

    def has_seen(self, token: str) -> bool:
        """Return whether `token` was looked up before: showing it again is no guess."""
        digest = _digest(token)
        return digest in self._grants or digest in self._wrong

    def look_up(self, token: str) -> Grant | None:
        """Return what `token` opens, from the database; None where it opens nothing.

        What has once opened nothing never will, so only a new guess costs a query.
        Errors: `Overloaded`.
        """
        digest = _digest(token)
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
        """Look the keys of concurrent requests up; what expires now or has, opens nothing."""
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
        """Believe no key that has changed since the last look, however long ago that was.

        Once a minute, note which were used. A look that fails is made up for by the next one.
        """
        self._looked_at = now  # others go on with what they know
        asked_at = timezone.now()
        since = self._changes_seen_until - timedelta(seconds=self.COMMIT_SECONDS)
        changed = ApiKey.objects.filter(changed_at__gt=since).values_list("sha256", flat=True)
        with self._lock:
            for digest in map(bytes, changed):
                self._wrong.pop(digest, None)
                if grant := self._grants.get(digest):  # looked up again, which is no guess
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
        key.pk,
        frozenset(key.scopes),
        key.site_id,
        meter_ids,
        vehicle_ids,
        key.expires_at,
        good_until,
    )


def _ids_at(model: type[Meter | Vehicle], key: ApiKey) -> frozenset[str]:
    return frozenset(model.objects.filter(site=key.site_id).values_list("pk", flat=True))


keyring = Keyring()
