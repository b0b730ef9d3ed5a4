"""Signing in to the console: passwords, two-factor authentication, lockouts.

Nothing here concerns API keys or devices.
"""
