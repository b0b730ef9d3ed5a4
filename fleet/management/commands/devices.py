"""`manage.py devices import|export`: settings of devices as CSV."""

import csv
import sys
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.registry.device_csv import InvalidFile, exported, import_devices

_ID_COLUMNS: Final = {"meter": ["meterId"], "vehicle": ["vehicleId"]}
_LISTED_AT_MOST: Final = 100


class Command(BaseCommand):
    """Export the registry, and import settings of devices."""

    help = "Export the settings of devices as CSV, or import them."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        importing = actions.add_parser(
            "import", help="set the settings in a CSV file; columns as in an export"
        )
        importing.add_argument("file", help="CSV in UTF-8; - reads standard input")
        importing.add_argument(
            "--create", action="store_true", help="register devices that are not in the registry"
        )
        importing.add_argument(
            "--dry-run", action="store_true", help="check the file, and change nothing"
        )
        exporting = actions.add_parser("export", help="print the settings of all devices")
        exporting.add_argument("--kind", choices=_ID_COLUMNS, help="default: both")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        if action == "export":
            columns = [
                name
                for kind, names in _ID_COLUMNS.items()
                if options["kind"] in (kind, None)
                for name in names
            ]
            csv.writer(self.stdout, lineterminator="\n").writerows(exported(columns))
        else:
            self._import(options["file"], options["create"], options["dry_run"])

    def _import(self, file: str, create: bool, dry_run: bool) -> None:
        try:
            # Spreadsheets write a byte order mark.
            with open(
                sys.stdin.fileno() if file == "-" else file,
                encoding="utf-8-sig",
                newline="",
                closefd=file != "-",
            ) as lines:
                done = import_devices(lines, create=create, dry_run=dry_run)
        except OSError as error:
            raise CommandError(f"Can't read the file: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CommandError("The file must be in UTF-8") from None
        except InvalidFile as invalid:
            for line, message in invalid.errors[:_LISTED_AT_MOST]:
                self.stderr.write(f"line {line}: {message}")
            number = len(invalid.errors)
            raise CommandError(
                f"Nothing was imported: {number:,} error{'s' if number > 1 else ''}"
            ) from None
        words = "Would be" if dry_run else "Devices"
        self.stdout.write(
            f"{words} created: {done.created:,}, changed: {done.changed:,}, "
            f"unchanged: {done.unchanged:,}"
        )
