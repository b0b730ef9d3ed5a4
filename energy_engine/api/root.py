"""The root of the service, and the description of its API."""

from functools import cache
from typing import Any

import msgspec
from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import OpenApiParameter, extend_schema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from energy_engine import __version__
from energy_engine.api.rendering import JsonRenderer
from fleet.http.openapi import answer
from fleet.http.parameters import KnownParameters


class Service(msgspec.Struct):
    """Which service this is, and which version of it."""

    service: str = "Energy Ingestion Engine"
    status: str = "running"
    version: str = __version__


class RootView(APIView):
    """Which service this is, and which version of it."""

    permission_classes = [KnownParameters]

    @extend_schema(operation_id="root", responses={200: answer(Service, "The service is running")})
    def get(self, request: Request) -> Response:
        """Return the name and the version of this service."""
        return Response(Service())


class SchemaView(SpectacularJSONAPIView):
    """The OpenAPI document, which is public.

    Generated once per process: it takes 20 ms of CPU, too much for requests without a key.
    """

    permission_classes = [KnownParameters]

    @extend_schema(exclude=True)
    def get(self, request: Request, *_: Any, **__: Any) -> HttpResponse:
        return HttpResponse(_document(), content_type=OpenApiJsonRenderer.media_type)


class DocsView(SpectacularSwaggerSplitView):
    """A page to try out the API; with `script`, its JavaScript."""

    url = "/v1/schema"
    permission_classes = [KnownParameters]
    renderer_classes = [JsonRenderer]  # for errors

    @extend_schema(exclude=True, parameters=[OpenApiParameter("script", str)])
    def get(self, request: Request, *_: Any, **__: Any) -> Response:
        request.accepted_renderer = TemplateHTMLRenderer()
        page: Response = super().get(request)  # type: ignore[no-untyped-call] # has none
        return page


@cache
def _document() -> bytes:
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call] # has none
    return bytes(OpenApiJsonRenderer().render(schema))
