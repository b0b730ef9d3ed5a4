"""All routes. Canonical paths start at /v1; the same routes answer under /api/v1."""

from django.contrib import admin
from django.urls import include, path

import analytics.urls
import fleet.urls
import ingestion.urls
from energy_engine.api import errors
from energy_engine.api.health import LiveView, ReadyView
from energy_engine.api.root import DocsView, RootView, SchemaView
from energy_engine.console import search
from energy_engine.console.overview import dashboard
from energy_engine.console.signing_in import two_factor_page
from energy_engine.console.signing_in.sign_in import Code, SignIn
from energy_engine.telemetry.metrics_page import MetricsView

v1 = [
    *ingestion.urls.urlpatterns,
    *fleet.urls.urlpatterns,
    *analytics.urls.urlpatterns,
    path("schema", SchemaView.as_view()),
    path("docs", DocsView.as_view()),
]
urlpatterns = [
    path("v1/", include(v1)),
    path("api/v1/", include(v1)),
    *ingestion.urls.single_reading,
    path("", RootView.as_view()),
    path("metrics", MetricsView.as_view()),
    path("health/live", LiveView.as_view()),
    path("health/ready", ReadyView.as_view()),
    path("admin/overview", admin.site.admin_view(dashboard.part), name="overview"),
    path("admin/login/", SignIn.as_view()),
    path("admin/login/code", Code.as_view(), name="sign_in_code"),
    path("admin/two-steps", admin.site.admin_view(two_factor_page.page), name="two_steps"),
    path("admin/search/", admin.site.admin_view(search.search)),
    path("admin/", admin.site.urls),
]

handler400 = errors.bad_request
handler403 = errors.permission_denied
handler404 = errors.not_found
handler500 = errors.server_error
