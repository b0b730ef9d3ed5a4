"""How the console words and colours what it shows: badges, durations, changes, links.

Nothing here asks the database.
"""
