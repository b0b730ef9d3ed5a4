"""What Prometheus reads: the counters of all processes, and the current state of the engine."""

import hmac
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Max, Min, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from procrastinate.contrib.django.models import ProcrastinateWorker
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from rest_framework.request import Request
from rest_framework.views import APIView

from analytics.figures.whole_fleet import fleet_totals
from analytics.models import Fault, FaultKind, FaultState, WebhookDelivery
from energy_engine.models import FailedSignIn
from energy_engine.postgres.storage import OK, storage
from energy_engine.telemetry.job_runs import FAILURES_OF, periodic_jobs
from energy_engine.telemetry.request_log import is_logged, log_request
from energy_engine.telemetry.sampling import sample
from fleet.access.authorization import HasScope, grant_of
from fleet.counters import REQUEST_SECONDS
from fleet.http.parameters import KnownParameters
from fleet.models import ApiKey
from fleet.stores import replica
from fleet.stores.redis import redis_answers
from fleet.stores.statements import Statement
from ingestion.history.partitions import covered_until
from ingestion.history.size import history_size
from ingestion.models import ChangedMeterHour, ChangedVehicleHour

PREFIX: Final = "engine"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DAY: Final = timedelta(days=1)
_receivers: Final = Statement(Path(__file__).parent / "sql" / "receivers.sql")


# --- Requests ---------------------------------------------------------------------------------


class MetricsMiddleware:
    """Times each request by its route, which is empty for unknown paths, and logs some of them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = self._get_response(request)
        seconds = time.perf_counter() - began
        route = request.resolver_match.route if request.resolver_match else ""
        method = request.method if request.method in _METHODS else "other"
        status = response.status_code
        _timer(route, method, status).observe(seconds)
        if is_logged(status, seconds):
            log_request(request, route, method, status, seconds)
        return response


@cache  # as many as there are routes, methods and statuses
def _timer(route: str, method: str | None, status: int) -> Any:
    return REQUEST_SECONDS.labels(route, method, status)


# --- The state of the engine ------------------------------------------------------------------


class _Engine(Collector):
    """Gauges that are read when they are requested: about fifteen small statements."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        is_up = storage.state() == OK
        yield _gauge("cache_up", "Whether Redis answers.", float(redis_answers()))
        yield _gauge("database_up", "Whether the database stores readings.", float(is_up))
        if is_up:
            with suppress(DatabaseError):  # it has just become unreachable
                yield from [gauge for part in _PARTS for gauge in part()]


