"""A simulated fleet: `scenario` describes it, `days` is what its vehicles do, `deliveries` is what
arrives.

Pure and deterministic: no database, no network, no clock. A scenario always yields the same
deliveries, byte for byte and in the same order.
"""
