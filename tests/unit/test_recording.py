"""Recordings of a submission, and trying a notebook's tests on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PracticumError
from cluster.slurm_text import JobState
from coursework import notebooks, recording
from coursework.accounting import Accounting, Job, Resources, Window
from coursework.clustertests import Work
from practicum.cli import run

TESTS = """\
title: Sleep
goal: Sleep.
minutes: 5
needs: nothing.
graded: One job (4).
---
%% text why
Why.

%% test rest points=4
verdict = best(work, "nap", completed(), asked(cpus=(1, 1)))
"""


def job(**change: object) -> Job:
    values: dict[str, object] = {
        "job_id": 7, "name": "nap", "user": "ada", "account": "hpc", "partition": "batch",
        "state": JobState.COMPLETED, "exit_code": 0, "signal": 0, "submitted": 100,
        "eligible": 100, "started": 101, "ended": 110, "elapsed": 9, "time_limit": 60,
        "requested": Resources(2, 1, 10**8), "allocated": Resources(2, 1, 10**8),
        "nodes": ("node01",), "cpu_time": 0, **change,
    }  # fmt: skip
    return Job(**values)  # type: ignore[arg-type]


def work(*jobs: Job, files: dict[str, bytes] | None = None) -> Work:
    return Work("ada", "naps", Accounting("ada", "hpc", Window(0, 1000), 1000, jobs), files or {})


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
)
def test_a_recording_comes_back(files: dict[str, str]) -> None:
    made = work(job(), files={name: text.encode() for name, text in files.items()})
    assert recording.parse(recording.dump(made), "here") == made


@given(st.text() | st.binary().map(repr))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(PracticumError, match=r"here is no"):
        recording.parse(text, "here")


@pytest.mark.parametrize("text", ["{}", "[]", '{"files": []}', '{"files": {}, "student": "a"}'])
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PracticumError, match="here is no recording: make one"):
        recording.parse(text, "here")


def test_only_text_of_a_sensible_size_is_kept() -> None:
    files = {"a.out": b"1\n", "program": b"\x7fELF\xff", "large.csv": b"1" * 300_001}
    assert recording.texts(files) == {"a.out": b"1\n"}


@pytest.fixture
def tried(tmp_path: Path) -> tuple[str, str]:
    notebook = tmp_path / "naps.ipynb"
    notebook.write_text(notebooks.build(notebooks.parse(TESTS), "naps", "hpc"))
    file = tmp_path / "naps.json"
    file.write_text(recording.dump(work(job())))
    return str(notebook), str(file)


def test_tests_are_tried(tried: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["assignment", "try", *tried]) == 0
    told = capsys.readouterr().out
    assert "rest: 2 of 4" in told
    assert "Expected: a request for 1 core. Seen: 2 cores." in told
    assert "together: 2 of 4" in told


def test_tests_are_tried_for_programs(
    tried: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["assignment", "try", "--json", *tried]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["test"], row["points"], row["earned"]) == ("rest", 4, 2)


def test_a_notebook_without_such_tests_is_said(
    tried: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.ipynb"
    for content, message in [
        ('{"cells": []}', "has no cluster test"),
        ("[1]", "is no notebook"),
        ("x", "is no notebook"),
    ]:
        other.write_text(content)
        assert run(["assignment", "try", str(other), tried[1]]) == 1
        assert message in capsys.readouterr().err
    assert run(["assignment", "try", str(tmp_path / "gone.ipynb"), tried[1]]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_folder_of_the_courses_name_is_not_taken_for_the_notebook(
    tried: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In a home in which the assignment was fetched, as docs/instructor.md has it."""
    (tmp_path / "hpc101/naps").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("practicum.grader.PUBLIC", tmp_path / "none")
    assert run(["assignment", "try", "hpc101/naps", tried[1]]) == 2
    assert "this works on the first login node" in capsys.readouterr().err


def test_list_and_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["assignment", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(notebooks.names())
    assert run(["assignment", "list"]) == 0
    assert "Your first job" in capsys.readouterr().out
    wanted = ["assignment", "write", "hpc101", str(tmp_path), "1-first-job"]
    assert run(wanted) == 0
    assert run(wanted) == 0
    assert "1-first-job: is there, and stays" in capsys.readouterr().out
    assert run(["assignment", "write", "hpc101", str(tmp_path), "none"]) == 1
    assert "there is no assignment 'none'" in capsys.readouterr().err
    assert run(["assignment", "write", "hpc 101", str(tmp_path)]) == 1
    assert "is no course's name" in capsys.readouterr().err
    assert run(["assignment", "write", "hpc101", "/proc/nowhere", "1-first-job"]) == 1
    assert "cannot be written to" in capsys.readouterr().err
