"""Django's middleware for people at a browser, which leaves the requests of devices alone.

Sessions, logins and messages cost a request of the API a fifth of its time, and it uses none of
them: its views take no cookies.
"""

from typing import Any, Final

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest
from django.http.response import HttpResponseBase

PREFIX: Final = "/admin/"


def is_page(request: HttpRequest) -> bool:
    """Return whether `request` is for a page that people look at."""
    return request.path_info.startswith(PREFIX)


class _PagesOnly:
    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_page(request):
            return super().__call__(request)  # type: ignore[misc, no-any-return]
        return self.get_response(request)  # type: ignore[no-any-return]


class SessionMiddleware(_PagesOnly, sessions.SessionMiddleware):
    """Sessions, on pages only."""


class AuthenticationMiddleware(_PagesOnly, auth.AuthenticationMiddleware):
    """Logins, on pages only."""


class MessageMiddleware(_PagesOnly, messages.MessageMiddleware):
    """Messages, on pages only."""
