"""Users, groups and permissions, styled like the other pages.

Users cannot grant permissions that they lack. Except for superusers, those who may change users and
groups can change only users and groups with no more permissions than their own, and grant no more
than those. Otherwise, setting a new password for a user with more permissions would give access to
them.
"""

from operator import attrgetter
from typing import Any, ClassVar, Final

import django_otp.plugins.otp_static.admin  # registers pages, removed below
import django_otp.plugins.otp_totp.admin  # noqa: F401  # the same
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.decorators import action
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column
from energy_engine.console.signing_in import one_time_codes, two_factor_page
from energy_engine.console.words.badges import second

admin.site.index_title = "Console"
# The pages of django-otp show secrets; see `energy_engine.console.signing_in.two_factor_page`.
admin.site.unregister([User, Group, TOTPDevice, StaticDevice])


LAST_LOGIN: Final = column("Last sign-in, UTC", "last_login", second)
JOINED: Final = column("Joined, UTC", "date_joined", second)


def permissions_of(user: Any) -> QuerySet[Permission]:
    """Return a user's permissions; unlike Django's own method, also those of inactive users."""
    return Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()


def _within_reach(request: HttpRequest, permissions: QuerySet[Permission]) -> bool:
    return not permissions.exclude(pk__in=permissions_of(request.user).values("pk")).exists()


def _with_pages() -> QuerySet[Permission]:
    """Return the permissions that the console checks: others would have no effect."""
    kinds = ContentType.objects.get_for_models(*admin.site._registry).values()
    return Permission.objects.filter(content_type__in=kinds).select_related("content_type")


@admin.display(description="Groups")
def groups(user: User) -> str:
    names = sorted(group.name for group in user.groups.all())
    return ", ".join(["Superuser"] * user.is_superuser + names) or "-"


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ConsoleAdmin):  # type: ignore[type-arg]  # not subscriptable
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    compressed_fields = False
    list_display = [
        "username",
        column("Name", "get_full_name", lambda name: name() or "-", "first_name"),
        "email",
        groups,
        "is_active",
        "is_staff",
        column("2FA", "has_two_steps", lambda has: "yes" if has else "no"),
        LAST_LOGIN,
    ]
    list_filter = ["groups", "is_active", "is_staff", "is_superuser"]
    filter_horizontal = []
    actions_detail = ["reset_two_steps"]
    fieldsets: ClassVar[Any] = [
        (None, {"fields": ["username", "password"]}),
        ("Personal details", {"fields": ["first_name", "last_name", "email"]}),
        (
            "Access",
            {"fields": ["is_active", "is_staff", "groups", "is_superuser", "user_permissions"]},
        ),
        ("Dates", {"fields": [LAST_LOGIN, JOINED]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        users: QuerySet[User] = super().get_queryset(request)
        apps = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        return users.prefetch_related("groups").annotate(has_two_steps=Exists(apps))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        # Details of the password hash are only for users who may set a new password.
        return [(None, {"fields": ["username"]}), *fieldsets[1:]]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        # Permissions are granted to groups.
        never = ["user_permissions", LAST_LOGIN, JOINED]
        return never if request.user.is_superuser else ["is_superuser", *never]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget
        if db_field.name == "groups" and not request.user.is_superuser:
            mine = permissions_of(request.user).values("pk")
            beyond = Permission.objects.exclude(pk__in=mine)
            kwargs["queryset"] = Group.objects.exclude(permissions__in=beyond)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not super().has_change_permission(request, obj):
            return False
        if obj is None or request.user.is_superuser:
            return True
        return not obj.is_superuser and _within_reach(request, permissions_of(obj))

    def has_reset_permission(self, request: HttpRequest, object_id: str) -> bool:
        user = self.get_object(request, unquote(object_id))
        if user is None or user == request.user or not user.has_two_steps:
            return False
        return self.has_change_permission(request, user)

    @action(description="Reset 2FA …", icon="phonelink_erase", permissions=["reset"])
    def reset_two_steps(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Switch off 2FA for a user who has lost the app, after a confirmation."""
        user = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404
        if request.method != "POST":
            context = {**self.admin_site.each_context(request), "opts": self.opts}
            context |= {"original": user, "title": "Reset two-factor authentication"}
            return TemplateResponse(request, "console/two_steps_reset.html", context)
        one_time_codes.switch_off(user)
        one_time_codes.end_sessions(user)
        two_factor_page.log_change(request, user, "on", "off")
        done = f"Two-factor authentication is off for {user}, who has been signed out everywhere"
        self.message_user(request, done)
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[user.pk]))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: deletion would remove a user's audit log. Users are deactivated instead."""
        return False


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ConsoleAdmin):
    compressed_fields = False
    filter_horizontal = []
    list_display = ["name", column("Users", "people")]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        rows: QuerySet[Group] = super().get_queryset(request).annotate(people=Count("user"))
        return rows

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget
        kwargs["queryset"] = _with_pages()
        if not request.user.is_superuser:
            mine = permissions_of(request.user).values("pk")
            kwargs["queryset"] = kwargs["queryset"].filter(pk__in=mine)
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        field.label_from_instance = attrgetter("name")
        return field

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = super().has_change_permission(request, obj)
        return may and self._is_within_reach(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = super().has_delete_permission(request, obj)
        return may and self._is_within_reach(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Return none: groups are deleted from their own page, which checks permissions."""
        return {}

    def _is_within_reach(self, request: HttpRequest, group: Group | None) -> bool:
        if group is None or request.user.is_superuser:
            return True
        return _within_reach(request, group.permissions.all())
