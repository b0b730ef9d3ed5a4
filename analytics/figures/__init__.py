"""Energy, efficiency and health over any window, of a device or the fleet, explained; how vehicles
share a meter.

Nothing here writes hourly sums, and nothing opens a fault.
"""