def _gauge(name: str, words: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", words, value=value)


def _labelled(name: str, words: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"{PREFIX}_{name}", words, labels=[label])
    for named, value in values.items():
        gauge.add_metric([named], value)
    return gauge


def _devices() -> Iterator[GaugeMetricFamily]:
    totals = fleet_totals()
    kinds = {"vehicle": totals.vehicles, "meter": totals.meters}
    for name, words, read in (
        ("devices", "Devices in the registry.", "total"),
        ("devices_online", "Devices seen within ONLINE_WINDOW.", "online"),
    ):
        values = {kind: float(getattr(count, read)) for kind, count in kinds.items()}
        yield _labelled(name, words, "kind", values)
    if totals.period:
        words = "Time since the last snapshot of the fleet's 24 hours."
        yield _gauge("snapshot_age_seconds", words, _seconds_since(totals.period.end))


def _derived() -> Iterator[GaugeMetricFamily]:
    waiting, oldest = 0, None
    for changed in (ChangedMeterHour, ChangedVehicleHour):
        found = changed.objects.aggregate(number=Count("pk"), oldest=Min("changed_at"))
        waiting += found["number"]
        oldest = min(filter(None, (oldest, found["oldest"])), default=None)
    yield _gauge("rollup_pending_hours", "Hours of devices that wait to be rolled up.", waiting)
    lag = _seconds_since(oldest) if oldest else 0.0
    yield _gauge("rollup_lag_seconds", "How long the oldest of them has waited.", lag)
    horizon = (covered_until() - timezone.now()).total_seconds()
    yield _gauge("partition_horizon_seconds", "How far ahead partitions exist.", horizon)


def _faults() -> Iterator[GaugeMetricFamily]:
    faults = Fault.objects.exclude(state=FaultState.CLOSED).order_by()
    counts = dict(faults.values_list("kind").annotate(number=Count("pk")))
    values = {kind: float(counts.get(kind, 0)) for kind in FaultKind.values}
    yield _labelled("faults_open", "Faults that are open or acknowledged.", "kind", values)


def _keys() -> Iterator[GaugeMetricFamily]:
    used = ApiKey.objects.filter(last_used_at__gte=timezone.now() - _DAY).count()
    yield _gauge("keys_used", "Keys used in the last 24 hours.", used)


def _sign_ins() -> Iterator[GaugeMetricFamily]:
    words = "Failed sign-ins to the console within LOGIN_LOCKOUT_MINUTES."
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    lately = FailedSignIn.objects.filter(attempt_time__gt=since)
    failures = lately.aggregate(number=Sum("failures_since_start", default=0))["number"]
    yield _gauge("failed_sign_ins", words, failures)


def _replica() -> Iterator[GaugeMetricFamily]:
    if replica.is_configured():
        is_near = float(replica.watch.is_near())
        yield _gauge("replica_up", "Whether the replica is recent enough to be used.", is_near)
        words = "How far the replica is behind the primary."
        yield _gauge("replica_lag_seconds", words, replica.watch.lag_seconds())


def _log_receivers() -> Iterator[GaugeMetricFamily]:
    slots = _receivers.rows({})
    connected = {slot.name: float(slot.is_connected) for slot in slots}
    words = "Whether a backup or a replica is connected to receive PostgreSQL's WAL."
    yield _labelled("log_receiver_connected", words, "slot", connected)
    kept = {slot.name: float(slot.kept_bytes) for slot in slots}
    words = "WAL that PostgreSQL keeps because a receiver has not received it yet."
    yield _labelled("log_kept_bytes", words, "slot", kept)


def _seconds_since(instant: datetime) -> float:
    return max(0.0, (timezone.now() - instant).total_seconds())


def _jobs() -> Iterator[GaugeMetricFamily]:
    now = timezone.now()
    found = periodic_jobs(now)
    states = {
        "job_failed": ("Whether the last run of a job failed.", "danger"),
        "job_late": ("Whether a job has missed two scheduled runs.", "warning"),
    }
    for name, (words, variant) in states.items():
        values = {job.task: float(job.variant == variant) for job in found}
        yield _labelled(name, words, "task", values)
    took = {job.task: job.took.total_seconds() for job in found if job.took is not None}
    yield _labelled("job_seconds", "How long the last run of a job took.", "task", took)
    failures = {job.task: float(job.failures) for job in found}
    words = f"Runs of a job that failed in the last {FAILURES_OF.days} days."
    yield _labelled("job_failures", words, "task", failures)
    ages = {job.task: _seconds_since(job.succeeded_at) for job in found if job.succeeded_at}
    words = "Time since the last successful run of a job."
    yield _labelled("job_success_age_seconds", words, "task", ages)


def _worker() -> Iterator[GaugeMetricFamily]:
    # A worker that ends cleanly removes its heartbeat: then, and before the first, there is none.
    heartbeat_at = ProcrastinateWorker.objects.aggregate(at=Max("last_heartbeat"))["at"]
    age = _seconds_since(heartbeat_at) if heartbeat_at else math.inf
    words = "Time since the last heartbeat of a background worker; infinite without any."
    yield _gauge("worker_heartbeat_age_seconds", words, age)


def _webhooks() -> Iterator[GaugeMetricFamily]:
    tried = WebhookDelivery.objects.filter(attempted_at__gte=timezone.now() - _DAY)
    words = "Webhook messages that were tried in the last 24 hours and have not been delivered."
    yield _gauge("webhook_undelivered", words, tried.filter(delivered_at=None).count())


def _history() -> Iterator[GaugeMetricFamily]:
    sizes = history_size()
    on_disk = {str(kind): float(size.bytes) for kind, size in sizes.items()}
    yield _labelled("history_bytes", "Disk space used by history.", "kind", on_disk)
    rows = {str(kind): float(size.estimated_rows) for kind, size in sizes.items()}
    yield _labelled("history_rows", "Rows of history, estimated by PostgreSQL.", "kind", rows)


_PARTS: Final = (
    *(_devices, _derived, _faults, _jobs, _worker, _webhooks),
    *(_keys, _sign_ins, _replica, _log_receivers, _history),
)


# --- The page ---------------------------------------------------------------------------------


class MayScrape(HasScope):
    """Accepts METRICS_TOKEN, or a key with the scope `read` for all devices."""

    def has_permission(self, request: Request, view: Any) -> bool:
        told = request.META.get("HTTP_AUTHORIZATION", "")
        expected = f"Bearer {settings.METRICS_TOKEN}"
        if settings.METRICS_TOKEN and hmac.compare_digest(told.encode(), expected.encode()):
            return True
        return super().has_permission(request, view) and grant_of(request).is_for_all


class MetricsView(APIView):
    """Counters of all processes, and the state of the engine, in Prometheus' format."""

    permission_classes = [MayScrape, KnownParameters]

    @extend_schema(
        operation_id="metrics",
        responses={(200, "text/plain"): OpenApiResponse(str, "Prometheus' text format")},
    )
    def get(self, request: Request) -> HttpResponse:
        """Return counters and the state of the engine in Prometheus' format."""
        sample()
        counted = REGISTRY
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call] # has none
        engine = CollectorRegistry()
        engine.register(_Engine())
        text = generate_latest(counted) + generate_latest(engine)
        return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)
