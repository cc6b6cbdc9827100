"""Times and amounts as people say them."""

from __future__ import annotations

import time


def clock(moment: float, now: float) -> str:
    """A time of day on this machine's clock, with the date unless it is within the day."""
    layout = "%H:%M" if moment - now < 20 * 3600 else "%a %d %b, %H:%M"
    return time.strftime(layout, time.localtime(moment))


def length(seconds: int) -> str:
    """A limit of time as people say it: 4 hours, 1 day 12 hours, 90 minutes."""
    if seconds % 3600:
        return count(seconds // 60, "minute")
    days, hours = divmod(seconds // 3600, 24)
    parts = [count(number, unit) for number, unit in ((days, "day"), (hours, "hour")) if number]
    return " ".join(parts)


def count(number: int, unit: str) -> str:
    """1 core, 2 cores"""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def memory(megabytes: int) -> str:
    """An amount of memory as people say it."""
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes} MB"


def span(seconds: float) -> str:
    """A length of time as people say it, coarse so that it does not change all the time."""
    minutes = seconds / 60
    if minutes < 1.5:
        return "about a minute"
    if minutes < 10:
        return f"about {round(minutes)} minutes"
    if minutes < 90:
        return f"about {round(minutes / 5) * 5} minutes"
    hours = minutes / 60
    return f"about {round(hours)} hours" if hours < 36 else f"about {round(hours / 24)} days"
