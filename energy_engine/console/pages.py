"""What all pages of the console have in common."""

from typing import Final

from django.contrib import admin
from django.utils.html import format_html
from unfold.admin import ModelAdmin

# An id of 64 characters must not widen a table, a message or a form beyond the screen.
_STYLE: Final = format_html(
    "<style>{}</style>",
    ".long-id { display: inline-block; min-width: 8rem; max-width: 18rem; font-size: 11px;"
    " line-height: 1.2; overflow-wrap: anywhere }"
    "li { overflow-wrap: anywhere }"
    ".related-widget-wrapper .select2-container { contain: inline-size; min-width: 0 }",
)


class ConsoleAdmin(ModelAdmin):
    """A list, and a page for each of its rows."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": [_STYLE]}
