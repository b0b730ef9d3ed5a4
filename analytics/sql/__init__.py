"""The statements of analytics, a file each; the modules that run them are in the rooms beside."""

from pathlib import Path
from typing import Final

STATEMENTS: Final = Path(__file__).parent
