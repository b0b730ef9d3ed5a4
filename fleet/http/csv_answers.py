"""CSV that is safe in spreadsheets, which run text that looks like a formula."""

import unicodedata
from typing import Final

_SIGNS: Final = ("=", "+", "-", "@")
# Control and format characters, spaces, line and paragraph separators.
_UNSEEN: Final = ("Cc", "Cf", "Zs", "Zl", "Zp")


def cell(value: object) -> object:
    """Return `value`, after an apostrophe if a spreadsheet would run its text as a formula.

    Numbers stay numbers. Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{value}" if isinstance(value, str) and _looks_like_a_formula(value) else value


def _looks_like_a_formula(text: str) -> bool:
    """Return whether `text` starts with a formula sign of any width, after invisible characters.

    Some spreadsheets treat a control character at the very start like a sign.
    """
    if unicodedata.category(text[:1] or "a") == "Cc":
        return True
    seen = (char for char in text if unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFKC", next(seen, "")).startswith(_SIGNS)
