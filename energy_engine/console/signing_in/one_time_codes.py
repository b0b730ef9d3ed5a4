"""Two-factor authentication (2FA): a code from an app (TOTP) or a single-use recovery code.

django-otp stores and checks them: codes of the previous and next time step are valid too, no code
is valid twice, and each wrong code doubles the wait before the next. Recovery codes are stored as
digests.
"""

import hashlib
import re
import secrets
from datetime import datetime
from typing import Any, Final

import django_otp
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

RECOVERY_CODES: Final = 10
_RECOVERY_DIGITS: Final = 16
_APP_DIGITS: Final = 6
# Session key: the user has passed two-factor authentication.
TAKEN: Final = "second_step_taken"


def is_required() -> bool:
    return str(settings.CONSOLE_TOTP) == "required"


def app_of(user: Any) -> TOTPDevice | None:
    """Return the app that generates a user's codes; None if 2FA is not set up."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).first()


def begin(user: Any) -> TOTPDevice:
    """Return a new secret, to be confirmed with its first code; replaces any unconfirmed one."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user, confirmed=False).delete()
        return TOTPDevice.objects.create(user=user, name="app", confirmed=False)


def confirm(user: Any, code: str) -> bool:
    """Return whether `code` matches the unconfirmed secret; if it does, 2FA is on."""
    with transaction.atomic():
        begun = TOTPDevice.objects.filter(user=user, confirmed=False).first()
        if begun is None or not _is_good(user, begun, _digits(code)):
            return False
        TOTPDevice.objects.filter(user=user, confirmed=True).delete()
        TOTPDevice.objects.filter(pk=begun.pk).update(confirmed=True)
        return True


def verify(user: Any, code: str) -> bool:
    """Return whether `code` is valid for a user now; a valid code is used up."""
    digits = _digits(code)
    app = app_of(user)
    if app is None:
        return False
    if len(digits) == _APP_DIGITS:
        return _is_good(user, app, digits)
    recovery = StaticDevice.objects.filter(user=user).first()
    if recovery is None or not _is_good(user, recovery, _digest(digits)):
        return False
    # Someone else's wrong codes must not keep the owner of the app waiting.
    TOTPDevice.objects.filter(pk=app.pk).update(
        throttling_failure_count=0, throttling_failure_timestamp=None
    )
    return True


def waits_until(user: Any, code: str) -> datetime | None:
    """Return when codes of this kind are accepted again; None if they are now."""
    model = TOTPDevice if len(_digits(code)) == _APP_DIGITS else StaticDevice
    device = model.objects.filter(user=user).order_by("-confirmed").first()
    until = device and (device.verify_is_allowed()[1] or {}).get("locked_until")
    return until if isinstance(until, datetime) else None


def new_recovery_codes(user: Any) -> list[str]:
    """Return new single-use codes, in the clear this once; older codes become invalid."""
    codes = [
        f"{secrets.randbelow(10**_RECOVERY_DIGITS):0{_RECOVERY_DIGITS}}"
        for _ in range(RECOVERY_CODES)
    ]
    with transaction.atomic():
        StaticDevice.objects.filter(user=user).delete()
        device = StaticDevice.objects.create(user=user, name="recovery codes")
        StaticToken.objects.bulk_create(
            StaticToken(device=device, token=_digest(code)) for code in codes
        )
    return ["-".join(re.findall("....", code)) for code in codes]


def recovery_codes_left(user: Any) -> int:
    return int(StaticToken.objects.filter(device__user=user).count())


def switch_off(user: Any) -> bool:
    """Let a user sign in with the password alone; return whether 2FA was set up."""
    with transaction.atomic():
        StaticDevice.objects.filter(user=user).delete()
        gone, _ = TOTPDevice.objects.filter(user=user).delete()
    return bool(gone)


def end_sessions(user: Any, but: str | None = None) -> None:
    """Sign a user out of all sessions except `but`, which may predate a stronger sign-in."""
    # Finding a user's sessions means decoding all of them; there are as many as sign-ins of people.
    theirs = [
        session.session_key
        for session in Session.objects.filter(expire_date__gt=timezone.now())
        if session.get_decoded().get(SESSION_KEY) == str(user.pk)
    ]
    Session.objects.filter(session_key__in=theirs).exclude(session_key=but or "").delete()


def _is_good(user: Any, device: Any, token: str) -> bool:
    # Locks the device: of two requests with the same code, only one succeeds.
    return django_otp.verify_token(user, device.persistent_id, token) is not None


def _digits(code: str) -> str:
    return re.sub(r"[\s-]", "", code)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:16]  # as long as the column allows
