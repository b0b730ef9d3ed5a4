"""Links and live state over HTTP.

Request and response bodies are msgspec structs, not serializers. A struct also provides the error
message of each field and its description in the OpenAPI document. A serializer would ignore unknown
fields and report invalid ones with other codes. Views are plain viewsets, because generic ones need
a serializer for OPTIONS.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

import msgspec
from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from fleet.access.authorization import grant_of
from fleet.device_ids import DEVICE_ID_PATTERN, DEVICE_ID_RULE, are_device_ids
from fleet.http.body import json_body, require_no_fields
from fleet.http.openapi import answer, body, schema
from fleet.http.pagination import CURSOR, LIMIT, Pages
from fleet.http.wire import FieldError, InvalidBody, Order, decode_struct
from fleet.links import NoLinkInForce, OutOfBounds, UnknownDevice, end_link, link_vehicle
from fleet.models import VehicleMeterLink
from fleet.status import MeterStatus, VehicleStatus, meter_status, vehicle_status

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


class LinkOrder(Order):
    """A link of a vehicle to a meter, from `validFrom` on; default: now."""

    vehicle_id: _DeviceId = msgspec.field(name="vehicleId")
    meter_id: _DeviceId = msgspec.field(name="meterId")
    valid_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(
        name="validFrom", default=None
    )


class Link(msgspec.Struct):
    """The period in which a vehicle is linked to a meter; `validTo` null: until further notice."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    meter_id: str = msgspec.field(name="meterId")
    valid_from: datetime = msgspec.field(name="validFrom")
    valid_to: datetime | None = msgspec.field(name="validTo")


class LinkMade(Link, kw_only=True):
    """The requested link, and the links of the vehicle that it replaced."""

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
            201: answer(LinkMade, "The vehicle is linked; the previous link ends at `validFrom`"),
            200: answer(LinkMade, "This link was already in force"),
        },
    )
    def update(self, request: Request) -> Response:
        """Link a vehicle to a meter.

        The link in force at `validFrom` ends then. Links that begin then or later are removed and
        listed under `superseded`.
        """
        order = decode_struct(json_body(request), LinkOrder)
        grant = grant_of(request)
        if not grant.reaches_vehicle(order.vehicle_id):
            raise NotFound("Vehicle not found")
        if not grant.reaches_meter(order.meter_id):
            raise NotFound("Meter not found")
        try:
            change = link_vehicle(order.vehicle_id, order.meter_id, order.valid_from)
        except UnknownDevice as error:
            raise NotFound(str(error)) from None
        except OutOfBounds as error:
            raise InvalidBody(FieldError("validFrom", "out_of_range", str(error))) from None
        made = LinkMade(
            **msgspec.structs.asdict(_to_wire(change.link)),
            superseded=[_to_wire(link) for link in change.superseded],
        )
        return Response(made, HTTPStatus.CREATED if change.is_new else HTTPStatus.OK)

    @extend_schema(
        operation_id="endLink",
        responses={200: answer(Link, "The ended link")},
    )
    def destroy(self, request: Request, vehicle_id: str) -> Response:
        """End a vehicle's link in force."""
        require_no_fields(request)
        try:
            if not grant_of(request).reaches_vehicle(vehicle_id):
                raise NoLinkInForce
            return Response(_to_wire(end_link(vehicle_id)))
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


def _to_wire(link: VehicleMeterLink) -> Link:
    span = link.valid_during
    return Link(link.vehicle_id, link.meter_id, span.lower, span.upper)
