"""Cluster-graded test cells: found in a notebook, run outside the student's kernel, and told in
the form from which nbgrader takes its score (nbgrader.utils.determine_grade, 0.9.6):

an error output is no points, an ``execute_result`` with a number is that many, anything else all.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import coursework.clustertests as tests
from cluster.errors import PracticumError
from coursework import criteria
from coursework.clustertests import Line, Verdict, Work

MARK = "# practicum: cluster test"
SECONDS = 30  # for one test


class BrokenTestError(PracticumError):
    """The test itself does not work: the author's matter, not the student's."""


def is_cluster_test(cell: Mapping[str, Any]) -> bool:
    """A locked nbgrader test cell whose first line is the mark. ``cell`` is as in the file."""
    about = cell.get("metadata", {}).get("nbgrader", {})
    first = source(cell).lstrip().partition("\n")[0].strip()
    return (
        cell.get("cell_type") == "code"
        and bool(about.get("grade"))
        and not about.get("solution")
        and first == MARK
    )


def source(cell: Mapping[str, Any]) -> str:
    text = cell.get("source", "")
    return text if isinstance(text, str) else "".join(text)


def verdict_of(code: str, work: Work, *, where: str) -> Verdict:
    """Run a test's code. BrokenTestError when it fails by itself or leaves no verdict.

    ``code`` must come from the gradebook, never from what a student handed in: it runs with all
    that the grader may do.
    """
    names: dict[str, Any] = {**_public(tests), **_public(criteria), "work": work}
    try:
        with _limit(SECONDS):
            exec(compile(code, where, "exec"), names)  # noqa: S102  the author's own code
    except AssertionError as error:
        return Verdict(0.0, (Line(False, str(error) or "An assertion of the test failed."),))
    except Exception as error:
        raise BrokenTestError(
            f"{where}: the test fails by itself ({type(error).__name__}: {error}): "
            "mend it in the source notebook, generate the assignment and grade again"
        ) from error
    verdict = names.get("verdict")
    if not isinstance(verdict, Verdict):
        raise BrokenTestError(
            f"{where}: the test leaves no verdict: end it with verdict = best(...)"
        )
    if not 0 <= verdict.share <= 1 or math.isnan(verdict.share):
        raise BrokenTestError(
            f"{where}: the verdict's share is {verdict.share}, not between 0 and 1"
        )
    return verdict


def outputs_of(verdict: Verdict, points: float) -> list[dict[str, Any]]:
    """Outputs for the cell, as nbformat 4 has them."""
    outputs: list[dict[str, Any]] = []
    if verdict.lines:
        outputs.append({"output_type": "stream", "name": "stdout", "text": verdict.text + "\n"})
    if verdict.share == 0:
        outputs.append(error("NoPoints", "what the cluster saw earns no points here"))
    elif verdict.share < 1:
        earned = repr(round(points * verdict.share, 2))
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": None,
                "metadata": {},
                "data": {"text/plain": earned},
            }
        )
    return outputs


def error(name: str, sentence: str) -> dict[str, Any]:
    """An error output: nbgrader gives no points for its cell."""
    return {
        "output_type": "error",
        "ename": name,
        "evalue": sentence,
        "traceback": [f"{name}: {sentence}"],
    }


def _public(module: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """A test that never ends (a pattern over a student's file) is a failure, not a wait."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
