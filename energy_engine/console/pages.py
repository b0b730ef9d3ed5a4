"""What all pages of the console have in common."""

from django.contrib import admin
from unfold.admin import ModelAdmin


class ConsoleAdmin(ModelAdmin):
    """A list, and a page for each of its rows."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
