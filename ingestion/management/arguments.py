"""Argument types of the management commands."""

from argparse import ArgumentTypeError
from datetime import datetime
from typing import Annotated

import msgspec


class _Instant(msgspec.Struct):
    at: Annotated[datetime, msgspec.Meta(tz=True)]


def instant_of(text: str) -> datetime:
    """Parse an instant, RFC 3339 with an offset, as on the wire."""
    try:
        return msgspec.convert({"at": text}, _Instant).at
    except msgspec.ValidationError:
        raise ArgumentTypeError(
            "must be RFC 3339 with an offset, such as 2026-07-15T12:00:00Z"
        ) from None
