"""The assignments' sources, and the notebooks made of them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import playing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PracticumError
from coursework import clustercells, notebooks
from coursework.clustertests import seed

NAMES = notebooks.names()
HEAD = "title: A\ngoal: B,\n  and C.\nminutes: 5\nneeds: nothing.\ngraded: D\n---\n"
SMALL = HEAD + (
    "%% text why\nWhy.\n\n%% number number\n\n%% solution work\nx = 0\n### BEGIN SOLUTION\nx = 1\n"
    "### END SOLUTION\n\n%% shared all\nlimit = 3\n\n%% test good points=3\nverdict = 1\n"
    "%% written words points=2\nBecause.\n"
)


def cells(text: str) -> dict[str, dict[str, object]]:
    return {cell["id"]: cell for cell in json.loads(text)["cells"]}


def test_a_small_source() -> None:
    source = notebooks.parse(SMALL)
    assert source.head["goal"] == "B, and C."
    assert source.points == 5
    made = cells(notebooks.build(source, "first", "hpc"))
    assert list(made) == ["page", "why", "number", "work", "good", "words"]
    assert "".join(made["good"]["source"]) == (  # type: ignore[arg-type]
        "# practicum: cluster test\n### BEGIN HIDDEN TESTS\nlimit = 3\nverdict = 1\n"
        "### END HIDDEN TESTS"
    )
    assert made["good"]["metadata"] == {
        "nbgrader": {
            "grade": True, "grade_id": "good", "locked": True, "points": 3, "schema_version": 3,
            "solution": False, "task": False,
        }
    }  # fmt: skip
    assert made["work"]["metadata"]["nbgrader"]["solution"] is True  # type: ignore[index]
    assert made["words"]["cell_type"] == "markdown"
    assert '"first"' in "".join(made["number"]["source"])  # type: ignore[arg-type]


def test_the_same_source_gives_the_same_bytes() -> None:
    source = notebooks.parse(SMALL)
    assert notebooks.build(source, "a", "b") == notebooks.build(source, "a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("---\n", ""), "must end with the line ---"),
        (("goal: B,\n  and C.\n", ""), "does not say: goal"),
        (("minutes: 5", "minute: 5"), "line 4 is none of"),
        (("%% text why", "%% prose why"), "no `%% KIND ID`"),
        (("%% text why", "%% text Why!"), "no `%% KIND ID`"),
        (("points=3", ""), "no `%% KIND ID`|points are for"),
        (("%% text why", "%% text why points=2"), "points are for"),
        (("%% text why", "%% text work"), "two cells have the id 'work'"),
        (("### BEGIN SOLUTION\n", ""), "no part between"),
        (("Why.", "### BEGIN SOLUTION"), "is no solution cell"),
        (("Why.\n", "\n"), "why is empty"),
        (("%% text why\nWhy.", "Why."), "before the first cell"),
    ],
)
def test_what_is_wrong_is_said(change: tuple[str, str], message: str) -> None:
    assert change[0] in SMALL
    with pytest.raises(ValueError, match=message):
        notebooks.parse(SMALL.replace(*change, 1))


@given(st.text())
def test_any_text_is_a_source_or_an_error(text: str) -> None:
    with suppress(ValueError):
        notebooks.parse(HEAD + text)


def test_there_are_eight() -> None:
    assert [name[0] for name in NAMES] == list("12345678")
    with pytest.raises(PracticumError, match="there are 1-first-job"):
        notebooks.load("9-none")


@pytest.mark.parametrize("name", NAMES)
def test_each_has_what_an_assignment_needs(name: str) -> None:
    source = notebooks.load(name)
    text = notebooks.build(source, name, "hpc101")
    assert "@COURSE@" not in text
    assert "@ASSIGNMENT@" not in text
    made = cells(text)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell) for cell in made)
    tests = [cell for cell in made.values() if clustercells.is_cluster_test(cell)]
    assert len(tests) == len(source.tests) >= 3
    for cell in source.tests:
        compile(source.shared + cell.text, cell.name, "exec")
    kinds = {cell.kind for cell in source.cells}
    assert {"text", "code", "number", "solution", "test"} <= kinds
    notes = (notebooks.HERE / name / notebooks.MARKING).read_text(encoding="utf-8")
    for cell in source.cells:
        if cell.points:  # each graded cell has a note for instructors
            assert f"`{cell.name}` ({cell.points})" in notes


@pytest.mark.parametrize("name", NAMES)
def test_the_page_tells_the_points_of_each_part(name: str) -> None:
    """The figures in brackets in `graded` add up to what can be earned."""
    source = notebooks.load(name)
    told = re.findall(r"\((\d[^)]*)\)", source.head["graded"])
    total = sum(int(figure) for figures in told for figure in re.findall(r"\d+", figures))
    assert total == source.points


@pytest.mark.parametrize("name", NAMES)
def test_solutions_and_tests_are_not_handed_out(name: str) -> None:
    """What stands beside the notebook tells no answer."""
    for file, content in notebooks.handed_out(name).items():
        assert b"BEGIN SOLUTION" not in content
        assert b"HIDDEN" not in content
        assert not file.startswith(".")


def test_the_students_number_is_the_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    names: dict[str, object] = {}
    exec(notebooks.NUMBER.replace("@ASSIGNMENT@", "1-first-job"), names)
    assert names["number"] == seed("ada", "1-first-job") % 90000 + 10000
    assert (tmp_path / "number.txt").read_text() == str(names["number"])


def test_writing_one_keeps_what_is_there(tmp_path: Path) -> None:
    name = NAMES[0]
    assert notebooks.write(name, tmp_path, "hpc101")
    notebook = tmp_path / name / f"{name}.ipynb"
    assert "--account=hpc101" in notebook.read_text()
    assert (tmp_path / name / "waitfor.sh").is_file()
    assert not (tmp_path / name / notebooks.MARKING).exists()
    notebook.write_text("mine")
    assert not notebooks.write(name, tmp_path, "hpc101")
    assert notebook.read_text() == "mine"


def test_a_run_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    name = NAMES[0]
    (tmp_path / f".{name}.part").mkdir()
    (tmp_path / f".{name}.part" / "old").write_text("x")
    assert notebooks.write(name, tmp_path, "hpc101")
    assert not (tmp_path / name / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", ["half", "cheat"])
@pytest.mark.parametrize("name", NAMES)
def test_other_submissions_replace_cells_that_are_there(name: str, kind: str) -> None:
    assert playing.submission(name, kind) != notebooks.load(name)
