"""Routes of ingestion below `/v1`; the single-reading routes also answer without a version."""

from django.urls import path

from ingestion.views import IngestViewSet

single_reading = [
    path("ingest/meter", IngestViewSet.as_view({"post": "meter"})),
    path("ingest/vehicle", IngestViewSet.as_view({"post": "vehicle"})),
]
urlpatterns = [
    path("ingest", IngestViewSet.as_view({"post": "mixed"})),
    *single_reading,
    path("ingest/meter/batch", IngestViewSet.as_view({"post": "meter_batch"})),
    path("ingest/vehicle/batch", IngestViewSet.as_view({"post": "vehicle_batch"})),
]
