"""What every list of the console has: columns, filters, search, export as CSV.

Nothing here knows which list it is.
"""
