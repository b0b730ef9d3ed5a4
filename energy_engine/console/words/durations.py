"""Durations as text, rounded for people."""

from datetime import timedelta


def duration(span: timedelta) -> str:
    """Return a duration such as "0.4 s", "12 s", "5 min", "3 h 12 min" or "2 d 4 h"."""
    seconds = max(span.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    hours, days = minutes // 60, minutes // 60 // 24
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"
