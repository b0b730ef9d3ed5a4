"""Redis that freezes, seen from a process: who waits for it, who does not, and when it is back."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from energy_engine.local import embedded
from energy_engine.local.supervisor import Supervisor
from fleet.access.limits import Budgets
from fleet.stores.redis import Away, Breaker, insist, redis
from tests.engine.conftest import wait_until


class Freezer:
    """A Redis of the test's own, that can be frozen and thawed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._process_id = Redis.from_url(url).info("server")["process_id"]

    def freeze(self) -> None:
        os.kill(self._process_id, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process_id, signal.SIGCONT)

    def wait_until_used(self) -> None:
        """Wait until the process has noticed that Redis is back, without asking for anything."""
        wait_until(lambda: not breaker()._is_away, 20, "Redis' return")


@pytest.fixture
def freezer(tmp_path, settings) -> Iterator[Freezer]:
    with Supervisor() as supervisor:
        embedded.start_redis(supervisor, tmp_path)
        url = embedded.redis_url(tmp_path)
        wait_until(lambda: answers(url), 20, "Redis' start")
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": url}}
        freezer = Freezer(url)
        yield freezer
        freezer.thaw()


def answers(url: str) -> bool:
    try:
        return bool(Redis.from_url(url).ping())
    except RedisError:
        return False


def breaker() -> Breaker:
    return redis().connection_pool.breaker


def test_only_the_first_waits_for_a_redis_that_is_frozen(freezer):
    another = redis().connection_pool.get_connection()
    freezer.freeze()

    with pytest.raises(RedisTimeoutError):
        redis().get("key")

    redis().connection_pool.release(another)  # which the next one uses
    with ThreadPoolExecutor(16) as pool:
        errors = list(pool.map(lambda _: error_of(lambda: redis().get("key")), range(64)))
    # Whoever had to wait would have met a time-out of its own.
    assert set(map(type, errors)) == {Away}


def error_of(work) -> Exception | None:
    try:
        work()
    except RedisError as error:
        return error
    return None


def test_what_one_user_of_redis_finds_out_holds_for_all(freezer):
    budgets = Budgets()
    budgets.take("key:1", "requests", 1_000)
    freezer.freeze()
    with pytest.raises(RedisTimeoutError):
        cache.get("looks")

    with pytest.raises(Away):
        redis().get("key")
    with pytest.raises(Away):
        redis().pipeline().get("key").execute()
    with pytest.raises(Away):
        redis().lock("lock").acquire()
    with pytest.raises(Away):
        budgets._redis().incr("key:2", 60)
    budgets.take("key:2", "requests", 1_000)  # which this process counts for itself meanwhile


def test_redis_that_is_back_is_used_again_though_nobody_asks_for_it(freezer):
    redis().set("key", "value")
    freezer.freeze()
    assert isinstance(error_of(lambda: redis().get("key")), RedisTimeoutError)

    freezer.thaw()
    freezer.wait_until_used()

    assert redis().get("key") == b"value"


def test_failure_of_before_says_nothing_about_a_redis_that_is_back(freezer):
    """A slow loser of the last freeze must not shut everybody out once more."""
    has_begun, may_fail = threading.Event(), threading.Event()

    def fail_late() -> None:
        has_begun.set()
        may_fail.wait(20)
        raise RedisTimeoutError

    late = threading.Thread(
        target=lambda: error_of(lambda: breaker().call_with_retry(fail_late, lambda error: None))
    )
    late.start()
    has_begun.wait(20)
    error_of(lambda: breaker().call_with_retry(_fail, lambda error: None))
    freezer.wait_until_used()
    returns = breaker()._returns

    may_fail.set()
    late.join()

    assert not breaker()._is_away
    assert (breaker()._returns, redis().ping()) == (returns, True)


def _fail() -> None:
    raise RedisTimeoutError


def test_what_could_not_be_done_is_done_before_anybody_asks_again(freezer):
    redis().mset({"a": 1, "b": 1, "c": 1})
    freezer.freeze()
    insist(_delete, {"a"})
    insist(_delete, {"b"})

    freezer.thaw()
    freezer.wait_until_used()

    assert redis().keys() == [b"c"]


def _delete(client: Redis, names: set[str]) -> None:
    client.delete(*names)


def test_nobody_waits_longer_than_a_third_of_a_second(settings):
    options = settings.CACHES["default"]["OPTIONS"]
    kwargs = redis().connection_pool.connection_kwargs

    assert options["SOCKET_CONNECT_TIMEOUT"] + options["SOCKET_TIMEOUT"] <= 0.3 + 1e-9
    assert kwargs["socket_timeout"] == options["SOCKET_TIMEOUT"]
    assert kwargs["retry"].get_retries() == 0
