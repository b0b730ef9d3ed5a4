"""Cursor pagination of lists: later pages cost no more than the first one."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

CURSOR: Final = OpenApiParameter("cursor", str, description="from `next` of the previous page")
LIMIT: Final = OpenApiParameter("limit", int, description="rows per page, 1 to 1000; default 100")


class Pages(CursorPagination):
    """Pages of 100 rows, or of `limit` rows; subclasses set the order."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    # A cursor is a value and an offset among the rows with it; any number of rows may have it.
    offset_cutoff = None  # type: ignore[assignment] # DRF documents it, its types do not

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view)
        except ValueError:  # a forged cursor: its value does not fit the list's order
            raise NotFound(self.invalid_cursor_message) from None

    def get_page_size(self, request: Request) -> int:
        limit = request.GET.get(self.page_size_query_param, str(self.page_size))
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= self.max_page_size):
            raise ValidationError(f"limit must be a whole number from 1 to {self.max_page_size}")
        return int(limit)
