"""The SQL statements of analytics, one per file; modules in the other rooms run them."""

from pathlib import Path
from typing import Final

STATEMENTS: Final = Path(__file__).parent
