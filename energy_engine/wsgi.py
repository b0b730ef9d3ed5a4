"""The WSGI application that gunicorn serves."""

import os

from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

from energy_engine.postgres import databases

databases.answer_requests()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "energy_engine.settings")
application = get_wsgi_application()

# A server does not run Django's checks by itself.
for problem in run_checks(tags=["access"]):
    raise ImproperlyConfigured(str(problem))
