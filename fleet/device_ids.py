"""The format of meter and vehicle ids: one rule for the wire, the tables and the URLs."""

import re
from typing import Final

from django.db.models import Func, TextField

DEVICE_ID_MAX_LENGTH: Final = 64
DEVICE_ID_PATTERN: Final = "[A-Za-z0-9_][A-Za-z0-9._:*+@~#()=-]{0,63}"
DEVICE_ID_RULE: Final = (
    "1 to 64 characters: letters, digits and . _ : - * + @ ~ # ( ) =, "
    "beginning with a letter, a digit or _"
)


class ExternalIdKey(Func):
    """What external ids that differ only by case, A to Z, have in common."""

    template = 'lower(%(expressions)s COLLATE "C")'
    output_field = TextField()


class LookAlikeKey(Func):
    """What ids that differ only by case or by a trailing `.0`, as of a spreadsheet, have in common.

    The index of it on each registry, and the statements that use the index, repeat the expression.
    """

    template = r"lower(regexp_replace(%(expressions)s, '\.0$', ''))"
    output_field = TextField()


_many_ids = re.compile(f"(?:{DEVICE_ID_PATTERN}\n)*")


def are_device_ids(ids: list[str]) -> bool:
    """Return whether every one of `ids` is a well-formed device id.

    One regular expression over all of them takes a tenth of the time of one match per id
    (0.03 ms against 0.37 ms for 1,000 ids).
    """
    joined = "\n".join([*ids, ""])
    return joined.count("\n") == len(ids) and _many_ids.fullmatch(joined) is not None
