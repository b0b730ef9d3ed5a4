"""Readings in files: CSV, NDJSON and Parquet, read and written; NEM12, ESPI and exports, read.

Nothing here knows the database.
"""
