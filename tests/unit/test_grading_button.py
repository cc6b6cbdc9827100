"""Formgrader's button and its progress page; what it asks for, taken up."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from coursework.grade_wanted import runs, wishes
from coursework.session import grading


def pressed(root, assignment: str, student: str):
    api = SimpleNamespace(coursedir=SimpleNamespace(root=str(root)))
    return grading.autograde(api, assignment, student, force=True)


def test_the_button_asks_and_returns(tmp_path) -> None:
    for student in ("ada", "ben", "ada"):
        assert pressed(tmp_path, "ps 1", student)["success"]
    assert "grading/ps%201" in pressed(tmp_path, "ps 1", "ada")["log"]
    (found,) = wishes(tmp_path / "grading" / "wanted").items()
    assert found[0] == "ps 1"
    assert {student: len(files) for student, files in found[1].items()} == {"ada": 3, "ben": 1}


def test_all_that_is_new_is_asked_for_and_graded_before_those_that_are_named(tmp_path) -> None:
    grading.want(tmp_path, "ps1")
    pressed(tmp_path, "ps1", "ben")
    ((_, students),) = wishes(tmp_path / "grading" / "wanted").items()
    assert grading.asked(tmp_path, "ps1") and not grading.asked(tmp_path, "ps2")
    assert "begins in a moment" in grading.page("ps1", {}, {}, "/", more=True)
    asked = [(one.student, one.again) for one in runs("ps1", students)]
    assert asked == [([], False), (["ben"], True)]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\nb", "x" * 200])
def test_a_name_that_is_a_path_asks_for_nothing(tmp_path, name: str) -> None:
    assert not pressed(tmp_path, name, "ada")["success"]
    assert not pressed(tmp_path, "ps1", name)["success"]
    assert wishes(tmp_path / "grading" / "wanted") == {}


def test_strange_wishes_are_removed(tmp_path) -> None:
    for name, text in {
        "a": "{",
        "b": "[]",
        "c": '{"assignment": "../x", "student": "ada"}',
    }.items():
        (tmp_path / name).write_text(text)
    assert wishes(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_page_tells_and_escapes(tmp_path) -> None:
    folder = tmp_path / "ps1"
    folder.mkdir()
    students = {"ada": "graded", "ben": "running", "cy": "failed"}
    (folder / "progress").write_text(json.dumps({"running": True, "students": students}))
    for name, reason in (("ada", ""), ("cy", "<script>evil()</script>")):
        entry = {
            "student": name, "status": students[name], "reason": reason, "score": 2.5,
            "max_score": 4.0,
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(entry))
    (folder / "dan.json").write_text("{")
    progress, entries = grading.read(folder)
    html = grading.page("<ps1>", progress, entries, "/back")
    assert "2 of 3 done" in html
    assert "2.5 of 4" in html
    assert "<script" not in html
    assert "&lt;script" in html
    assert 'http-equiv="refresh"' in html
    after = grading.page("ps1", {**progress, "running": False}, entries, "/back")
    assert 'http-equiv="refresh"' not in after


def test_an_old_score_is_not_shown_while_it_is_graded_anew() -> None:
    entry = {"student": "ada", "status": "graded", "score": 2.5, "max_score": 4.0, "reason": ""}
    html = grading.page(
        "ps1", {"running": True, "students": {"ada": "running"}}, {"ada": entry}, "/"
    )
    assert "2.5" not in html
