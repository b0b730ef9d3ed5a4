"""Template tags and filters of the console.

Nothing here asks the database.
"""
