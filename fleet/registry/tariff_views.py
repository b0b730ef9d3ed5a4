"""Tariffs and prices of sites over HTTP."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from fleet.http.body import json_body, require_no_fields
from fleet.http.instants import NotAnInstant, instant_of
from fleet.http.openapi import answer
from fleet.http.wire import FieldError, InvalidBody
from fleet.models import Site
from fleet.registry.selection import require_all_devices, site_of
from fleet.registry.strict import decode_object, validated
from fleet.registry.tariffs import (
    MAX_DAYS,
    Price,
    PricesInForce,
    SeriesOrder,
    SeriesStored,
    TariffList,
    TariffRow,
    TariffSettings,
)
from fleet.tariffs.changes import BeginsWithAnother, save_tariff, store_series
from fleet.tariffs.models import Tariff
from fleet.tariffs.prices import site_prices

_WEEK: Final = timedelta(days=7)
_START: Final = OpenApiParameter(
    "start", datetime, description="start of the span; default: seven days before `end`, or now"
)
_END: Final = OpenApiParameter(
    "end", datetime, description="end of the span; default: seven days after `start`"
)


class TariffViewSet(ViewSet):
    """The tariffs of a site; changing them needs a key for all devices."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        require_all_devices(request)

    @extend_schema(
        operation_id="listTariffs",
        responses={200: OpenApiResponse(TariffList, "Tariffs in the order in which they begin")},
    )
    def list(self, request: Request, site_id: int) -> Response:
        """List the tariffs of a site; each applies until the next one begins."""
        tariffs = _tariffs(site_of(request, site_id))
        return Response({"results": TariffRow(tariffs, many=True).data})

    @extend_schema(
        operation_id="makeTariff",
        request={"application/json": TariffSettings},
        responses={201: OpenApiResponse(TariffRow, "The new tariff")},
    )
    def create(self, request: Request, site_id: int) -> Response:
        """Add a tariff to a site."""
        values = validated(TariffSettings(data=decode_object(json_body(request))))
        site = site_of(request, site_id)
        return _saved(Tariff(site=site), values, HTTPStatus.CREATED)

    @extend_schema(
        operation_id="replaceTariff",
        request={"application/json": TariffSettings},
        responses={200: OpenApiResponse(TariffRow, "The tariff as it is now")},
    )
    def update(self, request: Request, site_id: int, tariff_id: int) -> Response:
        """Replace a tariff and its rules."""
        values = validated(TariffSettings(data=decode_object(json_body(request))))
        return _saved(_tariff(request, site_id, tariff_id), values, HTTPStatus.OK)

    @extend_schema(
        operation_id="deleteTariff",
        responses={200: OpenApiResponse(TariffRow, "The deleted tariff")},
    )
    def destroy(self, request: Request, site_id: int, tariff_id: int) -> Response:
        """Delete a tariff; the one before it applies until the next one begins."""
        require_no_fields(request)
        tariff = _tariff(request, site_id, tariff_id)
        row = TariffRow(tariff).data
        tariff.delete()
        return Response(row)


class PriceViewSet(ViewSet):
    """The prices of a site; changing its series needs a key for all devices."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        require_all_devices(request)

    @extend_schema(
        operation_id="prices",
        parameters=[_START, _END],
        responses={200: answer(PricesInForce, "The prices in force, in time order")},
    )
    def list(self, request: Request, site_id: int) -> Response:
        """Return the prices in force at a site, by its tariffs; at most 366 days."""
        site = site_of(request, site_id)
        starts_at, ends_at = _span(request)
        prices = site_prices([site.pk], starts_at, ends_at)[site.pk]
        stretches = [
            Price(first, last, None if price is None else float(price))
            for first, last, price in prices.stretches
        ]
        return Response(PricesInForce(starts_at, ends_at, prices.currency, stretches))

    @extend_schema(
        operation_id="storePrices",
        request={"application/json": SeriesOrder},
        responses={200: answer(SeriesStored, "How many quarter hours were stored")},
    )
    def update(self, request: Request, site_id: int) -> Response:
        """Store prices of a site's series, in place of those of the same time.

        They are in force while a tariff of kind `series` is.
        """
        values = validated(SeriesOrder(data=decode_object(json_body(request))))
        prices = [
            price
            for price in values["pricesPerKwh"]
            for _ in range(values["intervalMinutes"] // 15)
        ]
        outcome = store_series(site_of(request, site_id), values["start"], prices)
        return Response(SeriesStored(outcome.stored, outcome.removed))


def _tariffs(site: Site) -> Any:
    return site.tariffs.select_related("site").prefetch_related("rules")


def _tariff(request: Request, site_id: int, tariff_id: int) -> Tariff:
    tariff: Tariff | None = _tariffs(site_of(request, site_id)).filter(pk=tariff_id).first()
    if tariff is None:
        raise NotFound("Tariff not found")
    return tariff


def _saved(tariff: Tariff, values: dict[str, Any], status: HTTPStatus) -> Response:
    rules = values.pop("rules")
    for name, value in values.items():
        setattr(tariff, name, value)
    try:
        save_tariff(tariff, rules)
    except BeginsWithAnother:
        message = "validFrom must not be that of another tariff of the site"
        raise InvalidBody(FieldError("validFrom", "not_unique", message)) from None
    return Response(TariffRow(_tariffs(tariff.site).get(pk=tariff.pk)).data, status)


def _span(request: Request) -> tuple[datetime, datetime]:
    """Return the span of a query. Errors: `InvalidBody`."""
    try:
        starts_at, ends_at = (instant_of(request.GET, name) for name in ("start", "end"))
    except NotAnInstant as error:
        raise InvalidBody(FieldError(error.name, "invalid_format", str(error))) from None
    starts_at = starts_at or (ends_at - _WEEK if ends_at else timezone.now().astimezone(UTC))
    ends_at = ends_at or starts_at + _WEEK
    if not timedelta(0) < ends_at - starts_at <= timedelta(days=MAX_DAYS):
        message = f"end must be after start, by at most {MAX_DAYS} days"
        raise InvalidBody(FieldError("end", "out_of_range", message))
    return starts_at, ends_at
