"""What energy costs: tariffs of sites, the price in force at any time, and the cost of energy.

Nothing here knows devices or readings: energy comes in as pieces of time with their kWh.
"""
