"""Django's session, authentication and message middleware, applied to the console's pages only.

They would add a fifth to the time of an API request, which uses none of them: API views take no
cookies.
"""

from typing import Any

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from energy_engine.console.signing_in import first_login, one_time_codes
from energy_engine.paths import is_page


def _first_to_do(request: HttpRequest) -> str:
    """Return the page with a step that the user must complete first; empty if there is none."""
    if first_login.must_change(request):
        return reverse("admin:password_change")
    lacks_a_step = one_time_codes.is_required() and not request.session.get(one_time_codes.TAKEN)
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
    """Authentication, on pages only; redirects users to a step that they must complete first.

    The steps: change a password that the engine created; set up two-factor authentication where it
    is required.
    """

    def process_request(self, request: HttpRequest) -> HttpResponseRedirect | None:  # type: ignore[override]
        super().process_request(request)
        there = _first_to_do(request)
        allowed = (there, reverse("admin:logout"), reverse("admin:jsi18n"))
        return HttpResponseRedirect(there) if there and request.path_info not in allowed else None


class MessageMiddleware(_PagesOnly, messages.MessageMiddleware):
    """Messages, on pages only."""
