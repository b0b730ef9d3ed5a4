"""What an import keeps beside its file, what it says at its end, and what it tells the registry.

Reads no file of readings and writes none; that is `ingestion.files`.
"""
