"""Reset a user's two-factor authentication: the password alone is enough to sign in again."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from energy_engine.console.signing_in import one_time_codes


class Command(BaseCommand):
    """For the only superuser who has lost the app: nobody else can reset it in the console."""

    help = "Switch off two-factor authentication for a user and sign them out everywhere."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username}")
        if not one_time_codes.switch_off(user):
            raise CommandError(f"{username} has not set up two-factor authentication")
        one_time_codes.end_sessions(user)
        self.stdout.write(f"Two-factor authentication is off for {username}")
