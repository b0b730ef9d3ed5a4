"""People at the console, signed in; without passwords, whose hashes take longer than a test."""

from http import HTTPStatus

from django.contrib.auth.models import Group, User
from django.test import Client

# What the pages post besides the values that a test is about.
NO_DEFAULTS = {"device_defaults-TOTAL_FORMS": "0", "device_defaults-INITIAL_FORMS": "0"}
UNSCALED = {"scale": "1", "clock_offset_seconds": "0"}


def signed_in(user: User, **options: bool) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def superuser(name: str = "boss") -> Client:
    return signed_in(User.objects.create_superuser(name))


def person(group: str, name: str = "") -> User:
    """Return a member of staff who is in one of the groups that the migration makes."""
    user = User.objects.create_user(name or group.lower().replace(" ", "-"), is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return user


def member_of(group: str) -> Client:
    return signed_in(person(group))


def shown(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == HTTPStatus.OK, path
    return response.content.decode()


def told(response) -> list[str]:
    """Return the messages shown on the page."""
    return [str(message) for message in response.context["messages"]]
