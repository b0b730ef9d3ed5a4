"""What all lists of the console share: columns, filters, search, CSV export.

Nothing here is specific to one list.
"""
