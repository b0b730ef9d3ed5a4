"""Performance over HTTP."""

from typing import Final

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from analytics.cache import cached_performance
from analytics.performance import Performance, UnknownVehicle
from fleet.openapi import answer

# Until windows other than the last 24 hours are served, asking for one must not look answered.
_NOT_YET: Final = ("start", "end", "window")


class PerformanceViewSet(ViewSet):
    """Energy, efficiency and health of a vehicle over the last 24 hours."""

    @extend_schema(
        operation_id="vehiclePerformance",
        responses={200: answer(Performance, "The figures of the last 24 hours")},
    )
    def retrieve(self, request: Request, vehicle_id: str) -> Response:
        for parameter in _NOT_YET:
            if parameter in request.GET:
                raise ValidationError(
                    f"{parameter} is not supported yet: the window is the last 24 hours"
                )
        try:
            return Response(cached_performance(vehicle_id))
        except UnknownVehicle:
            raise NotFound("Vehicle not found") from None
