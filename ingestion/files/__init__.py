"""Readings in files: CSV, NDJSON and Parquet, read and written.

Nothing here knows the database.
"""
