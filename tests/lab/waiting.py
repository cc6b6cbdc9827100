"""Waiting for what a cluster does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    ask: Callable[[], T],
    seconds: float = 90,
    *,
    wanted: Callable[[T], object] = bool,
    why: Callable[[], object] | None = None,
) -> T:
    """The first answer that is wanted. When none comes in time, AssertionError with the last one
    and with what ``why`` finds; the time is for a busy machine, a test needs a small part of it.
    """
    end = time.monotonic() + seconds
    while not wanted(answer := ask()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s still {answer!r}\n{why() if why else ''}")
        time.sleep(0.25)
    return answer
