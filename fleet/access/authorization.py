"""Check each request's API key and scope: 401 without a valid key, 403 without the scope."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from django.conf import settings
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from fleet.access.keyring import Grant, keyring
from fleet.access.limits import client_address, refuse_guessing, take_request, take_wrong_key
from fleet.counters import WRONG_KEYS
from fleet.models import Scope

_BEARER: Final = "bearer "  # case-insensitive (RFC 9110)
# The grant of every request if API_AUTH is open.
EVERYTHING: Final = Grant(None, frozenset(Scope), None, None, None, None, 0.0)


class KeyRequired(APIException):
    """The request has no key, or one that is unknown, expired or revoked."""

    status_code = HTTPStatus.UNAUTHORIZED
    default_code = "key_required"
    default_detail = "A valid API key is required: Authorization: Bearer …"
    auth_header = "Bearer"


class ScopeRequired(PermissionDenied):
    """The key lacks the scope that the request needs; the message names the scope."""

    default_code = "scope_required"

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This needs a key with the scope {scope.value}")


class HasScope(BasePermission):
    """Allows a request whose key has the scope that the view needs.

    That is the view's `scope`, if it has one; otherwise `read` for safe methods and `manage` for
    the rest.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if settings.API_AUTH == "open":
            return True
        scope = getattr(view, "scope", None) or _default_scope(request)
        if scope is not Scope.INGEST:
            # A shared cache must not serve one key's response to another key.
            view.headers["Cache-Control"] = "private, no-store"
        meta = request._request.META  # not through DRF's wrapper, which takes as long as the rest
        address = client_address(meta)
        grant = _presented(meta, address)
        take_request(address, grant.key_id)
        if scope not in grant.scopes:
            raise ScopeRequired(scope)
        meta[_GRANT] = grant
        return True


def _default_scope(request: Request) -> Scope:
    return Scope.READ if request.method in SAFE_METHODS else Scope.MANAGE


_GRANT: Final = "fleet.access.authorization.grant"


def grant_of(request: Request) -> Grant:
    """Return what the request's key grants; everything if no key is needed."""
    return cast(Grant, request._request.META.get(_GRANT, EVERYTHING))


def key_id_of(meta: Mapping[str, Any]) -> int | None:
    """Return the id of the request's key; None if no key is needed."""
    return cast(Grant, meta.get(_GRANT, EVERYTHING)).key_id


def _presented(meta: Mapping[str, Any], address: str) -> Grant:
    header = meta.get("HTTP_AUTHORIZATION", "")
    scheme, token = header[: len(_BEARER)], header[len(_BEARER) :]
    if not token or scheme.lower() != _BEARER:
        take_request(address)
        raise KeyRequired
    return keyring.known(token) or _looked_up(token, address)


def _looked_up(token: str, address: str) -> Grant:
    is_guess = not keyring.has_seen(token)
    if is_guess:
        refuse_guessing(address)
    grant = keyring.look_up(token)
    if grant is None:
        WRONG_KEYS.inc()
        if is_guess:
            take_wrong_key(address)
        take_request(address)
        raise KeyRequired
    return grant
