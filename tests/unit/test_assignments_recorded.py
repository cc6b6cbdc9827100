"""Assignments that were played on a lab: what Slurm recorded then, judged by today's tests.

tests/playing.py makes the recordings: right (the instructor's solution), half, and cheat.
"""

from __future__ import annotations

import playing
import pytest

RECORDED = sorted(path.parent.name for path in playing.DATA.glob("*/right.json"))
# What half of the work earns, by test; those that are not named here earn all.
HALF: dict[str, dict[str, float]] = {
    "1-first-job": {"hello": 3, "two": 0, "accounting": 1.5},
    "2-ask": {"fit": 4, "wide": 1, "pair": 2},
    "3-break": {"slow-mended": 1.5, "hungry-mended": 1.5, "careful": 2.25, "repaired": 0},
    "5-pipeline": {"simulate": 2, "never": 0},
    "6-parallel": {"threads": 2.14, "ranks": 3.75, "hybrid": 2.55},
    "4-arrays": {"throttle": 0, "rest": 0},
}


def points(name: str, kind: str) -> dict[str, float]:
    found = playing.graded(name, playing.load(name, kind))
    print(playing.told(found))
    return {cell: earned for cell, (earned, _) in found.items()}


def full(name: str) -> dict[str, float]:
    return {cell.name: float(cell.points) for cell in playing.loaded(name).tests}


def test_some_are_recorded() -> None:
    assert "1-first-job" in RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_right_earns_all(name: str) -> None:
    assert points(name, "right") == full(name)


@pytest.mark.parametrize("name", RECORDED)
def test_half_earns_its_part(name: str) -> None:
    assert points(name, "half") == {**full(name), **HALF[name]}


@pytest.mark.parametrize("name", RECORDED)
def test_cheating_earns_nothing(name: str) -> None:
    assert set(points(name, "cheat").values()) == {0}
