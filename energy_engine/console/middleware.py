"""Django's middleware for people at a browser, which leaves the requests of devices alone.

Sessions, logins and messages cost a request of the API a fifth of its time, and it uses none of
them: its views take no cookies.
"""

from typing import Any

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from energy_engine.console.signing_in import first_login, second_factor
from energy_engine.paths import is_page


def _first_to_do(request: HttpRequest) -> str:
    """Return the page where whoever asks has to do something first; empty where they have not."""
    if first_login.must_change(request):
        return reverse("admin:password_change")
    lacks_a_step = second_factor.is_required() and not request.session.get(second_factor.TAKEN)
    return reverse("two_steps") if lacks_a_step and request.user.is_authenticated else ""


class _PagesOnly:
    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_page(request):
            return super().__call__(request)  # type: ignore[misc, no-any-return]
        return self.get_response(request)  # type: ignore[no-any-return]


class SessionMiddleware(_PagesOnly, sessions.SessionMiddleware):
    """Sessions, on pages only."""


class AuthenticationMiddleware(_PagesOnly, auth.AuthenticationMiddleware):
    """Logins, on pages only; whoever has something to do first is led there.

    That is to change a password that the engine has made, and to set up a second step where it is
    required.
    """

    def process_request(self, request: HttpRequest) -> HttpResponseRedirect | None:  # type: ignore[override]
        super().process_request(request)
        there = _first_to_do(request)
        allowed = (there, reverse("admin:logout"), reverse("admin:jsi18n"))
        return HttpResponseRedirect(there) if there and request.path_info not in allowed else None


class MessageMiddleware(_PagesOnly, messages.MessageMiddleware):
    """Messages, on pages only."""
