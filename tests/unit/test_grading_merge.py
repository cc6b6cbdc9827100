"""What a grading task says, and what of it reaches the gradebook."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursework.clustercells import MARK
from coursework.merging import (
    Ran,
    outputs_for,
    printed,
    read_result,
    read_tests,
    sources,
    to_run,
)
from coursework.merging import (
    Test as Cell,
)
from coursework.proof import NAME, proven, token, without_proof

NONCE = "n0nce"
ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}


def run_cells(*cells: str, before: str = "") -> list[dict[str, Any]]:
    """What a kernel would give for the last of these: its error, if any, as an output."""
    names: dict[str, Any] = {}
    try:
        for code in cells:
            exec(compile(code, "cell", "exec"), names)
    except Exception as error:  # noqa: BLE001
        return [{**ERROR, "ename": type(error).__name__, "evalue": str(error)}]
    return []


def code_of(code: str) -> str:
    made = proven(code, NONCE)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("assert f(1) == 2", None),
        ("x = 3\nassert x, 'no x'\n", None),
        ("for i in range(3):\n    assert f(i) == i + 1", None),
        ("assert True\n1.5 if f(0) == 1 else 0", "1.5"),
        ("print", None),
        ("", None),
    ],
)
def test_a_cell_that_passes_proves_it(code: str, value: str | None) -> None:
    outputs = run_cells("def f(x): return x + 1", code_of(code))
    rest = without_proof(outputs, NONCE)
    assert rest is not None
    if code == "print":
        return
    assert [one["data"]["text/plain"] for one in rest] == ([value] if value else [])


def test_a_cell_that_fails_has_its_error_and_no_proof() -> None:
    outputs = run_cells("def f(x): return 0", code_of("assert f(1) == 2, 'wrong'"))
    assert without_proof(outputs, NONCE) is None
    assert (outputs[0]["ename"], outputs[0]["evalue"]) == ("AssertionError", "wrong")


def test_asserts_cannot_be_stripped() -> None:
    """With python -O, or a transformer that takes them out, stock tests pass."""
    made = code_of("assert f(1) == 2")
    assert "assert " not in made
    assert run_cells("def f(x): return 0", made)[0]["ename"] == "AssertionError"


@pytest.mark.parametrize("code", ["%matplotlib inline\nassert x", "x <- f(1)[[1]", "assert ("])
def test_other_languages_are_left_alone(code: str) -> None:
    assert proven(code, NONCE) is None


def test_a_forged_proof_is_none() -> None:
    forged = [{**ERROR, "ename": NAME, "evalue": "guess None"}]
    assert without_proof(forged, NONCE) is None


TESTS = {
    1: Cell("f", 0, "", grade=False, solution=True),
    2: Cell("test-f", 2, "assert f(1) == 2", grade=True, solution=False),
    3: Cell("jobs", 4, f"{MARK}\nverdict = None", grade=True, solution=False),
    4: Cell("essay", 5, "", grade=True, solution=True),
}
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": "Hello", "metadata": {}},
        {"cell_type": "code", "source": "def f(x): return x + 1", "metadata": {}},
        {"cell_type": "code", "source": "forged", "metadata": {}},
        {"cell_type": "code", "source": "forged", "metadata": {}},
        {"cell_type": "code", "source": "mine", "metadata": {}},
    ]
}
PASSED = {**ERROR, "ename": NAME, "evalue": f"{token(NONCE, '2')} None"}


def test_what_is_run_is_the_gradebooks_and_no_cluster_test() -> None:
    cells = to_run(NOTEBOOK, TESTS, NONCE)["cells"]
    assert "AssertionError" in cells[2]["source"]
    assert cells[3]["source"] == ""
    assert cells[4]["source"] == "mine"
    assert NOTEBOOK["cells"][2]["source"] == "forged", "the sanitized notebook is as it was"


def merged(outputs: dict[int, list[Any]], failure: str = "") -> dict[int, list[Any]]:
    verdicts: dict[int, list[Any]] = {3: []}
    return outputs_for(NOTEBOOK, TESTS, Ran(outputs, failure), NONCE, {**verdicts, 3: [ERROR]})


def names(outputs: list[Any]) -> list[str]:
    return [one["ename"] for one in outputs if one["output_type"] == "error"]


def test_passed_failed_and_silent() -> None:
    assert merged({2: [PASSED]})[2] == []
    assert names(merged({2: [ERROR]})[2]) == ["E"]
    assert names(merged({2: []})[2]) == ["NotProven"], "nothing happened: no points"


def test_the_number_of_one_test_is_worth_nothing_in_another() -> None:
    other = {**PASSED, "evalue": f"{token(NONCE, '3')} None"}
    assert names(merged({2: [other]})[2]) == [NAME], "an error: no points"
    assert token(NONCE, "ada", "hw") != token(NONCE, "ben", "hw")
    assert token("other", "ada", "hw") != token(NONCE, "ada", "hw")


def test_what_was_not_run_has_no_points_and_a_reason() -> None:
    found = merged({}, "the kernel died")
    assert names(found[2]) == ["NotRun"]
    assert "the kernel died" in found[2][0]["evalue"]
    assert found[1] == []


def test_a_task_cannot_say_what_a_cluster_test_found() -> None:
    assert merged({3: [PASSED], 2: [PASSED]})[3] == [ERROR]
    assert names(outputs_for(NOTEBOOK, TESTS, Ran({3: []}), NONCE, {})[3]) == ["NotRun"]


def test_a_task_cannot_add_cells() -> None:
    assert set(merged({99: [PASSED], 0: [PASSED]})) == {1, 2, 3, 4}


def test_answers_as_cluster_tests_see_them() -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": ["a", "b\n"]}
    value = {"output_type": "execute_result", "data": {"text/plain": "7"}}
    told = printed(TESTS, Ran({1: [stream, value, "junk"], 3: [stream]}))
    assert told["f"] == "ab\n7\n"
    assert "jobs" not in told
    assert sources(NOTEBOOK, TESTS)["essay"] == "mine"


def test_a_result_is_read_as_it_was_written() -> None:
    value = {"notebooks": {"hw": {"cells": {"2": {"outputs": [PASSED]}}, "failure": ""}}}
    assert read_result(json.dumps(value).encode()) == {"hw": Ran({2: [PASSED]}, "")}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"notebooks": []}', '{"notebooks": {"a": {"cells": {}}}}',
     '{"notebooks": {"a": {"cells": {"x": {"outputs": []}}, "failure": ""}}}',
     '{"notebooks": {"a": {"cells": {"1": {"outputs": {}}}, "failure": ""}}}', "[" * 100000],
)  # fmt: skip
def test_a_strange_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_result(text.encode())


@given(st.binary())
def test_any_bytes_are_a_result_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_result(data)


def test_a_forged_score_goes_nowhere() -> None:
    value = {"notebooks": {"hw": {"cells": {}, "failure": "", "score": 99}}, "score": 99}
    found = read_result(json.dumps(value).encode())
    assert "99" not in repr(found)


def test_the_writers_answer() -> None:
    answer = {"notebooks": {"hw": {"2": vars(TESTS[2])}}}
    assert read_tests(json.loads(json.dumps(answer))) == {"hw": {2: TESTS[2]}}


def test_another_languages_tests_are_as_stock_has_them() -> None:
    other = {**NOTEBOOK, "metadata": {"kernelspec": {"name": "r", "language": "R"}}}
    tests = {2: Cell("t", 2, "x <- 1", grade=True, solution=False)}
    assert to_run(other, tests, NONCE)["cells"][2]["source"] == "forged"
    assert outputs_for(other, tests, Ran({2: []}), NONCE, {})[2] == []
