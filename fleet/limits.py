"""How much a key, or an address, may do in a minute: requests, readings, and keys that are wrong.

Counted in Redis for all processes, through `limits`. A process takes a hundredth of a limit at a
time and lets requests have it one by one, so that most cost no trip to Redis: all together never
pass more than the limit, and at most a hundredth of it per process is left over. With Redis away,
each process counts for itself.
"""

import ipaddress
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, cast

from django.conf import settings
from django.core.cache import cache
from django_redis.cache import RedisCache
from limits.storage import MemoryStorage, RedisStorage, Storage
from redis.exceptions import RedisError
from rest_framework.exceptions import APIException

from fleet.metrics import THROTTLED

MINUTE: Final = 60
_TAKEN_AT_ONCE: Final = 100
# How long Redis is left alone once it was away: each attempt may take its time-out.
_AWAY_SECONDS: Final = 5.0
_MOST_LEASES: Final = 50_000


class TooMuch(APIException):
    """More than a limit allows; the rest of the minute has to pass."""

    status_code = HTTPStatus.TOO_MANY_REQUESTS
    default_code = "throttled"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"At most {limit:,} {what} a minute")
        self.wait = MINUTE - int(time.time()) % MINUTE


class Budgets:
    """What this process has taken of the limits of the current minute, and has not let go yet."""

    def __init__(self) -> None:
        self._minute = 0
        self._left: dict[str, int] = {}
        self._spent: set[str] = set()
        self._here = MemoryStorage()
        self._shared: Storage | None = None
        self._away_until = 0.0

    def take(self, name: str, what: str, limit: int, amount: int = 1) -> None:
        """Take `amount` of what `name` may have this minute. Errors: `TooMuch`, and none is taken.

        A `limit` of 0 stands for none.
        """
        if not limit:
            return
        minute = int(time.time()) // MINUTE
        if minute != self._minute or len(self._left) > _MOST_LEASES:
            self._minute, self._left, self._spent = minute, {}, set()
        missing = amount - self._left.get(name, 0)
        if missing > 0 and name not in self._spent:
            leased = self._lease(name, limit, missing)
            # Other requests may have taken, and leased, while this one waited for Redis.
            self._left[name] = self._left.get(name, 0) + leased
        left = self._left.get(name, 0)
        if left < amount:
            THROTTLED.labels(what).inc()
            raise TooMuch(what, limit)
        self._left[name] = left - amount

    def is_spent(self, name: str) -> bool:
        """Return whether nothing is left to `name` this minute, as far as this process knows."""
        is_now = self._minute == int(time.time()) // MINUTE
        return is_now and name in self._spent and not self._left.get(name)

    def _lease(self, name: str, limit: int, amount: int) -> int:
        wanted = max(amount, limit // _TAKEN_AT_ONCE)
        before = self._count(f"{name}:{self._minute}", wanted) - wanted
        granted = max(0, min(wanted, limit - before))
        if granted < wanted:
            self._spent.add(name)
        return granted

    def _count(self, key: str, amount: int) -> int:
        if time.monotonic() >= self._away_until:
            try:
                return self._redis().incr(key, 2 * MINUTE, amount)
            except RedisError:
                self._away_until = time.monotonic() + _AWAY_SECONDS
        return self._here.incr(key, 2 * MINUTE, amount)

    def _redis(self) -> Storage:
        if self._shared is None:
            client = cast(RedisCache, cache).client.get_client(write=True)
            self._shared = RedisStorage("redis://", connection_pool=client.connection_pool)
        return self._shared


budgets = Budgets()


def take_request(address: str, key_id: int | None = None) -> None:
    """Count a request of an address, and of a key. Errors: `TooMuch`."""
    budgets.take(f"address:{address}", "requests", settings.LIMIT_REQUESTS_PER_ADDRESS)
    if key_id is not None:
        budgets.take(f"key:{key_id}", "requests", settings.LIMIT_REQUESTS_PER_KEY)


def take_readings(key_id: int | None, readings: int) -> None:
    """Count readings of a key, all or none of them; of an open API, none. Errors: `TooMuch`."""
    if key_id is not None:
        budgets.take(f"readings:{key_id}", "readings", settings.LIMIT_READINGS_PER_KEY, readings)


def take_wrong_key(address: str) -> None:
    """Count a key that opens nothing. Errors: `TooMuch`."""
    budgets.take(f"wrong:{address}", "wrong keys", settings.LIMIT_WRONG_KEYS_PER_ADDRESS)


def refuse_guessing(address: str) -> None:
    """Look no key up for an address that has shown too many wrong ones. Errors: `TooMuch`."""
    if budgets.is_spent(f"wrong:{address}"):
        raise TooMuch("wrong keys", settings.LIMIT_WRONG_KEYS_PER_ADDRESS)


def client_address(meta: Mapping[str, str]) -> str:
    """Return the address that a request came from; what a proxy says counts if it is trusted."""
    address = meta.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in meta.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        while _is_trusted(address) and hops and hops[-1]:
            address = hops.pop()
    return address


def _is_trusted(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in settings.TRUSTED_PROXIES)
