"""Pages of a list, by a cursor: their cost does not grow with how far one has turned them."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

CURSOR: Final = OpenApiParameter("cursor", str, description="from `next` of the page before")
LIMIT: Final = OpenApiParameter("limit", int, description="rows of a page, 1 to 1000; default 100")


class Pages(CursorPagination):
    """100 rows a page, or as many as `limit` says; subclasses say in which order."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    # The cursor stands at a value and counts its rows from there, however many they are.
    offset_cutoff = None  # type: ignore[assignment] # DRF documents it, its types do not

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view)
        except ValueError:  # made by hand: it stands at no value of this list
            raise NotFound(self.invalid_cursor_message) from None

    def get_page_size(self, request: Request) -> int:
        limit = request.GET.get(self.page_size_query_param, str(self.page_size))
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= self.max_page_size):
            raise ValidationError(f"limit must be a whole number from 1 to {self.max_page_size}")
        return int(limit)
