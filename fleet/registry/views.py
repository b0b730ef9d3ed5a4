"""Devices and sites over HTTP.

Bodies are serializers of the models: the console's forms have the same rules. They are strict, as
other bodies are; see `fleet.registry.strict`.
"""

from functools import wraps
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from django.db import IntegrityError, models
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from fleet.access.authorization import grant_of
from fleet.http.body import json_body, require_no_fields
from fleet.http.openapi import answer
from fleet.http.pagination import CURSOR, LIMIT, Pages
from fleet.http.wire import FieldError, InvalidBody, listed
from fleet.models import DeviceDefaults, Meter, Site, Vehicle
from fleet.registry.changes import InvalidSettings, MayNotMove, Outcome, change_devices
from fleet.registry.selection import (
    FILTERS,
    from_query,
    matching,
    reached,
    reached_sites,
    require_all_devices,
    site_of,
    with_ids,
)
from fleet.registry.serializers import (
    MeterBulk,
    MeterSettings,
    RegisteredMeter,
    RegisteredMeterPage,
    RegisteredVehicle,
    RegisteredVehiclePage,
    SitePage,
    SiteRow,
    SiteSettings,
    VehicleBulk,
    VehicleSettings,
)
from fleet.registry.strict import (
    StrictSerializer,
    decode_object,
    model_errors,
    not_unique,
    validated,
)
from fleet.tariffs.changes import HasOtherTariffs
from fleet.tariffs.models import SeriesPrice, Tariff

_SEARCH = OpenApiParameter("search", str, description="beginning of the name")


class DevicesChanged(msgspec.Struct):
    """How many devices were selected, and how many of them had other settings before."""

    matched: int
    changed: int


class SiteInUse(APIException):
    """Devices, keys or other objects refer to the site; the message says which kinds."""

    status_code = HTTPStatus.CONFLICT
    default_code = "in_use"

    def __init__(self, kinds: list[str]) -> None:
        super().__init__(f"The site can't be deleted: {listed(kinds)} refer to it")


class _DeviceViewSet(ViewSet):
    """The registry of one kind of devices."""

    model: type[Meter | Vehicle]
    row: type[StrictSerializer]
    body: type[StrictSerializer]
    order: Any

    def list(self, request: Request) -> Response:
        devices = reached(self.model, grant_of(request))
        return _page(request, devices.filter(matching(from_query(request.GET))), self.row, "pk")

    def retrieve(self, request: Request, **path: str) -> Response:
        return Response(self.row(self._device(request, path)).data)

    def partial_update(self, request: Request, **path: str) -> Response:
        data = decode_object(json_body(request))
        device = self._device(request, path)
        values = validated(self.body(device, data=data, partial=True))
        _change(request, self.model.objects.filter(pk=device.pk), values)
        return Response(self.row(self._device(request, path)).data)

    def bulk_update(self, request: Request) -> Response:
        order = validated(self.order(data=decode_object(json_body(request))))
        if ("ids" in order) == ("filter" in order):
            raise InvalidBody(FieldError("ids", "conflict", "use either ids or filter"))
        values = dict(order["set"])
        if not values:
            message = "set must have at least one setting"
            raise InvalidBody(FieldError("set", "out_of_range", message))
        if values.get("external_id") is not None:
            message = "set.externalId is unique: set it for one device at a time"
            raise InvalidBody(FieldError("set.externalId", "conflict", message))
        apply_defaults = order.get("applyDefaults", False)
        if apply_defaults and "site" not in values:
            message = "applyDefaults needs the site in set"
            raise InvalidBody(FieldError("applyDefaults", "conflict", message))
        devices = reached(self.model, grant_of(request))
        if "ids" in order:
            selected = with_ids(devices, order["ids"])
        else:
            selected = devices.filter(matching(order["filter"]))
        outcome = _change(request, selected, values, "set.", apply_defaults)
        return Response(DevicesChanged(outcome.matched, len(outcome.changed)))

    def _device(self, request: Request, path: dict[str, str]) -> Any:
        (device_id,) = path.values()
        device = reached(self.model, grant_of(request)).filter(pk=device_id).first()
        if device is None:
            raise NotFound(f"{self.model.__name__} not found")
        return device


def _described(kind: str, row: type, page: type, body: type, bulk: type) -> Any:
    """Describe the handlers of one kind of devices, each as one of its own."""
    one, many = kind.lower(), f"{kind.lower()}s"
    documented: dict[str, dict[str, Any]] = {
        "list": {
            "operation_id": f"list{kind}s",
            "description": f"List {many} and their settings, by id.",
            "parameters": [*FILTERS, CURSOR, LIMIT],
            "responses": {200: OpenApiResponse(page, f"{kind}s by id")},
        },
        "retrieve": {
            "operation_id": one,
            "description": f"Return a {one} and its settings.",
            "responses": {200: OpenApiResponse(row, f"The {one}")},
        },
        "partial_update": {
            "operation_id": f"change{kind}",
            "description": f"Change settings of a {one}.\n\nThose that the body leaves out stay as "
            "they are. Figures of all times follow at once.",
            "request": {"application/json": body},
            "responses": {200: OpenApiResponse(row, f"The {one} as it is now")},
        },
        "bulk_update": {
            "operation_id": f"change{kind}s",
            "description": f"Change settings of many {many}.\n\nOf those listed in `ids`, or of "
            "those that match `filter`: of all of them, or of none if one can't have these "
            "settings.",
            "request": {"application/json": bulk},
            "responses": {200: answer(DevicesChanged, f"How many {many} were changed")},
        },
    }

    def describe(view: type[_DeviceViewSet]) -> type[_DeviceViewSet]:
        for name, words in documented.items():
            setattr(view, name, extend_schema(**words)(_own(getattr(view, name))))
        return view

    return describe


