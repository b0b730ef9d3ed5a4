"""A list of the console as CSV: every row that matches its filters, in its order and columns."""

import csv
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path, reverse

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import Column
from fleet.http import csv_answers

# Without it, spreadsheets read the file in the legacy character set of their locale.
_BYTE_ORDER_MARK: Final = "\ufeff"
_AT_ONCE: Final = 1_000


class ExportedList(ConsoleAdmin):
    """A list with a CSV download button."""

    change_list_template = "console/list.html"

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_csv"
        own = path("csv", self.admin_site.admin_view(self.csv_view), name=name)
        return [own, *super().get_urls()]

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        # Export all pages, whichever one the button was on.
        query = request.GET.copy()
        query.pop(PAGE_VAR, None)
        request.GET = query  # type: ignore[assignment]  # a copy is mutable
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            page = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
            return HttpResponseRedirect(f"{page}?e=1")
        columns = [shown for shown in self.list_display if isinstance(shown, Column)]
        response = StreamingHttpResponse(
            _lines(columns, rows), content_type="text/csv; charset=utf-8"
        )
        name = f"{self.opts.verbose_name_plural}.csv"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


class _Line:
    """A file for `csv.writer` that returns each line."""

    def write(self, line: str) -> str:
        return line


def _lines(columns: list[Column], rows: QuerySet[Any]) -> Iterator[str]:
    """Yield the header line, then a line for each of `rows`, streamed from the database."""
    exports = {heading: value for shown in columns for heading, value in shown.exports.items()}
    writer = csv.writer(_Line())
    yield _BYTE_ORDER_MARK + str(writer.writerow(exports))
    for row in rows.iterator(chunk_size=_AT_ONCE):
        yield str(writer.writerow([_cell(value(row)) for value in exports.values()]))


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        return csv_answers.cell(" ".join(value))
    return csv_answers.cell(value)
