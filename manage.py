#!/usr/bin/env python
"""Run a management command of the engine, such as `python manage.py simulate --help`."""

import os
import signal
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "energy_engine.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from energy_engine.environment import InvalidEnvironment
    from energy_engine.telemetry import logs

    try:
        # Nobody reads a container's terminal, so its services log instead of printing.
        is_service = sys.argv[1:2] in (["prepare"], ["procrastinate"])
        logs.take_over_output() if is_service else logs.take_over()
        if sys.argv[1:2] != ["procrastinate"]:  # it handles SIGTERM itself
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, InvalidEnvironment) as error:
        logs.refuse_to_start(error)
    except KeyboardInterrupt:
        sys.exit("energy-engine: stopped; finished work is kept. Run the command again to continue")
    except OperationalError as error:
        logs.refuse_to_start(
            f"the database is not available ({str(error).strip()}): start the "
            "engine with `make run`, or point ENGINE_DATA_DIR or DATABASE_URL at a running one"
        )
