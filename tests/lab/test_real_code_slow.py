"""The eighth assignment with Quantum ESPRESSO itself, whose packages are 80 MB to fetch and 360 MB
to unpack on every node; a requeued job waits two minutes. On a lab that is up:

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_real_code_slow.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from courses import courses
from played_class import KINDS, Played, played
from test_espresso_slow import espresso

pytestmark = pytest.mark.slow
NAME = "8-real-code"


@pytest.fixture(scope="module")
def found(lab: Any, run_on: Any) -> Iterator[Played]:
    course = ("asg", ["ines"], list(KINDS))
    with espresso(lab), courses(lab, run_on, course, with_assignments=True) as made:
        yield played(made[0], NAME)


def test_a_real_code_from_hand_out_to_feedback(found: Played) -> None:
    found.check(NAME)
