"""Links and live state over HTTP.

Request and response bodies are msgspec structs, not serializers. A struct also provides the error
message of each field and its description in the OpenAPI document. A serializer would ignore unknown
fields and report invalid ones with other codes. Views are plain viewsets, because generic ones need
a serializer for OPTIONS.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

import msgspec
from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from fleet.access.authorization import grant_of
from fleet.device_ids import DEVICE_ID_PATTERN, DEVICE_ID_RULE, are_device_ids
from fleet.http.body import json_body, require_no_fields
from fleet.http.instants import NotAnInstant, instant_of
from fleet.http.openapi import answer, body, schema
from fleet.http.pagination import CURSOR, LIMIT, Pages
from fleet.http.wire import FieldError, InvalidBody, Order, decode_struct
from fleet.links import (
    EndsBeforeItBegins,
    NoLinkInForce,
    OutOfBounds,
    UnknownDevice,
    end_link,
    link_vehicle,
    unlink_vehicle,
)
from fleet.models import VehicleMeterLink
from fleet.status import MeterStatus, VehicleStatus, meter_status, vehicle_status
from fleet.timeline import Part

_DeviceId = Annotated[
    str,
    msgspec.Meta(
        # `$` alone would let a trailing newline pass.
        pattern=rf"^{DEVICE_ID_PATTERN}$(?!\n)",
        extra={"rule": DEVICE_ID_RULE},
    ),
]
_VEHICLE = OpenApiParameter("vehicleId", str, description="only links of this vehicle")
_METER = OpenApiParameter("meterId", str, description="only links to this meter")
_FROM = OpenApiParameter(
    "from",
    datetime,
    description="remove links from this time on; default, with `to` only: now",
)
_TO = OpenApiParameter(
    "to",
    datetime,
    description="remove links before this time; default, with `from` only: no end",
)


class LinkOrder(Order):
    """A link of a vehicle to a meter, from `validFrom` (default: now) up to `validTo`.

    Without `validTo`, it is until further notice.
    """

    vehicle_id: _DeviceId = msgspec.field(name="vehicleId")
    meter_id: _DeviceId = msgspec.field(name="meterId")
    valid_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(
        name="validFrom", default=None
    )
    valid_to: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(
        name="validTo", default=None
    )


class Link(msgspec.Struct):
    """The period in which a vehicle is linked to a meter; `validTo` null: until further notice."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    meter_id: str = msgspec.field(name="meterId")
    valid_from: datetime = msgspec.field(name="validFrom")
    valid_to: datetime | None = msgspec.field(name="validTo")


class LinkMade(Link, kw_only=True):
    """The link, and what it superseded: links of the vehicle, or the parts in its time."""

    superseded: list[Link]


