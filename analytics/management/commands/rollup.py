"""Roll up the hours of a span again, while the engine keeps answering."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from analytics.rollups import hourly
from fleet.http.wire import instant
from ingestion.history.retention import restore
from ingestion.management.arguments import instant_of


class Command(BaseCommand):
    """Mark the hours of a span as changed, and roll them up; figures stay correct meanwhile."""

    help = "Roll up the hours of a span again. If interrupted, the background worker does the rest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="starts_at", type=instant_of, required=True)
        parser.add_argument("--to", dest="ends_at", type=instant_of, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        starts_at, ends_at = options["starts_at"], options["ends_at"]
        if starts_at >= ends_at:
            raise CommandError("--from must be before --to")
        if gone_until := restore.gone_until(starts_at, ends_at):
            raise CommandError(
                f"--from must be {instant(gone_until)} or later: earlier history is in the archive"
            )
        hourly.settle()
        marked = hourly.mark(starts_at, ends_at)
        with tqdm(total=hourly.pending(), unit=" hours", desc="rollup") as progress:
            for summed_up in hourly.sum_up_changed():
                progress.update(summed_up)
        self.stdout.write(f"{marked:,} hours of devices rolled up again")
