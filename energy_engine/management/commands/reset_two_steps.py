"""Let somebody sign in to the console with the password alone."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from energy_engine.console.signing_in import second_factor


class Command(BaseCommand):
    """For the one whom nobody can help in the console: the only superuser, without the app."""

    help = "Switch off the second step of a user, who is signed out everywhere."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username}")
        if not second_factor.switch_off(user):
            raise CommandError(f"{username} has no second step")
        second_factor.end_sessions(user)
        self.stdout.write(f"{username} signs in with the password alone")
