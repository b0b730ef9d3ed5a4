"""A person's own page for signing in with two steps: set up, new recovery codes, switch off."""

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

from energy_engine.console.signing_in import second_factor
from energy_engine.console.signing_in.sign_in import CodeForm
from energy_engine.console.words import changes

NAME: Final = "Two steps"
_WRONG: Final = "This code is not good now. Wait for the next one of the app, and type that"


@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Show the state of the second step, or take the step that a form of the page asks for."""
    asked = _ASKED.get(request.POST.get("step", "")) if request.method == "POST" else None
    return asked(request) if asked else _shown(request)


def log_change(request: HttpRequest, user: Any, before: str, after: str) -> None:
    """Keep in the audit log that the second step was switched."""
    people: Any = admin.site.get_model_admin(User)
    people.log_change(request, user, changes.message([changes.step(NAME, before, after)]))


def _begin(request: HttpRequest) -> HttpResponse:
    if second_factor.app_of(request.user):
        return _shown(request)
    begun = second_factor.begin(request.user)
    secret = begun.config_url.partition("secret=")[2].partition("&")[0]
    return _shown(request, secret=secret, picture=_picture(begun.config_url), form=CodeForm())


def _confirm(request: HttpRequest) -> HttpResponse:
    form = CodeForm(request.POST)
    if not form.is_valid() or not second_factor.confirm(request.user, form.cleaned_data["code"]):
        form.add_error("code", f"{_WRONG}; or begin again, with another secret")
        return _shown(request, form=form)
    # What was opened with a password alone ends, but for this.
    request.session.cycle_key()
    request.session[second_factor.TAKEN] = True
    second_factor.end_sessions(request.user, but=request.session.session_key)
    log_change(request, request.user, "off", "on")
    return _shown(request, codes=second_factor.new_recovery_codes(request.user))


def _new_codes(request: HttpRequest) -> HttpResponse:
    if form := _refused(request):
        return _shown(request, form=form)
    return _shown(request, codes=second_factor.new_recovery_codes(request.user))


def _switch_off(request: HttpRequest) -> HttpResponse:
    if second_factor.is_required():
        return _shown(request)
    if form := _refused(request):
        return _shown(request, form=form)
    second_factor.switch_off(request.user)
    log_change(request, request.user, "on", "off")
    messages.success(request, "You sign in with your password alone from now on")
    return HttpResponseRedirect(reverse("two_steps"))


_ASKED: Final[dict[str, Callable[[HttpRequest], HttpResponse]]] = {
    "begin": _begin,
    "confirm": _confirm,
    "codes": _new_codes,
    "off": _switch_off,
}


def _refused(request: HttpRequest) -> CodeForm | None:
    """Return the form with what is wrong; None where it shows that the app is at hand."""
    form = CodeForm(request.POST)
    if form.is_valid() and second_factor.verify(request.user, form.cleaned_data["code"]):
        return None
    form.add_error("code", _WRONG)
    return form


def _shown(request: HttpRequest, **parts: Any) -> HttpResponse:
    app = second_factor.app_of(request.user)
    context = admin.site.each_context(request) | {
        "title": "Sign in with two steps",
        "app": app,
        "left": second_factor.recovery_codes_left(request.user) if app else 0,
        "is_required": second_factor.is_required(),
        "form": CodeForm(),
    }
    return TemplateResponse(request, "console/two_steps.html", context | parts)


def _picture(url: str) -> SafeString:
    """Return `url` as a QR code: the text of an SVG image, of squares alone."""
    image = qrcode.make(url, image_factory=SvgPathFillImage, border=2)
    return SafeString(image.to_string(encoding="unicode"))  # made here
