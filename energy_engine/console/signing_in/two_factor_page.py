"""A user's own page for two-factor authentication: set up, new recovery codes, switch off."""

from collections.abc import Callable
from typing import Any, Final

import qrcode
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from qrcode.image.svg import SvgPathFillImage

from energy_engine.console.signing_in import one_time_codes
from energy_engine.console.signing_in.sign_in import CodeForm
from energy_engine.console.words import changes

NAME: Final = "Two-factor authentication"
_WRONG: Final = "Wrong, expired or already used code. Wait for the next code and enter that"


@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Show the state of two-factor authentication, or carry out the action of the posted form."""
    asked = _ASKED.get(request.POST.get("step", "")) if request.method == "POST" else None
    return asked(request) if asked else _shown(request)


def log_change(request: HttpRequest, user: Any, before: str, after: str) -> None:
    """Record in the audit log that two-factor authentication was switched on or off."""
    people: Any = admin.site.get_model_admin(User)
    people.log_change(request, user, changes.message([changes.step(NAME, before, after)]))


def _begin(request: HttpRequest) -> HttpResponse:
    if one_time_codes.app_of(request.user):
        return _shown(request)
    begun = one_time_codes.begin(request.user)
    secret = begun.config_url.partition("secret=")[2].partition("&")[0]
    return _shown(request, secret=secret, picture=_picture(begun.config_url), form=CodeForm())


def _confirm(request: HttpRequest) -> HttpResponse:
    form = CodeForm(request.POST)
    if not form.is_valid() or not one_time_codes.confirm(request.user, form.cleaned_data["code"]):
        form.add_error("code", f"{_WRONG}, or start over with a new secret")
        return _shown(request, form=form)
    # End all other sessions: they were opened with the password alone.
    request.session.cycle_key()
    request.session[one_time_codes.TAKEN] = True
    one_time_codes.end_sessions(request.user, but=request.session.session_key)
    log_change(request, request.user, "off", "on")
    return _shown(request, codes=one_time_codes.new_recovery_codes(request.user))


def _new_codes(request: HttpRequest) -> HttpResponse:
    if form := _refused(request):
        return _shown(request, form=form)
    return _shown(request, codes=one_time_codes.new_recovery_codes(request.user))


def _switch_off(request: HttpRequest) -> HttpResponse:
    if one_time_codes.is_required():
        return _shown(request)
    if form := _refused(request):
        return _shown(request, form=form)
    one_time_codes.switch_off(request.user)
    log_change(request, request.user, "on", "off")
    messages.success(request, "Two-factor authentication is off")
    return HttpResponseRedirect(reverse("two_steps"))


_ASKED: Final[dict[str, Callable[[HttpRequest], HttpResponse]]] = {
    "begin": _begin,
    "confirm": _confirm,
    "codes": _new_codes,
    "off": _switch_off,
}


def _refused(request: HttpRequest) -> CodeForm | None:
    """Return the form with its errors; None if its code is right."""
    form = CodeForm(request.POST)
    if form.is_valid() and one_time_codes.verify(request.user, form.cleaned_data["code"]):
        return None
    form.add_error("code", _WRONG)
    return form


def _shown(request: HttpRequest, **parts: Any) -> HttpResponse:
    app = one_time_codes.app_of(request.user)
    context = admin.site.each_context(request) | {
        "title": NAME,
        "app": app,
        "left": one_time_codes.recovery_codes_left(request.user) if app else 0,
        "is_required": one_time_codes.is_required(),
        "form": CodeForm(),
    }
    return TemplateResponse(request, "console/two_steps.html", context | parts)


def _picture(url: str) -> SafeString:
    """Return `url` as a QR code: the source of an SVG image made of squares only."""
    image = qrcode.make(url, image_factory=SvgPathFillImage, border=2)
    return SafeString(image.to_string(encoding="unicode"))  # generated here
