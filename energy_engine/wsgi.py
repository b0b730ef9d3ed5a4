"""The WSGI application that gunicorn serves."""

import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "energy_engine.settings")
application = get_wsgi_application()
# A server does not run Django's checks by itself.
call_command("check", tags=["access"], verbosity=0)
