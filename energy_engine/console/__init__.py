"""The fleet manager's console: the Django admin with the fleet's figures.

Nothing here calculates a figure, and nothing answers a device.
"""
