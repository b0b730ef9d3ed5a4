"""Readings over HTTP."""

from http import HTTPStatus

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from fleet.access.authorization import grant_of
from fleet.http.body import BodyTooLarge, MediaType, blocks, json_body, media_type
from fleet.http.openapi import answer, array, body, schema, stream
from fleet.models import Scope
from ingestion.intake import ArrayExpected, NoReadings, Outcome, take_in
from ingestion.items import TooManyReadings
from ingestion.readings import DeviceKind, MeterReading, VehicleReading
from ingestion.stream import take_in_stream

_ATOMIC = OpenApiParameter(
    "atomic", bool, description="true: store nothing if a reading is invalid"
)
_OPTIONAL = OpenApiParameter(
    "optional",
    enum=["reject", "drop"],
    description="what happens to a reading with an invalid optional field: drop stores it without "
    "the field; the default is INGEST_BAD_OPTIONAL",
)
_ANSWERS = {
    201: answer(Outcome, "Every reading is stored"),
    200: answer(Outcome, "Some readings are stored; `errors` says why others were rejected"),
}
_METER, _VEHICLE = schema(MeterReading), schema(VehicleReading)
_EITHER = {"oneOf": [_METER, _VEHICLE]}


class NothingAccepted(APIException):
    """No reading was stored; `errors` says why. The response has `accepted` and `rejected` too."""

    status_code = HTTPStatus.BAD_REQUEST
    default_code = "rejected"

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"No reading was accepted: {outcome.errors[0].message}")
        self.errors = outcome.errors
        self.extra = {"accepted": outcome.accepted, "rejected": outcome.rejected}


class IngestViewSet(ViewSet):
    """Readings of meters and vehicles, one or many; the response follows the commit."""

    scope = Scope.INGEST

    @extend_schema(
        operation_id="ingest",
        parameters=[_ATOMIC, _OPTIONAL],
        request=body(_METER, _VEHICLE, array(_METER, _VEHICLE)) | stream(_EITHER),
        responses=_ANSWERS,
    )
    def mixed(self, request: Request) -> Response:
        """Store meter and vehicle readings.

        Send one reading or an array. The kind of a reading is its `type` or, without one, follows
        from `meterId` or `vehicleId`. The response is sent after the readings are committed.
        """
        return _taken_in(request, kind=None)

    @extend_schema(
        operation_id="ingestMeter",
        parameters=[_ATOMIC, _OPTIONAL],
        request=body(_METER, array(_METER)) | stream(_METER),
        responses=_ANSWERS,
    )
    def meter(self, request: Request) -> Response:
        """Store meter readings.

        Send one reading or an array. The response is sent after the readings are committed.
        """
        return _taken_in(request, DeviceKind.METER)

    @extend_schema(
        operation_id="ingestVehicle",
        parameters=[_ATOMIC, _OPTIONAL],
        request=body(_VEHICLE, array(_VEHICLE)) | stream(_VEHICLE),
        responses=_ANSWERS,
    )
    def vehicle(self, request: Request) -> Response:
        """Store vehicle readings.

        Send one reading or an array. The response is sent after the readings are committed.
        """
        return _taken_in(request, DeviceKind.VEHICLE)

    @extend_schema(
        operation_id="ingestMeterBatch",
        parameters=[_ATOMIC, _OPTIONAL],
        request=body(array(_METER)) | stream(_METER),
        responses=_ANSWERS,
    )
    def meter_batch(self, request: Request) -> Response:
        """Store an array of meter readings."""
        return _taken_in(request, DeviceKind.METER, array_only=True)

    @extend_schema(
        operation_id="ingestVehicleBatch",
        parameters=[_ATOMIC, _OPTIONAL],
        request=body(array(_VEHICLE)) | stream(_VEHICLE),
        responses=_ANSWERS,
    )
    def vehicle_batch(self, request: Request) -> Response:
        """Store an array of vehicle readings."""
        return _taken_in(request, DeviceKind.VEHICLE, array_only=True)


def _taken_in(request: Request, kind: DeviceKind | None, array_only: bool = False) -> Response:
    if media_type(request, MediaType.JSON, MediaType.NDJSON) is MediaType.NDJSON:
        outcome = _stream_taken_in(request, kind)
    else:
        outcome = _body_taken_in(request, kind, array_only)
    if outcome.accepted == 0:
        raise NothingAccepted(outcome)
    return Response(outcome, HTTPStatus.OK if outcome.rejected else HTTPStatus.CREATED)


def _body_taken_in(request: Request, kind: DeviceKind | None, array_only: bool) -> Outcome:
    all_or_nothing, drops_optional = _is_atomic(request), _drops_optional(request)
    content = json_body(request)
    try:
        return take_in(
            content,
            grant_of(request),
            kind=kind,
            received_at=timezone.now(),
            array_only=array_only,
            all_or_nothing=all_or_nothing,
            drops_optional=drops_optional,
        )
    except TooManyReadings as error:
        raise BodyTooLarge(str(error)) from None
    except (ArrayExpected, NoReadings) as error:
        raise ValidationError(str(error)) from None


def _stream_taken_in(request: Request, kind: DeviceKind | None) -> Outcome:
    if _is_atomic(request):
        raise ValidationError("atomic needs a JSON body: a stream is committed in chunks")
    drops_optional = _drops_optional(request)
    outcome = take_in_stream(blocks(request), grant_of(request), kind, drops_optional)
    if outcome.accepted + outcome.rejected == 0:
        raise ValidationError("The stream is empty; send at least one reading")
    return outcome


def _is_atomic(request: Request) -> bool:
    if not request.META.get("QUERY_STRING"):
        return False  # as from nearly every device
    value = request.GET.get("atomic", "false").lower()
    if value not in ("true", "false"):
        raise ValidationError("atomic must be true or false")
    return value == "true"


def _drops_optional(request: Request) -> bool:
    wanted: str = settings.INGEST_BAD_OPTIONAL
    if request.META.get("QUERY_STRING"):
        wanted = request.GET.get("optional", wanted)
        if wanted not in ("reject", "drop"):
            raise ValidationError("optional must be reject or drop")
    return wanted == "drop"
