"""The SQL statements of ingestion, one per file; the modules that run them are next to it."""

from pathlib import Path
from typing import Final

STATEMENTS: Final = Path(__file__).parent
