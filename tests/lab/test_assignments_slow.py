"""Seven of the eight assignments and the example of docs/instructor.md, played by three students in
one course at once, on a lab that is up (--nodes 4: eight cores are needed, and twelve are better):

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_assignments_slow.py

The eighth needs Quantum ESPRESSO: test_real_code_slow.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import playing
import pytest
from courses import courses
from played_class import KINDS, Played, played

from coursework import notebooks

pytestmark = pytest.mark.slow

NAMES = (*(name for name in notebooks.names() if name != "8-real-code"), playing.EXAMPLE)


@pytest.fixture(scope="module")
def found(lab: Any, run_on: Any) -> Iterator[Played]:
    with courses(lab, run_on, ("asg", ["ines"], list(KINDS)), with_assignments=True) as made:
        yield played(made[0], *NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_from_hand_out_to_feedback(found: Played, name: str) -> None:
    found.check(name)
