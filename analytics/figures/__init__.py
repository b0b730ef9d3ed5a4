"""Energy, efficiency and health over any window, of a device or the fleet, explained.

Nothing here writes hourly sums, and nothing opens a fault.
"""
