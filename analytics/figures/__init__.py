"""Energy, efficiency and health over any window, for one device or the fleet, and their explanation.

Nothing here writes hourly sums, and nothing opens a fault.
"""
