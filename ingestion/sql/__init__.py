"""The statements of ingestion, a file each; the modules that run them are beside."""

from pathlib import Path
from typing import Final

STATEMENTS: Final = Path(__file__).parent
