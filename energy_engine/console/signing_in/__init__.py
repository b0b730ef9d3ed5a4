"""Signing in to the console: passwords, two-factor authentication, lock-outs.

Nothing here knows an API key or a device.
"""
