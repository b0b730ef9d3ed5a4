"""Whether the engine is up, and whether it can serve."""

from datetime import timedelta
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from energy_engine import environment
from energy_engine.api.errors import RETRY_AFTER_SECONDS, Error, error_body
from energy_engine.postgres.storage import OK, storage
from fleet.http.openapi import answer
from fleet.http.parameters import KnownParameters
from fleet.http.wire import instant
from fleet.stores import replica
from fleet.stores.redis import redis_answers
from ingestion.history.partitions import covered_until

# With less than this ahead, the job that creates partitions has failed for weeks.
LEAST_PARTITION_HORIZON: Final = timedelta(days=7)

# Without them the engine is slower, not wrong.
_CAN_DO_WITHOUT: Final = ("cache", "replica")


class Live(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"]


class Ready(msgspec.Struct):
    """The engine can accept readings and answer; `checks` has the result of each check."""

    status: Literal["ok", "degraded"]
    checks: dict[str, str]


class Unready(Error, kw_only=True):
    """The engine can't accept readings; `checks` has the result of each check."""

    status: Literal["unready"]
    checks: dict[str, str]


class LiveView(APIView):
    """The process answers."""

    permission_classes = [KnownParameters]

    @extend_schema(operation_id="healthLive", responses={200: answer(Live, "The process answers")})
    def get(self, request: Request) -> Response:
        """Return whether the process answers."""
        return Response({"status": OK})


class ReadyView(APIView):
    """The engine can accept readings and answer; without cache or replica, it is slower."""

    permission_classes = [KnownParameters]

    @extend_schema(
        operation_id="healthReady",
        responses={
            200: answer(Ready, "Ready; degraded: without cache or replica, slower"),
            503: answer(Unready, "Not ready; `checks` says why"),
        },
    )
    def get(self, request: Request) -> Response:
        """Return whether the engine can accept readings and answer."""
        checks = {"database": storage.state()}
        if checks["database"] == OK:  # otherwise each of them would wait for it again
            checks |= {"migrations": _migrations(), "partitions": _partitions()}
        checks["cache"] = OK if redis_answers() else "unreachable"
        if replica.is_configured():
            checks["replica"] = _replica()
        missed = [name for name, result in checks.items() if result != OK]
        unready = [name for name in missed if name not in _CAN_DO_WITHOUT]
        if unready:
            message = f"Not ready: {', '.join(unready)}"
            body: dict[str, Any] = error_body(
                request, HTTPStatus.SERVICE_UNAVAILABLE, message, "not_ready"
            )
            return Response(
                body | {"status": "unready", "checks": checks},
                HTTPStatus.SERVICE_UNAVAILABLE,
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        status = "degraded" if missed else OK
        return Response({"status": status, "checks": checks})


def _migrations() -> str:
    missing = _known_migrations() - set(MigrationRecorder(connection).applied_migrations())
    prepare = environment.command("prepare")
    return f"{len(missing)} not applied: run `{prepare}`" if missing else OK


@cache
def _known_migrations() -> set[tuple[str, str]]:
    """Return the migrations of this code; they don't change while it runs."""
    return set(MigrationLoader(None).disk_migrations or ())


def _partitions() -> str:
    until = covered_until()
    if until - timezone.now() < LEAST_PARTITION_HORIZON:
        make = environment.command("pgpartition")
        return f"exist only until {instant(until)}: run `{make}`"
    return OK


def _replica() -> str:
    return OK if replica.watch.is_near() else "unreachable or too far behind; the primary is used"
