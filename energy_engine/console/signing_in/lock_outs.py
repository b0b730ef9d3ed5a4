"""Lockouts after `LOGIN_FAILURES` failed sign-ins to the console, counted by django-axes.

Failures of one user name from one address count in full. Failures of the name from any address
(many addresses guessing one user's password) and of the address with any name (one address guessing
many users' passwords) count as a tenth. They are stored in PostgreSQL, so that a Redis outage
neither lifts nor prolongs a lockout.
"""

import ipaddress
from typing import Any, Final

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_client_username
from django.conf import settings
from django.db.models import Max, Q, Sum
from django.http import HttpRequest
from django.utils import timezone

from energy_engine.models import FailedSignIn
from fleet.access.limits import budgets, client_address

# This many failures of a name from any address, or of an address with any name, count as one.
TENTH: Final = 10
# Concurrent attempts would all pass before the first is known to have failed, and each password
# check takes this process a good part of a second.
TRIES_A_MINUTE: Final = 20


def address_of(request: HttpRequest) -> str | None:
    """Return the address that a request came from, determined as for the API's limits.

    For IPv6, it is the first address of the client's network.
    """
    address = client_address(request.META)
    try:
        return str(ipaddress.ip_interface(address).ip)
    except ValueError:
        return None  # a trusted proxy may send something that is not an address


class Failures(AxesDatabaseHandler):
    """The failures of the last `LOGIN_LOCKOUT_MINUTES`."""

    def get_failures(self, request: HttpRequest, credentials: Any = None) -> int:
        name = Q(username=get_client_username(request, credentials))
        address = Q(ip_address=address_of(request))
        lately = FailedSignIn.objects.filter(attempt_time__gt=get_cool_off_threshold(request))
        of = lately.filter(name | address).aggregate(
            both=Sum("failures_since_start", filter=name & address, default=0),
            name=Sum("failures_since_start", filter=name, default=0),
            address=Sum("failures_since_start", filter=address, default=0),
        )
        return counted(of["both"], of["name"], of["address"])


def counted(of_both: int, of_name: int, of_address: int) -> int:
    """Return the failures that count towards a lockout of a name at an address.

    `of_both`: failures of the name from the address; `of_name`: of the name from any address;
    `of_address`: of the address with any name.
    """
    return max(of_both, of_name // TENTH, of_address // TENTH)


def is_locked_out(request: HttpRequest, username: str) -> bool:
    return not AxesProxyHandler.is_allowed(request, {"username": username})


def take_try(request: HttpRequest, username: str) -> None:
    """Count an attempt, failed or not. Errors: `LimitExceeded`, too many in this minute."""
    budgets.take(f"sign-in-address:{address_of(request)}", "sign-ins", TRIES_A_MINUTE)
    budgets.take(f"sign-in-name:{username}", "sign-ins", TRIES_A_MINUTE)


def seconds_left(request: HttpRequest, username: str) -> int:
    """Return the seconds for which a name stays locked out at this address, at most."""
    tried = Q(username=username) | Q(ip_address=address_of(request))
    newest = FailedSignIn.objects.filter(tried).aggregate(at=Max("attempt_time"))["at"]
    ends_at = (newest or timezone.now()) + settings.AXES_COOLOFF_TIME
    return max(1, round((ends_at - timezone.now()).total_seconds()))
