"""Chunks handed to grading accounts, what comes back, and the files of the role."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.courses import Course
from cluster.errors import PracticumError, UsageError
from cluster.slurm_text import JobState
from coursework import gradejobs, staging
from coursework.grade_state import BusyError, Entry, alone, digest, entries, handed_in, write
from coursework.grading_role import sudoers


@given(
    st.lists(st.text(min_size=1), unique=True, max_size=60),
    st.integers(1, 8),
    st.integers(1, 12),
)
def test_everyone_is_in_one_chunk_and_slots_are_even(
    students: list[str], slots: int, most: int
) -> None:
    shares = staging.share_out(students, slots, most)
    assert len(shares) == slots
    every = [student for share in shares for chunk in share for student in chunk]
    assert sorted(every) == sorted(students)
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(0 < len(chunk) <= most for share in shares for chunk in share)


@given(st.lists(st.text(min_size=1), unique=True, max_size=200), st.integers(1, 8))
def test_waves_grow_and_everyone_is_in_one(students: list[str], slots: int) -> None:
    found = list(staging.waves(students, slots))
    assert [student for wave in found for student in wave] == students
    whole = [len(wave) / slots for wave in found[:-1]]
    assert whole == [2, 4, 8, *[10] * 100][: len(whole)]


def test_a_chunk_has_what_is_to_run_and_no_links(tmp_path: Path) -> None:
    mine = tmp_path / "ada"
    (mine / "data").mkdir(parents=True)
    (mine / "hw.ipynb").write_text("{}")
    (mine / "data" / "a.txt").write_text("a")
    (mine / "gradebook").symlink_to("/etc/passwd")
    (mine / "all").symlink_to("/etc")
    os.mkfifo(mine / "pipe")
    chunk = staging.make(tmp_path / "c", {"ada": mine}, ["hw"], {"limits": {}})
    there = sorted(path.name for path in (chunk.folder / "in" / "ada").rglob("*"))
    assert there == ["a.txt", "data", "hw.ipynb"]
    mode = stat.S_IMODE((chunk.folder / "in" / "ada" / "hw.ipynb").stat().st_mode)
    assert mode == 0o640
    assert stat.S_IMODE((chunk.folder / "out").stat().st_mode) & 0o777 == 0o770
    staging.remove(chunk)
    assert not chunk.folder.exists()


def test_results_are_ordinary_files(tmp_path: Path) -> None:
    secret = tmp_path / "gradebook.db"
    secret.write_text("secret")
    link, hard, pipe, big = (tmp_path / name for name in ("link", "hard", "pipe", "big"))
    link.symlink_to(secret)
    hard.hardlink_to(secret)
    os.mkfifo(pipe)
    with big.open("wb") as file:
        file.truncate(1 << 40)
    for path in (link, hard, pipe, big, tmp_path):
        with pytest.raises(ValueError, match=r"ordinary|MB"):
            staging.read_out(path)
    assert staging.read_out(tmp_path / "none") is None
    (tmp_path / "fine").write_text("{}")
    assert staging.read_out(tmp_path / "fine") == b"{}"


def test_what_was_handed_in_is_read_without_links(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("1")
    (tmp_path / "hw.ipynb").write_text("{}")
    (tmp_path / "x").symlink_to("/etc/passwd")
    assert handed_in(tmp_path) == {"result.json": b"1"}


def test_a_changed_file_or_name_is_another_submission(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest(tmp_path)
    assert digest(tmp_path) == first
    (tmp_path / "a").write_text("2")
    second = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, digest(tmp_path)}) == 3
    assert digest(tmp_path, tmp_path) != digest(tmp_path)


def test_one_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "lock", "it"):
        found: list[str] = []

        def other() -> None:
            try:
                with alone(tmp_path / "lock", "it"):
                    found.append("in")
            except PracticumError as error:
                found.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == ["it is being graded already: wait until it is done"]
    with alone(tmp_path / "lock", "it"):
        pass


def test_damaged_entries_are_graded_again(tmp_path: Path) -> None:
    from coursework.grade_state import Places

    folder = tmp_path / "grading" / "assignments" / "ps1"
    folder.mkdir(parents=True)
    entry = Entry("ada", "d", "graded", score=1.0)
    write(folder / "ada.json", vars(entry))
    (folder / "ben.json").write_text('{"student": ')
    (folder / "jobs").write_text("{}")
    places = Places("hpc", tmp_path, (), tmp_path, tmp_path, "", tmp_path, tmp_path, "", ())
    assert entries(places, "ps1") == {"ada": entry}


def wanted(**more: object) -> gradejobs.Wanted:
    values = {
        "box": "gradebox-hpc-01", "account": "hpc", "partition": "", "tasks": 3, "minutes": 5,
        "memory_mb": 640, "python": Path("/nfs/py"), "program": "/usr/task.py",
        "chunks": Path("/nfs/c/abc"), **more,
    }  # fmt: skip
    return gradejobs.Wanted(**values)  # type: ignore[arg-type]


def test_a_slots_array_runs_one_task_at_a_time() -> None:
    argv = wanted().argv()
    assert argv[:5] == ["sudo", "-n", "-u", "gradebox-hpc-01", "/usr/bin/sbatch"]
    assert "--array=0-2%1" in argv
    assert not any(part.startswith("--partition") for part in argv)
    assert "--partition=batch" in wanted(partition="batch").argv()
    assert not any("dependency" in part for part in argv)
    assert "--dependency=afterany:17" in wanted(after=17).argv(), "and one array at a time"


@pytest.fixture
def slow_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one cannot be made to wait for a moment of the test's choosing."""
    program = tmp_path / "bin/sudo"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncat > /dev/null\nwhile [ -e "$HOLD" ]; do sleep 0.05; done\n'
        'if [ -n "$SAID" ]; then echo "$SAID" >&2; exit 1; fi\necho "17;cluster"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOLD", str(tmp_path / "hold"))


