"""How much a key, or an address, may do in a minute: requests, readings, and keys that are wrong.

Counted in Redis for all processes, through `limits`. A process takes a hundredth of a limit at a
time and lets requests have it one by one, so that most cost no trip to Redis: all together never
pass more than the limit, and at most a hundredth of it per process is left over. With Redis away,
each process counts for itself.
"""

import ipaddress
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from django.conf import settings
from limits.storage import MemoryStorage, RedisStorage, Storage
from redis.exceptions import RedisError
from rest_framework.exceptions import APIException

from fleet.http.body import BodyTooLarge
from fleet.metrics import THROTTLED
from fleet.stores.redis import redis

MINUTE: Final = 60
# A process takes a limit in leases of a hundredth.
_LEASES_PER_LIMIT: Final = 100
_MOST_LEASES: Final = 50_000
# Requests of one name that need a lease wait for each other; others hardly ever do.
_TURNS: Final = 64
# Who has one IPv6 address has all of its network.
_IPV6_NETWORK_BITS: Final = 64


class LimitExceeded(APIException):
    """A limit is used up for this minute; the message names it."""

    status_code = HTTPStatus.TOO_MANY_REQUESTS
    default_code = "throttled"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"At most {limit:,} {what} a minute")
        self.wait = MINUTE - int(time.time()) % MINUTE


class Budgets:
    """What this process has taken of the limits of the current minute, and has not let go yet."""

    def __init__(self) -> None:
        self._minute = 0
        self._begins_at = self._ends_at = 0
        self._left: dict[str, int] = {}
        self._spent: set[str] = set()
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        self._here = MemoryStorage()
        self._shared: Storage | None = None

    def take(self, name: str, what: str, limit: int, amount: int = 1) -> None:
        """Take `amount` of what `name` may have this minute, or none. Errors: `LimitExceeded`.

        A `limit` of 0 stands for none.
        """
        if not limit:
            return
        left = self._left.get(name, 0)
        # Nearly every request passes here, three times: no more than two look-ups.
        if left < amount or not self._begins_at <= time.time() < self._ends_at:
            left = self._left_after_lease(name, what, limit, amount)
        self._left[name] = left - amount

    def take_most(self, name: str, what: str, limit: int, amount: int) -> int:
        """Take `amount`, or what is left of the limit this minute; return how much that is."""
        try:
            self.take(name, what, limit, amount)
        except LimitExceeded:
            return self._left.pop(name, 0)
        return amount

    def _left_after_lease(self, name: str, what: str, limit: int, amount: int) -> int:
        self._begin_minute()
        if self._left.get(name, 0) < amount and name not in self._spent:
            with self._turns[hash(name) % _TURNS]:  # else each would take a lease of its own
                self._lease(name, limit, amount)
        left = self._left.get(name, 0)
        if left < amount:
            THROTTLED.labels(what).inc()
            raise LimitExceeded(what, limit)
        return left

    def _begin_minute(self) -> None:
        minute = int(time.time()) // MINUTE
        if minute != self._minute or len(self._left) > _MOST_LEASES:
            self._minute, self._left, self._spent = minute, {}, set()
            self._begins_at = minute * MINUTE
            self._ends_at = self._begins_at + MINUTE

    def is_spent(self, name: str) -> bool:
        """Return whether nothing is left to `name` this minute, as far as this process knows."""
        is_now = self._minute == int(time.time()) // MINUTE
        return is_now and name in self._spent and not self._left.get(name)

    def _lease(self, name: str, limit: int, amount: int) -> None:
        """Let `name` have `amount` and some more, or what is left of its limit."""
        missing = amount - self._left.get(name, 0)
        if missing <= 0 or name in self._spent:
            return  # the one before has taken enough, or all
        minute = self._minute
        wanted = max(missing, limit // _LEASES_PER_LIMIT)
        before = self._count(f"{name}:{minute}", wanted) - wanted
        granted = max(0, min(wanted, limit - before))
        if minute != self._minute:
            return  # it has ended meanwhile, and its lease with it
        if granted < wanted:
            self._spent.add(name)
        self._left[name] = self._left.get(name, 0) + granted

    def _count(self, key: str, amount: int) -> int:
        try:
            return self._redis().incr(key, 2 * MINUTE, amount)
        except RedisError:
            return self._here.incr(key, 2 * MINUTE, amount)

    def _redis(self) -> Storage:
        if self._shared is None:
            self._shared = RedisStorage("redis://", connection_pool=redis().connection_pool)
        return self._shared


budgets = Budgets()


def take_request(address: str, key_id: int | None = None) -> None:
    """Count a request of an address, and of a key. Errors: `LimitExceeded`."""
    budgets.take(f"address:{address}", "requests", settings.LIMIT_REQUESTS_PER_ADDRESS)
    if key_id is not None:
        budgets.take(f"key:{key_id}", "requests", settings.LIMIT_REQUESTS_PER_KEY)


def take_readings(key_id: int | None, readings: int) -> None:
    """Count readings of a key, all or none of them; of an open API, none.

    Errors: `LimitExceeded`; `BodyTooLarge` where no minute would ever do.
    """
    if key_id is None:
        return
    limit = settings.LIMIT_READINGS_PER_KEY
    if 0 < limit < readings:
        raise BodyTooLarge(
            f"This key may send at most {limit:,} readings a minute (LIMIT_READINGS_PER_KEY): "
            "send smaller batches"
        )
    budgets.take(f"readings:{key_id}", "readings", limit, readings)


def take_most_readings(key_id: int | None, readings: int) -> int:
    """Count as many of the readings of a key as this minute allows; return how many those are."""
    if key_id is None:
        return readings
    limit = settings.LIMIT_READINGS_PER_KEY
    return budgets.take_most(f"readings:{key_id}", "readings", limit, readings)


def take_wrong_key(address: str) -> None:
    """Count a key that opens nothing. Errors: `LimitExceeded`."""
    budgets.take(f"wrong:{address}", "wrong keys", settings.LIMIT_WRONG_KEYS_PER_ADDRESS)


def refuse_guessing(address: str) -> None:
    """Look no key up for an address that has shown too many wrong ones. Errors: `LimitExceeded`."""
    if budgets.is_spent(f"wrong:{address}"):
        THROTTLED.labels("wrong keys").inc()
        raise LimitExceeded("wrong keys", settings.LIMIT_WRONG_KEYS_PER_ADDRESS)


def client_address(meta: Mapping[str, str]) -> str:
    """Return the address that a request came from; of IPv6, its network.

    What a proxy says counts if it is trusted, and up to what is no address: that may be anybody's
    word.
    """
    address = meta.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        hops = meta.get("HTTP_X_FORWARDED_FOR", "").split(",")
        while hops and _is_trusted(address) and (hop := _parsed(hops.pop())):
            address = str(hop)
    return _network(address) if ":" in address else address


@lru_cache(10_000)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, without the port that some proxies add; an embedded IPv4 as such."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(10_000)
def _network(address: str) -> str:
    ip = _parsed(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((ip.packed, _IPV6_NETWORK_BITS), strict=False))
    return str(ip or address)


def _is_trusted(address: str) -> bool:
    ip = _parsed(address)
    return ip is not None and any(ip in network for network in settings.TRUSTED_PROXIES)
