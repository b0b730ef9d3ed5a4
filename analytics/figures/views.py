"""Performance over HTTP."""

import csv
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from itertools import chain, islice
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from django.db.models import Q
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.pagination import Cursor
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from analytics.figures import whole_fleet
from analytics.figures.accounts import Unlinked
from analytics.figures.cache import cached_performance, cached_unlinked_energy, read_of_vehicle
from analytics.figures.explain import Explanation, explanation
from analytics.figures.performance import (
    Performance,
    UnknownVehicle,
    vehicle_account,
    vehicle_performance,
)
from analytics.figures.series import Granularity, Series, TooManyPoints, vehicle_series
from analytics.figures.whole_fleet import (
    FleetTotals,
    InvalidFilter,
    VehiclePage,
    csv_rows,
    vehicle_days,
)
from analytics.figures.window import InvalidWindow, Window
from analytics.formulas import Health
from fleet.access.authorization import grant_of
from fleet.http.openapi import answer
from fleet.http.pagination import CURSOR, LIMIT, Pages
from fleet.stores import replica

_WINDOW: Final = (
    OpenApiParameter("start", datetime, description="RFC 3339; default 24 hours before end"),
    OpenApiParameter("end", datetime, description="RFC 3339; default now"),
    OpenApiParameter("window", str, description="instead of both: 15m to 400d, ending now"),
)
_CACHED: Final = OpenApiParameter(
    "X-Cache",
    str,
    OpenApiParameter.HEADER,
    enum=["hit", "miss"],
    response=[200],
    description="only for the default window: whether the figure comes from the cache",
)
_SERIES: Final = (
    OpenApiParameter("granularity", str, enum=[*Granularity], description="default hour"),
    OpenApiParameter("tz", str, description="IANA time zone of day boundaries; default UTC"),
)
_FILTERS: Final = (
    OpenApiParameter(
        "health", str, description=f"one or more of {', '.join(Health)}, separated by commas"
    ),
    OpenApiParameter("site", str, description="name of a site"),
    OpenApiParameter("minEfficiency", float, description="percent"),
    OpenApiParameter("maxEfficiency", float, description="percent"),
    OpenApiParameter(
        "ordering",
        str,
        enum=[name for key in whole_fleet.ORDERINGS for name in (key, f"-{key}")],
        description="default vehicleId; vehicles without a value come last",
    ),
)
_ASKED_FOR_WINDOW: Final = ("start", "end", "window")

Result = TypeVar("Result")
_zone_names: Final = cache(available_timezones)  # reads a thousand files


class _Pages(Pages):
    """Pages whose cursor is a rank and an id, to distinguish vehicles of the same rank."""

    next_position = previous_position = None

    def get_ordering(self, request: Request, *_: Any) -> tuple[str, ...]:
        is_descending = request.GET.get("ordering", "").startswith("-")
        return ("-rank" if is_descending else "rank", "vehicle_id")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        cursor = super().decode_cursor(request)
        if cursor is None or cursor.position is None:
            return super().paginate_queryset(queryset, request, view)
        rank, _, vehicle_id = str(cursor.position).partition(" ")
        by_rank = "lt" if cursor.reverse != self.get_ordering(request)[0].startswith("-") else "gt"
        by_id = "lt" if cursor.reverse else "gt"
        beyond = Q(**{f"rank__{by_rank}": rank}) | Q(
            rank=rank, **{f"vehicle_id__{by_id}": vehicle_id}
        )
        page: Any = super().paginate_queryset(queryset.filter(beyond), request, view)
        # The client came from that page.
        if cursor.reverse:
            self.has_next = True
        else:
            self.has_previous = True
        return page

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the cursor's direction; `paginate_queryset` takes care of its position."""
        cursor = super().decode_cursor(request)
        return cursor and Cursor(offset=0, reverse=cursor.reverse, position=None)

    def _get_position_from_instance(self, instance: Any, ordering: Any) -> str:
        return f"{instance.rank} {instance.vehicle_id}"


