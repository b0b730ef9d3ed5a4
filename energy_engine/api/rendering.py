"""Responses as JSON, encoded by msgspec, whatever the Accept header says."""

from collections.abc import Iterable
from typing import Any

import msgspec
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class JsonRenderer(BaseRenderer):
    """Encodes structs, dicts and lists; datetimes as RFC 3339 in UTC."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: dict[str, Any] | None = None,  # type: ignore[override] # DRF's own is one
    ) -> bytes:
        if renderer_context:
            # Nothing needs them any more. DRF links request, view and response in a cycle of 40
            # objects, which only the garbage collector could free; under load it runs late.
            renderer_context["request"].parser_context.clear()
            vars(renderer_context["view"]).clear()
            renderer_context.clear()
        return b"" if data is None else msgspec.json.encode(data)


class AlwaysFirstRenderer(BaseContentNegotiation):
    """Uses a view's first renderer: an API of one format has nothing to negotiate."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        return next(iter(parsers), None)

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
