"""The tables of readings as they age: partitions, sealing, size, retention and the archive.

Nothing here records new readings.
"""