def _own(handler: Any) -> Any:
    @wraps(handler)
    def of_this_view(self: _DeviceViewSet, request: Request, **path: str) -> Response:
        response: Response = handler(self, request, **path)
        return response

    return of_this_view


@_described("Meter", RegisteredMeter, RegisteredMeterPage, MeterSettings, MeterBulk)
class MeterViewSet(_DeviceViewSet):
    """Meters of the registry."""

    model, row, body, order = Meter, RegisteredMeter, MeterSettings, MeterBulk


@_described("Vehicle", RegisteredVehicle, RegisteredVehiclePage, VehicleSettings, VehicleBulk)
class VehicleViewSet(_DeviceViewSet):
    """Vehicles of the registry."""

    model, row, body, order = Vehicle, RegisteredVehicle, VehicleSettings, VehicleBulk


class SiteViewSet(ViewSet):
    """Sites; changing them needs a key for all devices."""

    lookup_url_kwarg = "site_id"
    lookup_value_converter = "int"
    owned: ClassVar[tuple[type[models.Model], ...]] = (DeviceDefaults, Tariff, SeriesPrice)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        require_all_devices(request)

    @extend_schema(
        operation_id="listSites",
        parameters=[_SEARCH, CURSOR, LIMIT],
        responses={200: OpenApiResponse(SitePage, "Sites by name")},
    )
    def list(self, request: Request) -> Response:
        """List sites by name."""
        sites = reached_sites(grant_of(request)).prefetch_related("tariffs")
        if "search" in request.GET:
            sites = sites.filter(name__istartswith=request.GET["search"])
        return _page(request, sites, SiteRow, "name")

    @extend_schema(operation_id="site", responses={200: OpenApiResponse(SiteRow, "The site")})
    def retrieve(self, request: Request, site_id: int) -> Response:
        """Return a site."""
        return Response(SiteRow(site_of(request, site_id)).data)

    @extend_schema(
        operation_id="makeSite",
        request={"application/json": SiteSettings},
        responses={201: OpenApiResponse(SiteRow, "The new site")},
    )
    def create(self, request: Request) -> Response:
        """Create a site."""
        return _saved(SiteSettings(data=decode_object(json_body(request))), HTTPStatus.CREATED)

    @extend_schema(
        operation_id="changeSite",
        request={"application/json": SiteSettings},
        responses={200: OpenApiResponse(SiteRow, "The site as it is now")},
    )
    def partial_update(self, request: Request, site_id: int) -> Response:
        """Change settings of a site; those that the body leaves out stay as they are."""
        data = decode_object(json_body(request))
        site = site_of(request, site_id)
        return _saved(SiteSettings(site, data=data, partial=True), HTTPStatus.OK)

    @extend_schema(
        operation_id="deleteSite", responses={200: OpenApiResponse(SiteRow, "The deleted site")}
    )
    def destroy(self, request: Request, site_id: int) -> Response:
        """Delete a site to which nothing refers; otherwise 409 (`in_use`)."""
        require_no_fields(request)
        site = site_of(request, site_id)
        row = SiteRow(site).data
        if kinds := _referring(site, self.owned):
            raise SiteInUse(kinds)
        try:
            site.delete()
        except models.ProtectedError:  # a device has just joined it
            raise SiteInUse(["devices"]) from None
        return Response(row)


def _page(
    request: Request, rows: models.QuerySet[Any], row: type[StrictSerializer], order: str
) -> Response:
    class _Pages(Pages):
        ordering = (order,)

    pages = _Pages()
    page = pages.paginate_queryset(rows, request)
    return pages.get_paginated_response(row(page or [], many=True).data)


def _change(
    request: Request,
    devices: models.QuerySet[Any],
    values: dict[str, Any],
    within: str = "",
    apply_defaults: bool = False,
) -> Outcome:
    may_move = grant_of(request).is_for_all
    try:
        return change_devices(devices, values, apply_defaults=apply_defaults, may_move=may_move)
    except MayNotMove:
        message = "Moving devices to another site needs a key for all devices"
        raise PermissionDenied(message) from None
    except InvalidSettings as error:
        errors = model_errors(error.errors, within)
        if within:  # of many: say of which
            for found in errors:
                found.message += f" ({error.whose})"
        raise InvalidBody(*errors) from None
    except IntegrityError:  # another device has just got it
        raise InvalidBody(not_unique(f"{within}externalId")) from None


def _saved(serializer: SiteSettings, status: HTTPStatus) -> Response:
    validated(serializer)
    try:
        site = serializer.save()
    except IntegrityError:  # another site has just got this name
        raise InvalidBody(not_unique("name")) from None
    except HasOtherTariffs:
        message = "tariffPerKwh can't be set: the site has tariffs by date or time"
        raise InvalidBody(FieldError("tariffPerKwh", "conflict", message)) from None
    return Response(SiteRow(site).data, status)


def _referring(site: Site, owned: tuple[type[models.Model], ...]) -> list[str]:
    """Return the kinds of objects that refer to a site, other than those that belong to it."""
    return sorted(
        str(relation.related_model._meta.verbose_name_plural)
        for relation in Site._meta.related_objects
        if relation.related_model not in owned
        and relation.related_model._base_manager.filter(**{relation.field.name: site}).exists()
    )
