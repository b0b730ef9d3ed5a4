"""The root of the service, and the description of its API."""

from functools import cache
from typing import Any

import msgspec
from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from energy_engine import __version__
from fleet.openapi import answer


class Service(msgspec.Struct):
    """Which service this is, and which version of it."""

    service: str = "Energy Ingestion Engine"
    status: str = "running"
    version: str = __version__


class RootView(APIView):
    """Which service this is, and which version of it."""

    permission_classes = []

    @extend_schema(operation_id="root", responses={200: answer(Service, "The service is running")})
    def get(self, request: Request) -> Response:
        """Return the name and the version of this service."""
        return Response(Service())


class SchemaView(SpectacularJSONAPIView):
    """The OpenAPI document, as everybody may see it.

    Made once in each process: 20 ms of a processor are too much for whoever asks without a key.
    """

    @extend_schema(exclude=True)
    def get(self, request: Request, *_: Any, **__: Any) -> HttpResponse:
        return HttpResponse(_document(), content_type=OpenApiJsonRenderer.media_type)


@cache
def _document() -> bytes:
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call] # has none
    return bytes(OpenApiJsonRenderer().render(schema))
