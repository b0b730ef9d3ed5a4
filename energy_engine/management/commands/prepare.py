"""Bring the database to what this code needs."""

import secrets
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from ingestion import partitions


class Command(BaseCommand):
    """Migrate and create partitions; safe to run again, and before each start."""

    help = "Migrate, create the partitions of the next three months."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--first-login",
            action="store_true",
            help="create an admin login with a random password, and print it, if nobody has one",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        partitions.ensure_ahead()
        if options["first_login"]:
            self._create_first_login()

    def _create_first_login(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        users.create_superuser("admin", password=password)
        self.stdout.write(
            "\nLogin to the console (shown only this once):\n\n"
            f"  user      admin\n  password  {password}\n"
        )
