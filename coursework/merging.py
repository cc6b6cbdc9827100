"""From what a grading task says to the outputs that go into the gradebook: pure functions.

What a task writes was said by an account that runs students' code, so nothing in it is believed
but as outputs of a student's notebook: no scores, no sources, no cells that were not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coursework.clustercells import error, is_cluster_test, source
from coursework.proof import proven, token, without_proof

MAX_RESULT = 32 * 1024 * 1024
PRINTED = "work.printed"


@dataclass(frozen=True)
class Test:
    """A locked cell or an answer of a sanitized notebook, with the gradebook's own code."""

    grade_id: str
    points: float
    code: str
    grade: bool
    solution: bool

    @property
    def on_cluster(self) -> bool:
        about = {"grade": self.grade, "solution": self.solution}
        return is_cluster_test(
            {"cell_type": "code", "source": self.code, "metadata": {"nbgrader": about}}
        )

    @property
    def is_test(self) -> bool:
        return self.grade and not self.solution


Tests = Mapping[int, Test]  # by the cell's index


@dataclass(frozen=True)
class Ran:
    """What one notebook's execution left: outputs by cell, and why it ended early."""

    outputs: Mapping[int, list[Any]] = field(default_factory=dict)
    failure: str = ""


def read_tests(answer: Mapping[str, Any]) -> dict[str, dict[int, Test]]:
    """grade_book's answer to "sanitize"."""
    return {
        name: {int(index): Test(**values) for index, values in cells.items()}
        for name, cells in answer["notebooks"].items()
    }


def needs_kernel(tests: Tests) -> bool:
    """Whether points rest on running the notebook: a test in its kernel, or a cluster test that
    reads what cells printed."""
    return any(test.is_test and (not test.on_cluster or PRINTED in test.code)
               for test in tests.values())  # fmt: skip


def to_run(notebook: Mapping[str, Any], tests: Tests, nonce: str) -> dict[str, Any]:
    """The notebook as it is executed: test cells with their proof, cluster tests without code.
    ``nonce`` is this student's and this notebook's."""
    python = is_python(notebook)
    cells = [
        _to_run(cell, tests.get(index), token(nonce, str(index)), python=python)
        for index, cell in enumerate(notebook["cells"])
    ]
    return {**notebook, "cells": cells}


def is_python(notebook: Mapping[str, Any]) -> bool:
    """By the kernelspec, which comes from the gradebook: R's ``x <- 1`` is Python, too."""
    spec = notebook.get("metadata", {}).get("kernelspec", {})
    return bool(spec.get("language", "python") == "python")


def _to_run(cell: dict[str, Any], test: Test | None, nonce: str, *, python: bool) -> dict[str, Any]:
    if test is None or not test.is_test or cell["cell_type"] != "code":
        return cell
    if test.on_cluster:
        return {**cell, "source": ""}
    code = proven(test.code, nonce) if python else None
    return cell if code is None else {**cell, "source": code}


def read_result(data: bytes) -> dict[str, Ran]:
    """A task's file for one student. ValueError when it is none of ours."""
    try:
        value = json.loads(data)
        notebooks = value["notebooks"].items()
        return {str(name): _ran(one) for name, one in notebooks}
    except (TypeError, KeyError, AttributeError, RecursionError, UnicodeDecodeError) as problem:
        raise ValueError(f"the task's result cannot be read: {problem}") from None


def _ran(value: Mapping[str, Any]) -> Ran:
    outputs = {}
    for index, cell in value["cells"].items():
        found = cell["outputs"]
        if not isinstance(found, list):
            raise TypeError("outputs are no list")
        outputs[int(index)] = found
    return Ran(outputs, str(value["failure"])[:500])


def outputs_for(
    notebook: Mapping[str, Any],
    tests: Tests,
    ran: Ran,
    nonce: str,
    verdicts: Mapping[int, list[Any]],
) -> dict[int, list[Any]]:
    """Outputs of every code cell of the sanitized notebook.

    A test that was not run, or whose proof is missing without an error that says why, has an
    error: no points. ``verdicts`` are the outputs of cluster tests, by the cell's index.
    """
    python = is_python(notebook)
    found: dict[int, list[Any]] = {}
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        test = tests.get(index)
        outputs = ran.outputs.get(index)
        if test is None or not test.is_test:
            found[index] = outputs or []
        elif test.on_cluster:
            found[index] = verdicts.get(index) or [error("NotRun", "it was not looked at")]
        elif outputs is None:
            found[index] = [
                error("NotRun", f"not run: {ran.failure or 'the notebook ended early'}")
            ]
        else:
            number = token(nonce, str(index))
            found[index] = _tested(outputs, test, number) if python else outputs
    return found


def _tested(outputs: list[Any], test: Test, nonce: str) -> list[Any]:
    if proven(test.code, nonce) is None:
        return outputs
    passed = without_proof(outputs, nonce)
    if passed is not None:
        return passed
    if any(isinstance(one, dict) and one.get("output_type") == "error" for one in outputs):
        return outputs
    return [*outputs, error("NotProven", "the test did not run to its end")]


def printed(tests: Tests, ran: Ran) -> dict[str, str]:
    """Text output of each nbgrader cell, by grade_id."""
    return {
        test.grade_id: "".join(map(_text, ran.outputs.get(index, [])))
        for index, test in tests.items()
        if not test.on_cluster
    }


def sources(notebook: Mapping[str, Any], tests: Tests) -> dict[str, str]:
    cells = notebook["cells"]
    return {test.grade_id: source(cells[index]) for index, test in tests.items()}


def _text(output: Any) -> str:
    if not isinstance(output, dict):
        return ""
    if output.get("output_type") == "stream" and output.get("name") == "stdout":
        return _joined(output.get("text"))
    if output.get("output_type") == "execute_result":
        data = output.get("data")
        return _joined(data.get("text/plain")) + "\n" if isinstance(data, dict) else ""
    return ""


def _joined(text: Any) -> str:
    if isinstance(text, list):
        return "".join(part for part in text if isinstance(part, str))
    return text if isinstance(text, str) else ""
