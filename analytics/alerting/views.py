"""Faults over HTTP.

Answers are msgspec structs, not serializers: webhooks send the same ones, and the OpenAPI document
is made of them. See `fleet.views`.
"""

from typing import Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from analytics.alerting import fault_list
from analytics.alerting.fault_list import STATES, FaultHistory, FaultPage
from analytics.figures.whole_fleet import InvalidFilter
from analytics.models import FaultKind
from fleet.access.authorization import grant_of
from fleet.http.openapi import answer
from fleet.http.pagination import CURSOR, LIMIT, Pages

_FILTERS: Final = (
    OpenApiParameter(
        "state",
        str,
        enum=STATES,
        many=True,
        description="one or more; default open and acknowledged",
    ),
    OpenApiParameter(
        "kind", str, enum=FaultKind.values, many=True, description="one or more; default all"
    ),
    OpenApiParameter("site", str, description="name of a site"),
    OpenApiParameter("vehicleId", str, description="only faults of this vehicle"),
    OpenApiParameter("meterId", str, description="only faults of this meter"),
)


class _Pages(Pages):
    # In the order in which they opened; unlike times, ids are unique.
    ordering = ("-id",)


class FaultViewSet(ViewSet):
    """Faults in the fleet."""

    lookup_url_kwarg = "fault_id"
    lookup_value_converter = "int"

    @extend_schema(
        operation_id="listFaults",
        parameters=[*_FILTERS, CURSOR, LIMIT],
        responses={200: answer(FaultPage, "Faults, newest first")},
    )
    def list(self, request: Request) -> Response:
        """List faults, newest first."""
        try:
            faults = fault_list.faults_asked_for(request.GET)
        except InvalidFilter as error:
            raise ValidationError(str(error)) from None
        faults = faults.filter(fault_list.within(grant_of(request)))
        pages = _Pages()
        page = pages.paginate_queryset(faults, request)
        return pages.get_paginated_response([fault_list.row(fault) for fault in page or []])

    @extend_schema(
        operation_id="fault",
        responses={200: answer(FaultHistory, "The fault and its changes")},
    )
    def retrieve(self, request: Request, fault_id: int) -> Response:
        """Return a fault with its changes."""
        history = fault_list.history(fault_id, fault_list.within(grant_of(request)))
        if history is None:
            raise NotFound("Fault not found")
        return Response(history)
