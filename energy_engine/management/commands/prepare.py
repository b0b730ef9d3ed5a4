"""Prepare the database for this code."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError, connection
from psycopg.sql import SQL, Identifier

from energy_engine import environment
from energy_engine.console.signing_in import first_login
from energy_engine.postgres import connection_budget, databases
from ingestion.history import partitions


class Command(BaseCommand):
    """Migrate, create partitions, check limits; safe to run again, and before each start."""

    help = "Migrate, create the partitions of the next three months, check connection limits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--first-login",
            action="store_true",
            help="create an admin login with a random password if there is none; it is printed on "
            "a terminal, otherwise written to a file in ENGINE_DATA_DIR",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        partitions.ensure_ahead()
        if environment.pool_url():
            self._make_commits_durable_behind_the_pooler()
        if shortfalls := connection_budget.shortfalls():
            raise CommandError("\n".join(shortfalls))
        if options["first_login"]:
            self._create_first_login()

    def _make_commits_durable_behind_the_pooler(self) -> None:
        """Switch `synchronous_commit` on for every session that the pooler opens from now on."""
        connection.ensure_connection()
        session = connection.connection.info
        role = databases.parsed(environment.pool_url())["USER"] or session.user
        statement = SQL("ALTER ROLE {} IN DATABASE {} SET synchronous_commit = 'on'").format(
            Identifier(role), Identifier(session.dbname)
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except ProgrammingError as error:
            raise CommandError(f"DATABASE_POOL_URL: {str(error).strip()}") from None

    def _create_first_login(self) -> None:
        try:
            said = first_login.make(is_terminal=sys.stdout.isatty())
        except OSError as error:
            raise CommandError(
                f"{first_login.file()} can't be written ({error.strerror}): run this on a terminal"
            ) from None
        if said:
            self.stdout.write(f"\n{said}")
