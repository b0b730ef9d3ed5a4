#!/usr/bin/env python
"""Run a management command of the engine, such as `python manage.py simulate --help`."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "energy_engine.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from energy_engine.environment import InvalidEnvironment

    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, InvalidEnvironment) as error:
        sys.exit(f"energy-engine: {error}")
    except OperationalError as error:
        sys.exit(
            f"energy-engine: the database is not available ({str(error).strip()}): start the "
            "engine with `make run`, or set ENGINE_DATA_DIR or DATABASE_URL to the one that runs"
        )