class PerformanceViewSet(ViewSet):
    """Energy, efficiency and health of vehicles."""

    lookup_url_kwarg = "vehicle_id"
    lookup_value_converter = "device_id"

    @extend_schema(
        operation_id="vehiclePerformance",
        parameters=[*_WINDOW, _CACHED],
        responses={200: answer(Performance, "The figures of the window, by default 24 hours")},
    )
    def retrieve(self, request: Request, vehicle_id: str) -> Response:
        """Return energy, efficiency and health of a vehicle over a window."""
        _require_reach(request, vehicle_id)
        try:
            # Most requests ask for the default, without a query.
            if request.META.get("QUERY_STRING") and _asks_for_window(request):
                window = _window(request)
                return Response(_read(vehicle_id, vehicle_performance, window))
            figure, was_cached = cached_performance(vehicle_id)
        except UnknownVehicle:
            raise _VehicleNotFound from None
        except InvalidWindow as error:
            raise ValidationError(str(error)) from None
        return Response(figure, headers={"X-Cache": "hit" if was_cached else "miss"})

    @extend_schema(
        operation_id="vehicleSeries",
        parameters=[*_WINDOW, *_SERIES],
        responses={200: answer(Series, "The figures of the window, interval by interval")},
    )
    @action(detail=True)
    def series(self, request: Request, vehicle_id: str) -> Response:
        """Return the figures of a vehicle per 15 minutes, hour or day."""
        _require_reach(request, vehicle_id)
        window, granularity, zone = _window(request), _granularity(request), _zone(request)
        try:
            return Response(_read(vehicle_id, vehicle_series, window, granularity, zone))
        except UnknownVehicle:
            raise _VehicleNotFound from None
        except (InvalidWindow, TooManyPoints) as error:
            raise ValidationError(str(error)) from None

    @extend_schema(
        operation_id="explainPerformance",
        parameters=[*_WINDOW],
        responses={200: answer(Explanation, "How the figure of the window was calculated")},
    )
    @action(detail=True)
    def explain(self, request: Request, vehicle_id: str) -> Response:
        """Return how the figure of a vehicle was calculated."""
        _require_reach(request, vehicle_id)
        window = _window(request)
        try:
            return Response(_read(vehicle_id, _explained, window))
        except UnknownVehicle:
            raise _VehicleNotFound from None
        except InvalidWindow as error:
            raise ValidationError(str(error)) from None

    @extend_schema(
        operation_id="fleetPerformance",
        parameters=[*_FILTERS, CURSOR, LIMIT],
        responses={
            (200, "application/json"): answer(VehiclePage, "A page, one row per vehicle"),
            (200, "text/csv"): OpenApiResponse(str, "All rows, if the request accepts text/csv"),
        },
    )
    def list(self, request: Request) -> HttpResponseBase:
        """List the last 24 hours of every vehicle, as JSON pages or CSV."""
        try:
            days = vehicle_days(request.GET)
        except InvalidFilter as error:
            raise ValidationError(str(error)) from None
        grant = grant_of(request)
        if not grant.is_for_all:
            days = days.filter(vehicle_id__in=grant.vehicle_ids)
        pages = _Pages()
        if "text/csv" in request.META.get("HTTP_ACCEPT", ""):
            ordered = days.order_by(*pages.get_ordering(request))
            rows = replica.read(
                lambda: _begun(csv_rows(ordered.using(replica.database()))), in_a_transaction=False
            )
            return _csv(rows)
        try:
            page = replica.read(lambda: pages.paginate_queryset(days, request))
        except ValueError:  # the cursor belongs to another ordering
            raise NotFound(pages.invalid_cursor_message) from None
        return pages.get_paginated_response([whole_fleet.row(day) for day in page or []])

    @extend_schema(
        operation_id="fleetTotals",
        responses={200: answer(FleetTotals, "The last 24 hours of the whole fleet")},
    )
    def totals(self, request: Request) -> Response:
        """Return the last 24 hours of the whole fleet."""
        if not grant_of(request).is_for_all:
            raise PermissionDenied("Totals of the fleet need a key for all devices")
        return Response(replica.read(whole_fleet.fleet_totals))


def _read(vehicle_id: str, figures: Callable[..., Result], *about: Any) -> Result:
    """Return `figures` of a vehicle. Errors: those of `figures`."""
    return read_of_vehicle(
        vehicle_id, lambda: figures(vehicle_id, *about, unlinked=cached_unlinked_energy)
    )


def _explained(vehicle_id: str, window: Window, unlinked: Unlinked) -> Explanation:
    return explanation(vehicle_account(vehicle_id, window, unlinked))


def _asks_for_window(request: Request) -> bool:
    return any(parameter in request.GET for parameter in _ASKED_FOR_WINDOW)


class _VehicleNotFound(NotFound):
    default_detail = "Vehicle not found"


def _require_reach(request: Request, vehicle_id: str) -> None:
    """Treat a vehicle out of the key's reach as unknown."""
    if not grant_of(request).reaches_vehicle(vehicle_id):
        raise _VehicleNotFound


def _begun(rows: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """Return `rows`, after the database has returned the first ones."""
    first = list(islice(rows, 2))
    return chain(first, rows)


class _Line:
    """A file for `csv.writer` that returns each line."""

    def write(self, line: str) -> str:
        return line


def _csv(rows: Iterator[list[Any]]) -> StreamingHttpResponse:
    writer = csv.writer(_Line())
    response = StreamingHttpResponse(
        (writer.writerow(row) for row in rows), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = 'attachment; filename="performance.csv"'
    return response


def _window(request: Request) -> Window:
    try:
        return Window.from_query(request.GET)
    except InvalidWindow as error:
        raise ValidationError(str(error)) from None


def _granularity(request: Request) -> Granularity:
    try:
        return Granularity(request.GET.get("granularity", Granularity.HOUR))
    except ValueError:
        raise ValidationError(f"granularity must be one of {', '.join(Granularity)}") from None


def _zone(request: Request) -> ZoneInfo:
    name = request.GET.get("tz", "UTC")
    if name not in _zone_names():
        raise ValidationError("tz must be the name of an IANA time zone, such as Europe/Berlin")
    return ZoneInfo(name)