class Unlinked(msgspec.Struct):
    """The time in which the vehicle now has no link, and the links, or parts, that were removed."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    valid_from: datetime = msgspec.field(name="validFrom")
    valid_to: datetime | None = msgspec.field(name="validTo")
    superseded: list[Link]


class LinkPage(msgspec.Struct):
    """A page of links; `next` is the URL of the next page."""

    next: str | None
    previous: str | None
    results: list[Link]


class _Pages(Pages):
    ordering = ("vehicle_id", "-valid_during", "id")


class LinkViewSet(ViewSet):
    """Which meter serves which vehicle, and when."""

    @extend_schema(
        operation_id="listLinks",
        parameters=[_VEHICLE, _METER, CURSOR, LIMIT],
        responses={200: answer(LinkPage, "Links by vehicle, newest first")},
    )
    def list(self, request: Request) -> Response:
        """List links by vehicle, newest first."""
        pages = _Pages()
        page = pages.paginate_queryset(_asked_for(request), request)
        return pages.get_paginated_response([_to_wire(link) for link in page or []])

    @extend_schema(
        operation_id="linkVehicle",
        request=body(schema(LinkOrder)),
        responses={
            201: answer(LinkMade, "The vehicle is linked"),
            200: answer(LinkMade, "This link was already in force"),
        },
    )
    def update(self, request: Request) -> Response:
        """Link a vehicle to a meter, for a time or until further notice, also in the past.

        Links of the vehicle are cut or removed where they lie in that time. `superseded` lists
        what they lost. To undo the change, make the gap `?from=&to=` of the same time with
        `DELETE`, and `PUT` each of the superseded links again.
        """
        order = decode_struct(json_body(request), LinkOrder)
        grant = grant_of(request)
        if not grant.reaches_vehicle(order.vehicle_id):
            raise NotFound("Vehicle not found")
        if not grant.reaches_meter(order.meter_id):
            raise NotFound("Meter not found")
        try:
            made = link_vehicle(order.vehicle_id, order.meter_id, order.valid_from, order.valid_to)
        except UnknownDevice as error:
            raise NotFound(str(error)) from None
        except (OutOfBounds, EndsBeforeItBegins) as error:
            raise _refusal(error) from None
        link = LinkMade(
            **msgspec.structs.asdict(_to_wire(made.link)),
            superseded=_parts_to_wire(order.vehicle_id, made.superseded),
        )
        return Response(link, HTTPStatus.CREATED if made.is_new else HTTPStatus.OK)

    @extend_schema(
        operation_id="endLink",
        parameters=[_FROM, _TO],
        responses={
            200: OpenApiResponse(
                {"oneOf": [schema(Link), schema(Unlinked)]},
                "The ended link; with `from` or `to`, the time without a link and what was removed",
            )
        },
    )
    def destroy(self, request: Request, vehicle_id: str) -> Response:
        """End a vehicle's link in force, or with `from` or `to` remove its links in that time.

        Links that reach beyond that time keep the rest. `superseded` lists what was removed, as it
        is to be put again to undo the change.
        """
        require_no_fields(request)
        reaches = grant_of(request).reaches_vehicle(vehicle_id)
        if "from" in request.GET or "to" in request.GET:
            return Response(_unlinked(vehicle_id, request.GET, reaches))
        try:
            if not reaches:
                raise NoLinkInForce
            return Response(_to_wire(end_link(vehicle_id).link))
        except NoLinkInForce:
            raise NotFound("No link in force") from None


class MeterStatusViewSet(ViewSet):
    """The live state of a meter."""

    lookup_url_kwarg = "meter_id"
    lookup_value_converter = "device_id"

    @extend_schema(operation_id="meterStatus", responses={200: answer(MeterStatus, "Live state")})
    def retrieve(self, request: Request, meter_id: str) -> Response:
        """Return the live state of a meter: the last known value of each field."""
        status = meter_status(meter_id) if grant_of(request).reaches_meter(meter_id) else None
        if status is None:
            raise NotFound("Meter not found")
        return Response(status)


class VehicleStatusViewSet(ViewSet):
    """The live state of a vehicle."""

    lookup_url_kwarg = "vehicle_id"
    lookup_value_converter = "device_id"

    @extend_schema(
        operation_id="vehicleStatus",
        responses={200: answer(VehicleStatus, "Live state")},
    )
    def retrieve(self, request: Request, vehicle_id: str) -> Response:
        """Return the live state of a vehicle: the last known value of each field."""
        reaches = grant_of(request).reaches_vehicle(vehicle_id)
        status = vehicle_status(vehicle_id) if reaches else None
        if status is None:
            raise NotFound("Vehicle not found")
        return Response(status)


def _asked_for(request: Request) -> QuerySet[VehicleMeterLink]:
    wanted = {
        field: request.GET[parameter]
        for parameter, field in (("vehicleId", "vehicle_id"), ("meterId", "meter_id"))
        if parameter in request.GET
    }
    if not are_device_ids([*wanted.values()]):
        return VehicleMeterLink.objects.none()
    links = VehicleMeterLink.objects.filter(**wanted)
    grant = grant_of(request)
    if grant.is_for_all:
        return links
    return links.filter(Q(vehicle_id__in=grant.vehicle_ids) | Q(meter_id__in=grant.meter_ids))


def _unlinked(vehicle_id: str, query: Mapping[str, str], reaches: bool) -> Unlinked:
    try:
        starts_at, ends_at = instant_of(query, "from"), instant_of(query, "to")
        if not reaches:
            raise UnknownDevice("Vehicle")
        change = unlink_vehicle(vehicle_id, starts_at, ends_at)
    except UnknownDevice as error:
        raise NotFound(str(error)) from None
    except (OutOfBounds, EndsBeforeItBegins) as error:
        raise _refusal(error) from None
    except NotAnInstant as error:
        raise InvalidBody(FieldError(error.name, "invalid_format", str(error))) from None
    removed = _parts_to_wire(vehicle_id, change.superseded)
    return Unlinked(vehicle_id, change.starts_at, change.ends_at, removed)


def _refusal(error: OutOfBounds | EndsBeforeItBegins) -> InvalidBody:
    return InvalidBody(FieldError(error.field, "out_of_range", str(error)))


def _to_wire(link: VehicleMeterLink) -> Link:
    span = link.valid_during
    return Link(link.vehicle_id, link.meter_id, span.lower, span.upper)


def _parts_to_wire(vehicle_id: str, parts: Sequence[Part]) -> list[Link]:
    return [Link(vehicle_id, *part) for part in parts]
