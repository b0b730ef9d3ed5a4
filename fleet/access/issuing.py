"""Create, rotate and revoke API keys."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from fleet.models import ApiKey, Reach, Scope, Site

_BEGINS: Final = "eie"
_SECRET_BYTES: Final = 32
_PREFIX_BYTES: Final = 5
# How long a rotated key stays valid beside its replacement.
ROTATION_OVERLAP: Final = timedelta(days=7)


class NotUsable(Exception):
    """The key is already revoked or has expired."""


@dataclass(frozen=True)
class NewKey:
    """A new key; `token` is shown once and not stored."""

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
    """Create a key for the devices of a site, for listed devices or, with neither, for all."""
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
    """Store `key` with a new token; return the token."""
    key.prefix = f"{_BEGINS}_{secrets.token_hex(_PREFIX_BYTES)}"
    token = f"{key.prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key.sha256 = digest_of(token)
    key.save()
    return token


def rotate(key: ApiKey, overlap: timedelta = ROTATION_OVERLAP) -> NewKey:
    """Create a replacement for `key`, which expires after `overlap`. Errors: `NotUsable`.

    If the key has an expiry, its replacement gets one with the same lifetime.
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
    """Revoke `key`; every process refuses it within two seconds."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(
        revoked_at=timezone.now(), changed_at=timezone.now()
    )


def digest_of(token: str) -> bytes:
    """Return the digest of a token, which is what is stored and looked up."""
    return hashlib.sha256(token.encode()).digest()
