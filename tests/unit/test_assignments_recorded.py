"""Assignments that were played on a lab: what Slurm recorded then, judged by today's tests.

tests/playing.py makes the recordings: right (the instructor's solution), half, and cheat.
"""

from __future__ import annotations

import playing
import pytest

from coursework import notebooks

RECORDED = sorted(path.parent.name for path in playing.DATA.glob("*/right.json"))


def test_most_are_recorded() -> None:
    """The seventh and the eighth are not yet."""
    assert {*notebooks.names()[:6], playing.EXAMPLE} <= set(RECORDED)


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("kind", playing.KINDS)
def test_each_earns_its_part(name: str, kind: str) -> None:
    """All, what half of the work is worth, and nothing."""
    found = playing.graded(name, playing.load(name, kind))
    print(playing.told(found))
    assert {cell: earned for cell, (earned, _) in found.items()} == playing.expected(name, kind)
