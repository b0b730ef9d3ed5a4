"""API keys over HTTP, for keys with the scope `manage` for all devices.

Request and response bodies are msgspec structs: serializers would ignore unknown fields and report
invalid ones with other codes. See `fleet.views`.
"""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from fleet.access.authorization import grant_of
from fleet.access.issuing import NewKey, NotUsable, make_key, revoke, rotate
from fleet.device_ids import DEVICE_ID_RULE, are_device_ids
from fleet.http.body import json_body, require_no_fields
from fleet.http.openapi import answer, body, schema
from fleet.http.pagination import CURSOR, LIMIT, Pages
from fleet.http.wire import FieldError, InvalidBody, Order, decode_struct
from fleet.models import ApiKey, Scope, Site

ScopeName = Literal["ingest", "read", "manage"]
_IDS_RULE: Final = f"a list of device ids, each {DEVICE_ID_RULE}"
_LATEST_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
_DeviceIds = Annotated[list[str], msgspec.Meta(extra={"rule": _IDS_RULE})]


class KeyOrder(Order):
    """A key to create: for the devices of a site, for listed devices or, with neither, for all."""

    name: Annotated[
        str,
        msgspec.Meta(
            max_length=100,
            # Names are printed, and `$` alone would let a trailing newline pass.
            pattern=r"^[^\x00-\x1f\x7f-\x9f]+$(?!\n)",
            extra={"rule": "a single line of 1 to 100 characters"},
        ),
    ]
    scopes: Annotated[
        list[ScopeName],
        msgspec.Meta(
            min_length=1, extra={"rule": "a list of at least one of ingest, read and manage"}
        ),
    ]
    site: str | None = None
    meter_ids: _DeviceIds | None = msgspec.field(name="meterIds", default=None)
    vehicle_ids: _DeviceIds | None = msgspec.field(name="vehicleIds", default=None)
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = msgspec.field(
        name="expiresAt", default=None
    )


class KeyRow(msgspec.Struct):
    """A key's scopes, devices and expiry; `prefix` is the start of its token."""

    prefix: str
    name: str
    scopes: list[str]
    reach: Literal["all", "site", "devices"]
    site: str | None
    meter_ids: list[str] = msgspec.field(name="meterIds")
    vehicle_ids: list[str] = msgspec.field(name="vehicleIds")
    created_at: datetime = msgspec.field(name="createdAt")
    expires_at: datetime | None = msgspec.field(name="expiresAt")
    revoked_at: datetime | None = msgspec.field(name="revokedAt")
    last_used_at: datetime | None = msgspec.field(name="lastUsedAt")


class KeyMade(KeyRow, kw_only=True):
    """A new key. `token` is shown only once; the engine does not store it."""

    token: str


class KeyPage(msgspec.Struct):
    """A page of keys; `next` is the URL of the next page."""

    next: str | None
    previous: str | None
    results: list[KeyRow]


class _Pages(Pages):
    ordering = ("-id",)


class KeyViewSet(ViewSet):
    """API keys; every route needs a key with the scope `manage` for all devices."""

    scope = Scope.MANAGE
    lookup_field = "prefix"
    lookup_value_converter = "slug"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not grant_of(request).is_for_all:
            raise PermissionDenied("Managing keys needs a key for all devices")

    @extend_schema(
        operation_id="listKeys",
        parameters=[CURSOR, LIMIT],
        responses={200: answer(KeyPage, "Keys, newest first")},
    )
    def list(self, request: Request) -> Response:
        """List API keys, newest first."""
        pages = _Pages()
        page = pages.paginate_queryset(_keys(), request)
        return pages.get_paginated_response([KeyRow(**_columns(key)) for key in page or []])

    @extend_schema(
        operation_id="makeKey",
        request=body(schema(KeyOrder)),
        responses={201: answer(KeyMade, "The new key with its token")},
    )
    def create(self, request: Request) -> Response:
        """Create an API key.

        The key is for the devices of `site`, or for those listed in `meterIds` and `vehicleIds`.
        Omit all three for a key for all devices. Only this response shows the token.
        """
        order = decode_struct(json_body(request), KeyOrder)
        return _made(
            make_key(
                order.name,
                [Scope(scope) for scope in order.scopes],
                site=_site(order),
                **_device_ids(order),
                expires_at=_expires_at(order),
            )
        )

    @extend_schema(
        operation_id="rotateKey",
        request=None,
        responses={201: answer(KeyMade, "The replacement key with its token")},
    )
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, prefix: str) -> Response:
        """Replace a key with a new one.

        The old key expires in 7 days, or earlier if it was to expire earlier. If the old key has
        an expiry, the new key gets the same lifetime.
        """
        require_no_fields(request)
        try:
            return _made(rotate(_key(prefix)))
        except NotUsable:
            raise NotFound("Key not found, expired or revoked") from None

    @extend_schema(operation_id="revokeKey", responses={200: answer(KeyRow, "The revoked key")})
    def destroy(self, request: Request, prefix: str) -> Response:
        """Revoke a key."""
        require_no_fields(request)
        revoke(_key(prefix))
        return Response(KeyRow(**_columns(_key(prefix))))


def _site(order: KeyOrder) -> Site | None:
    """Return the site of an order. Errors: `InvalidBody`."""
    if order.site is None:
        return None
    if order.meter_ids is not None or order.vehicle_ids is not None:
        message = "use either site or meterIds and vehicleIds, not both"
        raise InvalidBody(FieldError("site", "conflict", message))
    site: Site | None = Site.objects.filter(name=order.site).first()
    if site is None:
        raise InvalidBody(
            FieldError("site", "unknown_site", "site must be the name of an existing site")
        )
    return site


def _device_ids(order: KeyOrder) -> dict[str, list[str]]:
    """Return the device ids of an order; empty lists mean all devices. Errors: `InvalidBody`."""
    for field, ids in (("meterIds", order.meter_ids), ("vehicleIds", order.vehicle_ids)):
        if not are_device_ids(ids or []):
            raise InvalidBody(FieldError(field, "invalid_format", f"{field} must be {_IDS_RULE}"))
    listed = [ids for ids in (order.meter_ids, order.vehicle_ids) if ids is not None]
    if listed and not any(listed):
        # A program that sends an empty list because it found no devices does not mean all devices.
        message = "list at least one device, or omit meterIds and vehicleIds for all devices"
        raise InvalidBody(FieldError("meterIds", "out_of_range", message))
    return {"meter_ids": order.meter_ids or [], "vehicle_ids": order.vehicle_ids or []}


def _expires_at(order: KeyOrder) -> datetime | None:
    """Return when an order's key expires. Errors: `InvalidBody`."""
    # In the year 9999, conversion to another time zone may exceed the range of `datetime`.
    if order.expires_at and not timezone.now() < order.expires_at < _LATEST_END:
        message = "expiresAt must be in the future, before the year 9999"
        raise InvalidBody(FieldError("expiresAt", "out_of_range", message))
    return order.expires_at


def _keys() -> QuerySet[ApiKey]:
    keys: QuerySet[ApiKey] = ApiKey.objects.select_related("site")
    return keys


def _key(prefix: str) -> ApiKey:
    key = _keys().filter(prefix=prefix).first()
    if key is None:
        raise NotFound("Key not found")
    return key


def _columns(key: ApiKey) -> dict[str, Any]:
    return {
        name: key.site and key.site.name if name == "site" else getattr(key, name)
        for name in KeyRow.__struct_fields__
    }


def _made(made: NewKey) -> Response:
    return Response(KeyMade(**_columns(made.key), token=made.token), HTTPStatus.CREATED)
