"""People and what they may do, in the look of the other pages.

Nobody gives what they do not have: but for a superuser, who may change users and groups changes
those alone that may do no more than himself, and hands out no more than that. A user who may do
more is not touched either, or a new password would be the way to what he may do.
"""

from operator import attrgetter
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from energy_engine.console.badges import second
from energy_engine.console.listing import column
from energy_engine.console.pages import ConsoleAdmin

admin.site.index_title = "Console"
admin.site.unregister([User, Group])


LAST_LOGIN: Final = column("Last login, UTC", "last_login", second)
JOINED: Final = column("Joined, UTC", "date_joined", second)


def permissions_of(user: Any) -> QuerySet[Permission]:
    """Return what is given to a user; unlike Django's own, also to one who may not sign in now."""
    return Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()


def _within_reach(request: HttpRequest, permissions: QuerySet[Permission]) -> bool:
    return not permissions.exclude(pk__in=permissions_of(request.user).values("pk")).exists()


def _with_pages() -> QuerySet[Permission]:
    """Return the permissions that the console asks for: the others would do nothing."""
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
        LAST_LOGIN,
    ]
    list_filter = ["groups", "is_active", "is_staff", "is_superuser"]
    filter_horizontal = []
    fieldsets: ClassVar[Any] = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
        (
            "Access",
            {"fields": ["is_active", "is_staff", "groups", "is_superuser", "user_permissions"]},
        ),
        ("Dates", {"fields": [LAST_LOGIN, JOINED]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        users: QuerySet[User] = super().get_queryset(request)
        return users.prefetch_related("groups")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        # What is known of a password is for those who may set another.
        return [(None, {"fields": ["username"]}), *fieldsets[1:]]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        # Permissions are given to groups.
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

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: what a user did would go from the audit log. They are switched off."""
        return False


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ConsoleAdmin):
    compressed_fields = False
    filter_horizontal = []
    list_display = ["name", column("People", "people")]

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
        """Return none: each group is deleted from its own page, which asks who may."""
        return {}

    def _is_within_reach(self, request: HttpRequest, group: Group | None) -> bool:
        if group is None or request.user.is_superuser:
            return True
        return _within_reach(request, group.permissions.all())
