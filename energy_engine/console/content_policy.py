"""The header Content-Security-Policy: what a browser may load and run for each response.

The policies are constants: no page has inline scripts or style sheets, so none needs a nonce, and a
constant header costs device requests next to nothing.
"""

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

from energy_engine.paths import is_page

HEADER: Final = "Content-Security-Policy"
# Embedding and base addresses, which `default-src` does not cover.
_NOWHERE: Final = "base-uri 'none'; frame-ancestors 'none'"

DATA: Final = f"default-src 'none'; {_NOWHERE}; form-action 'none'"
CONSOLE: Final = (
    "default-src 'self'; object-src 'none'; img-src 'self' data:; "
    # Alpine.js, which unfold is built with, compiles element attributes to functions. None of these
    # attributes contains user input.
    "script-src 'self' 'unsafe-eval'; "
    # Widths of bars, in unfold's progress bars and ours.
    "style-src 'self'; style-src-attr 'unsafe-inline'; "
    f"{_NOWHERE}; form-action 'self'"
)
API_GUIDE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    f"img-src 'self' data:; font-src 'self'; connect-src 'self'; {_NOWHERE}; form-action 'none'"
)
_OF_PATHS: Final = {"/v1/docs": API_GUIDE, "/api/v1/docs": API_GUIDE}


class ContentPolicyMiddleware:
    """Sets the strictest policy under which each response works."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        policy = CONSOLE if is_page(request) else _OF_PATHS.get(request.path_info, DATA)
        response[HEADER] = policy
        return response
