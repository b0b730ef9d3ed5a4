"""Vehicles and meters: their lists, and each device's page with its figures, links and readings.

Nothing here calculates a figure.
"""
