"""Which paths belong to the console; all others belong to the API."""

from typing import Final

from django.http import HttpRequest

PAGES_PREFIX: Final = "/admin/"


def is_page(request: HttpRequest) -> bool:
    """Return whether `request` is for a page of the console."""
    return request.path_info.startswith(PAGES_PREFIX)
