"""The first login to the console: created by the engine, its password changed at first sign-in.

A terminal shows the password once. Other output may be a log that is kept, so the password is then
written to a file that only its owner can read, until it is changed.
"""

import secrets
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ValidationError
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from energy_engine.local import private_files
from energy_engine.models import FirstPassword

# Session key: the password must be changed before anything else.
MUST_CHANGE: Final = "first_password"
_NAME: Final = "admin"


def file() -> Path:
    """Return the path of the file with the password, if no terminal has shown it."""
    return Path(settings.DATA_DIR) / "first_login"


def make(is_terminal: bool) -> str:
    """Create the first login if there is no superuser; return the message to print, or "".

    Errors: `OSError` if the file cannot be written; the login is not created then.
    """
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return ""
    password = secrets.token_urlsafe(12)
    login = f"  user      {_NAME}\n  password  {password}\n"
    if not is_terminal:
        private_files.write_secret(file(), login)
    with transaction.atomic():
        user = users.create_superuser(_NAME, password=password)
        FirstPassword.objects.create(user=user)
    if is_terminal:
        return f"Login to the console, shown only once. Change it when you sign in:\n\n{login}"
    return f"Login to the console, to be changed when you sign in: see {file()}\n"


@receiver(user_logged_in)
def _note_in_session(request: HttpRequest, user: Any, **_: Any) -> None:
    if FirstPassword.objects.filter(user=user).exists():
        request.session[MUST_CHANGE] = True


def must_change(request: HttpRequest) -> bool:
    """Return whether the user must change their password first."""
    if not request.session.get(MUST_CHANGE):
        return False
    if request.user.is_authenticated and FirstPassword.objects.filter(user=request.user).exists():
        return True
    del request.session[MUST_CHANGE]
    return False


class FirstPasswordIsChanged:
    """Password validator: rejects the first password and notes when it is changed."""

    def validate(self, password: str, user: Any = None) -> None:
        first = user and user.pk and FirstPassword.objects.filter(user=user).exists()
        if first and user.check_password(password):
            raise ValidationError(
                "The engine created this password. Choose a different one.", "same"
            )

    def password_changed(self, password: str, user: Any = None) -> None:
        gone, _ = FirstPassword.objects.filter(user=user).delete()
        if gone:
            file().unlink(missing_ok=True)

    def get_help_text(self) -> str:
        return ""
