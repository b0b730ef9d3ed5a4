"""Create partitions: their size and lead time for every partitioned table, and on demand."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, cast

import psycopg
from django.apps import apps
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from psqlextra.backend.schema import PostgresSchemaEditor
from psqlextra.models import PostgresPartitionedModel
from psqlextra.partitioning import (
    PostgresCurrentTimePartitioningStrategy,
    PostgresPartitioningConfig,
    PostgresPartitioningManager,
    PostgresTimePartition,
    PostgresTimePartitionSize,
)
from psqlextra.partitioning.constants import AUTO_PARTITIONED_COMMENT

from fleet.stores.statements import Statement
from ingestion.sql import STATEMENTS

# The same key wherever partitions are created, so that two processes never create one at once.
_ADVISORY_LOCK: Final = 0x656E65726779  # "energy"
# Digits only: month names would follow the locale.
_NAME_FORMATS: Final = {"month": "%Y_%m", "week": "%G_w%V", "day": "%Y_%m_%d"}


class _Size(PostgresTimePartitionSize):
    """A size that starts at midnight; django-postgres-extra 3.0.1 keeps the current hour."""

    def start(self, dt: datetime) -> datetime:
        return super().start(dt).replace(hour=0)


_SIZES: Final = {"month": _Size(months=1), "week": _Size(weeks=1), "day": _Size(days=1)}
# The current partition and three more months.
_COUNTS: Final = {"month": 4, "week": 14, "day": 93}

_names: Final = Statement(STATEMENTS / "partition_names.sql")

SIZE = _SIZES[settings.HISTORY_PARTITION_SIZE]
NAME_FORMAT = _NAME_FORMATS[settings.HISTORY_PARTITION_SIZE]


def _config(model: type[PostgresPartitionedModel]) -> PostgresPartitioningConfig:
    return PostgresPartitioningConfig(
        model=model,
        strategy=PostgresCurrentTimePartitioningStrategy(
            size=SIZE, count=_COUNTS[settings.HISTORY_PARTITION_SIZE], name_format=NAME_FORMAT
        ),
    )


# What `manage.py pgpartition` plans and applies.
manager = PostgresPartitioningManager(
    [_config(apps.get_model(label)) for label in settings.PARTITIONED_MODELS]
)


def ensure_ahead() -> None:
    """Create the missing partitions for now and the next three months."""
    now = timezone.now()
    ahead = _COUNTS[settings.HISTORY_PARTITION_SIZE]
    ensure_partitions(now + SIZE.as_delta() * number for number in range(ahead))


def ensure_partitions(instants: Iterable[datetime]) -> None:
    """Create the missing partitions for `instants` in every partitioned table.

    Waits at most 1.5 s for each lock; a table that has its partition is not touched.
    """
    starts = sorted({SIZE.start(instant.astimezone(UTC)) for instant in instants})
    with transaction.atomic(), connection.cursor() as cursor:
        # Creating a partition waits for every running statement on the table, and new ones queue
        # behind it. Giving up, so that the device sends again, is better than blocking them all.
        cursor.execute("SET LOCAL lock_timeout = '1500ms'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        for config in manager.configs:
            existing = _existing_names(config.model)
            for start in starts:
                partition = _partition(start)
                if partition.name() not in existing:
                    _create(config.model, partition)


def is_missing_partition(error: IntegrityError) -> bool:
    """Return whether a row has no partition, rather than violating a named constraint."""
    cause = error.__cause__
    return isinstance(cause, psycopg.errors.CheckViolation) and cause.diag.constraint_name is None


def covered_until() -> datetime:
    """Return the instant until which every partitioned table has partitions without a gap."""
    return min(_covered_until(config.model) for config in manager.configs)


def _covered_until(model: type[PostgresPartitionedModel]) -> datetime:
    existing = _existing_names(model)
    end = timezone.now()
    for start in _starts_from_now():
        if _partition(start).name() not in existing:
            break
        end = (start + SIZE.as_delta()).replace(tzinfo=UTC)
    return end


def _starts_from_now() -> Iterator[datetime]:
    start = SIZE.start(timezone.now())
    while True:
        yield start
        start += SIZE.as_delta()


def _partition(start: datetime) -> PostgresTimePartition:
    return PostgresTimePartition(size=SIZE, start_datetime=start, name_format=NAME_FORMAT)


def _existing_names(model: type[PostgresPartitionedModel]) -> set[str]:
    # Not with the introspection of django-postgres-extra, which also looks up the keys of each
    # partition: 30 ms of PostgreSQL per table at every /health/ready.
    table = model._meta.db_table
    return {row.name.removeprefix(f"{table}_") for row in _names.rows({"table": table})}


def _create(model: type[PostgresPartitionedModel], partition: PostgresTimePartition) -> None:
    with connection.schema_editor() as schema_editor:
        editor = cast("PostgresSchemaEditor", schema_editor)
        partition.create(model, editor, comment=AUTO_PARTITIONED_COMMENT)
