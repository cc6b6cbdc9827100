"""What every check says, and the two questions that most of them ask."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster.toml_lines import Place


@dataclass(frozen=True)
class Problem:
    """What is wrong and what would be right, and the key it belongs to."""

    place: Place
    text: str


def repeated(values: Iterable[object], place: Place, key: str, what: str) -> Iterator[Problem]:
    seen: dict[object, int] = {}
    for index, value in enumerate(values):
        if value in seen:
            yield Problem(
                (*place, index, key),
                f"{what} {value} is taken by {place[-1]}[{seen[value]}]: choose another",
            )
        else:
            seen[value] = index


def unknown(word: str, valid: Iterable[str], what: str) -> str:
    known = list(valid)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no {what} {word}{hint}; there are: {', '.join(known) or 'none'}"
