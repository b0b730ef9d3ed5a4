"""Signing in to the console: user name and password, then a code if 2FA is set up."""

from math import ceil
from time import time
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model, login
from django.contrib.auth.signals import user_login_failed
from django.contrib.auth.views import LoginView, RedirectURLMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from energy_engine.console.signing_in import one_time_codes
from energy_engine.console.signing_in.lock_outs import is_locked_out, seconds_left, take_try
from fleet.access.limits import LimitExceeded

_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
# Session key: the user whose password was right, and until when the code may follow.
_FIRST_STEP: Final = "first_step"
_SECONDS_FOR_THE_CODE: Final = 300
_TOO_MANY: Final = 429


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code",
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            {"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": ""}
        ),
    )


class _Step(RedirectURLMixin):
    """What both steps have in common: the redirect target and the page context."""

    request: HttpRequest
    next_page = "admin:index"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]
        site = admin.site.each_context(self.request)
        return site | context | {"title": "Sign in", "app_path": self.request.get_full_path()}


class SignIn(_Step, LoginView):
    """The first step: user name and password."""

    template_name = "admin/login.html"
    authentication_form = AuthenticationForm

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if admin.site.has_permission(request):
            return HttpResponseRedirect(self.get_success_url())
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        username = request.POST.get("username", "")
        try:
            take_try(request, username)
        except LimitExceeded as error:
            return _refusal(request, error.wait)
        answer = super().post(request, *args, **kwargs)
        if getattr(request, "axes_locked_out", False):
            return _refusal(request, seconds_left(request, username))
        return answer

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if one_time_codes.app_of(user) is None:
            return super().form_valid(form)
        # Not the user's session yet; a new key, so that one known before is useless.
        self.request.session.cycle_key()
        self.request.session[_FIRST_STEP] = {
            "user": user.pk,
            "password": user.get_session_auth_hash(),
            "until": time() + _SECONDS_FOR_THE_CODE,
        }
        leads_to = f"?{self.request.GET.urlencode()}" if self.request.GET else ""
        return HttpResponseRedirect(reverse("sign_in_code") + leads_to)


@method_decorator([sensitive_post_parameters("code"), csrf_protect, never_cache], name="dispatch")
class Code(_Step, FormView):  # type: ignore[type-arg] # not subscriptable at run time
    """The second step: a code from the app, or a recovery code."""

    template_name = "console/sign_in_code.html"
    form_class = CodeForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        self.user = _who_took_the_first_step(request)
        if self.user is None:
            query = f"?{request.GET.urlencode()}" if request.GET else ""
            return HttpResponseRedirect(reverse("admin:login") + query)
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        username = self.user.get_username()
        try:
            take_try(request, username)
        except LimitExceeded as error:
            return _refusal(request, error.wait)
        if is_locked_out(request, username):
            return _refusal(request, seconds_left(request, username))
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: CodeForm) -> HttpResponse:
        code = form.cleaned_data["code"]
        if until := one_time_codes.waits_until(self.user, code):
            seconds = ceil((until - timezone.now()).total_seconds())
            plural = pluralize(seconds)
            form.add_error("code", f"Wrong code. Try again in {seconds} second{plural}")
            return self.form_invalid(form)
        if not one_time_codes.verify(self.user, code):
            return self._wrong(form)
        self.request.session.pop(_FIRST_STEP)
        login(self.request, self.user, backend=_BACKEND)
        self.request.session[one_time_codes.TAKEN] = True
        return HttpResponseRedirect(self.get_success_url())

    def _wrong(self, form: CodeForm) -> HttpResponse:
        username = self.user.get_username()
        # Wrong codes count like wrong passwords.
        user_login_failed.send(
            sender=__name__, credentials={"username": username}, request=self.request
        )
        if getattr(self.request, "axes_locked_out", False):
            return _refusal(self.request, seconds_left(self.request, username))
        form.add_error("code", "Wrong, expired or already used code. Enter the current code")
        return self.form_invalid(form)


def _who_took_the_first_step(request: HttpRequest) -> Any:
    """Return the user who recently entered the right password, if it is still valid; else None."""
    first = request.session.get(_FIRST_STEP)
    if first is None or first["until"] < time():
        return None
    user = get_user_model().objects.filter(pk=first["user"], is_active=True).first()
    if user and constant_time_compare(user.get_session_auth_hash(), first["password"]):
        return user
    return None


def _refusal(request: HttpRequest, seconds: float) -> HttpResponse:
    """Return the page that says how long to wait."""
    request.session.pop(_FIRST_STEP, None)
    context = admin.site.each_context(request) | {
        "title": "Too many sign-in attempts",
        "minutes": ceil(seconds / 60),
    }
    return TemplateResponse(
        request,
        "console/locked_out.html",
        context,
        status=_TOO_MANY,
        headers={"Retry-After": str(ceil(seconds))},
    )
