"""Slurm's host lists: ``node[01-03,07],login`` ↔ the names they stand for (slurm.conf(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LIMIT = 4096  # names one list may stand for: a slip such as node[1-99999999] is refused, not obeyed
_ITEM = re.compile(r"^(?P<prefix>[a-z0-9-]*)(?:\[(?P<ranges>[0-9,-]+)\](?P<suffix>[a-z0-9-]*))?$")


def _split(text: str) -> Iterator[str]:
    """Split on the commas that are outside brackets."""
    depth, start = 0, 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _numbers(ranges: str, item: str) -> Iterator[str]:
    for part in ranges.split(","):
        low, dash, high = part.partition("-")
        high = high if dash else low
        if not (low.isdigit() and high.isdigit()) or int(high) < int(low):
            raise ValueError(f"{part!r} in {item!r} is not a range like 01-08")
        if int(high) - int(low) >= LIMIT:
            raise ValueError(f"{item!r} stands for more than {LIMIT} names")
        for number in range(int(low), int(high) + 1):
            yield f"{number:0{len(low)}d}"


def expand(text: str) -> list[str]:
    """The names that a host list stands for, in order. ValueError when it is not one."""
    names: list[str] = []
    for item in _split(text):
        match = _ITEM.match(item)
        if not match or not item:
            raise ValueError(f"{item!r} is not a host name or a list like node[01-08]")
        if match["ranges"] is None:
            names.append(match["prefix"])
        else:
            head, tail = match["prefix"], match["suffix"]
            names += [head + number + tail for number in _numbers(match["ranges"], item)]
        if len(names) > LIMIT:
            raise ValueError(f"{text!r} stands for more than {LIMIT} names")
    return names


def fold(names: Iterable[str]) -> str:
    """The shortest plain form: neighbours with one prefix and one width become a range."""
    groups: dict[tuple[str, int], list[int]] = {}
    plain: list[str] = []
    for name in dict.fromkeys(names):
        match = re.match(r"^(.*?)(\d+)$", name)
        if match:
            groups.setdefault((match[1], len(match[2])), []).append(int(match[2]))
        else:
            plain.append(name)
    for (prefix, width), numbers in groups.items():
        ranges = list(_ranges(sorted(numbers), width))
        lone = len(ranges) == 1 and "-" not in ranges[0]
        plain.append(f"{prefix}{ranges[0]}" if lone else f"{prefix}[{','.join(ranges)}]")
    return ",".join(plain)


def _ranges(numbers: list[int], width: int) -> Iterator[str]:
    start = previous = numbers[0]
    for number in [*numbers[1:], None]:
        if number is not None and number == previous + 1:
            previous = number
            continue
        yield f"{start:0{width}d}" + (f"-{previous:0{width}d}" if previous > start else "")
        if number is not None:
            start = previous = number
