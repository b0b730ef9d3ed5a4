"""Which paths are pages for people; all others are the API's."""

from typing import Final

from django.http import HttpRequest

PAGES_PREFIX: Final = "/admin/"


def is_page(request: HttpRequest) -> bool:
    """Return whether `request` is for a page that people look at."""
    return request.path_info.startswith(PAGES_PREFIX)