@pytest.mark.usefixtures("slow_sudo")
def test_a_jobs_number_is_read_and_a_refusal_told(tmp_path, monkeypatch) -> None:
    with alone(tmp_path / "lock", "it") as lock:
        assert gradejobs.submit(wanted(), lock) == 17
        assert gradejobs.submit(wanted(), lock) == 17
        monkeypatch.setenv("SAID", "sbatch: error: Invalid account")
        with pytest.raises(PracticumError, match="refused: sbatch: error: Invalid account"):
            gradejobs.submit(wanted(), lock)


@pytest.mark.usefixtures("slow_sudo")
def test_an_sbatch_that_outlives_its_run_keeps_the_next_one_out(tmp_path, monkeypatch) -> None:
    """Left alone after the limit, as it is when its run is killed: the job may still come."""
    (tmp_path / "hold").touch()
    monkeypatch.setattr(gradejobs, "LIMIT", 0.2)
    with (
        pytest.raises(PracticumError, match="did not answer"),
        alone(tmp_path / "lock", "it") as lock,
    ):
        gradejobs.submit(wanted(), lock)
    with pytest.raises(BusyError), alone(tmp_path / "lock", "it"):
        pass
    (tmp_path / "hold").unlink()
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        with suppress(BusyError), alone(tmp_path / "lock", "it"):
            return
        time.sleep(0.05)
    pytest.fail("the lock is held for ever")


def test_the_jobs_script_starts_the_task_of_its_number(tmp_path: Path) -> None:
    program = tmp_path / "echo.py"
    program.write_text("import sys; print(sys.argv[1])")
    script = wanted(python=Path(shutil.which("python3") or ""), program=str(program)).script()
    done = subprocess.run(
        ["sh"], input=script, env={"SLURM_ARRAY_TASK_ID": "2"}, text=True, capture_output=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "/nfs/c/abc-2\n"


def course(name: str, uid: int) -> Course:
    return Course(name=name, uid=uid, instructors=("eve",), slots=2)


@pytest.mark.skipif(not shutil.which("visudo"), reason="needs visudo")
def test_graders_submit_as_their_own_accounts_only(tmp_path: Path) -> None:
    text = sudoers((course("hpc", 50000), course("mpi", 50100)), slurm_environment=True)
    path = tmp_path / "sudoers"
    path.write_text(text)
    subprocess.run(["visudo", "-cf", str(path)], check=True, capture_output=True)
    lines = [line for line in text.splitlines() if "ALL =" in line]
    assert "gradebox-mpi" not in lines[0]
    assert lines[1].startswith("grader-mpi ALL = (gradebox-mpi-01, gradebox-mpi-02) NOPASSWD")


def test_what_is_not_the_students_fault_is_known() -> None:
    from coursework.grading import NOT_THEIRS, WORDS

    assert JobState.NODE_FAIL in NOT_THEIRS
    assert not NOT_THEIRS & set(WORDS)


def test_a_courses_own_limits(tmp_path: Path) -> None:
    path = tmp_path / "grading.json"
    assert staging.read_limits(path) == staging.Limits()
    path.write_text('{"cell_seconds": 5}')
    assert staging.read_limits(path) == staging.Limits(cell_seconds=5)
    for text in ("", "[]", '{"cells": 1}', '{"cell_seconds": 0}', '{"cell_seconds": true}'):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"grading\.json"):
            staging.read_limits(path)
