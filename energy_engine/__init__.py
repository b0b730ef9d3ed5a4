"""The project: how fleet, ingestion and analytics are joined into one engine."""

__version__ = "0.1.0"
