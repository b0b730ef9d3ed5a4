"""The root of the service."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from energy_engine import __version__


class RootView(APIView):
    """Which service this is, and which version of it."""

    permission_classes = []

    @extend_schema(operation_id="root", responses={200: dict})
    def get(self, request: Request) -> Response:
        return Response(
            {"service": "Energy Ingestion Engine", "status": "running", "version": __version__}
        )
