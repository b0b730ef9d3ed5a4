"""Limits per minute for each key and address: on requests, readings and wrong keys.

The processes share counters in Redis, through the library `limits`. A process leases a hundredth of
a limit at a time and spends it request by request, so most requests need no round trip to Redis.
All processes together never exceed the limit; at most a hundredth of it per process goes unused.
Without Redis, each process counts for itself.
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

from fleet.counters import THROTTLED
from fleet.http.body import BodyTooLarge
from fleet.stores.redis import redis

MINUTE: Final = 60
# A process takes a limit in leases of a hundredth.
_LEASES_PER_LIMIT: Final = 100
_MOST_LEASES: Final = 50_000
# Requests that need a lease for the same name wait for each other; others hardly ever do.
_TURNS: Final = 64
# The holder of one IPv6 address has its whole network.
_IPV6_NETWORK_BITS: Final = 64


class LimitExceeded(APIException):
    """The limit for this minute is used up; the message states it."""

    status_code = HTTPStatus.TOO_MANY_REQUESTS
    default_code = "throttled"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"Limit of {limit:,} {what} per minute reached; see Retry-After")
        self.wait = MINUTE - int(time.time()) % MINUTE


class Budgets:
    """What this process has leased of this minute's limits and not spent yet."""

    def __init__(self) -> None:
        self._minute = 0
        self._begins_at = self._ends_at = 0
        self._left: dict[str, int] = {}
        self._spent: set[str] = set()
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        self._here = MemoryStorage()
        self._shared: Storage | None = None

    def take(self, name: str, what: str, limit: int, amount: int = 1) -> None:
        """Take `amount` from this minute's limit of `name`, or nothing. Errors: `LimitExceeded`.

        A `limit` of 0 means no limit.
        """
        if not limit:
            return
        left = self._left.get(name, 0)
        # Nearly every request runs this three times, so it makes at most two look-ups.
        if left < amount or not self._begins_at <= time.time() < self._ends_at:
            left = self._left_after_lease(name, what, limit, amount)
        self._left[name] = left - amount

    def take_most(self, name: str, what: str, limit: int, amount: int) -> int:
        """Take `amount`, or what is left of this minute's limit; return how much was taken."""
        try:
            self.take(name, what, limit, amount)
        except LimitExceeded:
            return self._left.pop(name, 0)
        return amount

    def _left_after_lease(self, name: str, what: str, limit: int, amount: int) -> int:
        self._begin_minute()
        if self._left.get(name, 0) < amount and name not in self._spent:
            with self._turns[hash(name) % _TURNS]:  # otherwise each would take its own lease
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
        """Return whether this minute's limit of `name` is used up, as far as this process knows."""
        is_now = self._minute == int(time.time()) // MINUTE
        return is_now and name in self._spent and not self._left.get(name)

    def _lease(self, name: str, limit: int, amount: int) -> None:
        """Lease `amount` and some more for `name`, or what is left of its limit."""
        missing = amount - self._left.get(name, 0)
        if missing <= 0 or name in self._spent:
            return  # the previous lease was large enough, or took the rest
        minute = self._minute
        wanted = max(missing, limit // _LEASES_PER_LIMIT)
        before = self._count(f"{name}:{minute}", wanted) - wanted
        granted = max(0, min(wanted, limit - before))
        if minute != self._minute:
            return  # the minute has ended meanwhile, and the lease with it
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
    """Count a request against the limits of its address and its key. Errors: `LimitExceeded`."""
    budgets.take(f"address:{address}", "requests", settings.LIMIT_REQUESTS_PER_ADDRESS)
    if key_id is not None:
        budgets.take(f"key:{key_id}", "requests", settings.LIMIT_REQUESTS_PER_KEY)


def take_readings(key_id: int | None, readings: int) -> None:
    """Count all readings against the limit of a key, or none of them; without a key, count nothing.

    Errors: `LimitExceeded`; `BodyTooLarge` if they exceed the limit of a whole minute.
    """
    if key_id is None:
        return
    limit = settings.LIMIT_READINGS_PER_KEY
    if 0 < limit < readings:
        raise BodyTooLarge(
            f"This key may send at most {limit:,} readings per minute (LIMIT_READINGS_PER_KEY); "
            "send smaller batches"
        )
    budgets.take(f"readings:{key_id}", "readings", limit, readings)


def take_most_readings(key_id: int | None, readings: int) -> int:
    """Count as many readings against the limit of a key as it allows; return how many."""
    if key_id is None:
        return readings
    limit = settings.LIMIT_READINGS_PER_KEY
    return budgets.take_most(f"readings:{key_id}", "readings", limit, readings)


def take_wrong_key(address: str) -> None:
    """Count a request with an invalid key. Errors: `LimitExceeded`."""
    budgets.take(f"wrong:{address}", "wrong keys", settings.LIMIT_WRONG_KEYS_PER_ADDRESS)


def refuse_guessing(address: str) -> None:
    """Refuse an address that sent too many wrong keys. Errors: `LimitExceeded`."""
    if budgets.is_spent(f"wrong:{address}"):
        THROTTLED.labels("wrong keys").inc()
        raise LimitExceeded("wrong keys", settings.LIMIT_WRONG_KEYS_PER_ADDRESS)


def client_address(meta: Mapping[str, str]) -> str:
    """Return the address of the client; for IPv6, its network.

    X-Forwarded-For counts from the right, as long as each hop is a trusted proxy. The search ends
    at an entry that is not an address, because anybody may have written what comes before it.
    """
    address = meta.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        hops = meta.get("HTTP_X_FORWARDED_FOR", "").split(",")
        while hops and _is_trusted(address) and (hop := _parsed(hops.pop())):
            address = str(hop)
    return _network(address) if ":" in address else address


@lru_cache(10_000)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address, without the port that some proxies add; an IPv4-mapped one as IPv4."""
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
