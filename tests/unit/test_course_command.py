"""`practicum course`: what it writes into cluster.toml, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_course_model import BASE

from cluster.edit_courses import changed, free_uid, with_course, without_person
from cluster.load import load
from cluster.secrets import generate, save_secrets, secrets_path
from practicum.cli import run as practicum


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(BASE + "# the end\n")
    save_secrets(secrets_path(path), generate())
    return path


def create(file: Path, *more: str) -> int:
    words = ["course", "create", "hpc", "--instructor", "ines", "--no-apply", "-f", str(file)]
    return practicum([*words, *more])


def test_a_course_from_a_roster_makes_accounts_for_new_people_alone(file, tmp_path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("username,full_name\nada,Ada X\nzoe,Zoe Y\n")
    assert create(file, "--students", str(roster), "--title", "HPC", "--slots", "3") == 0
    cluster = load(file)
    (course,) = cluster.courses
    assert course.students == ("ada", "zoe") and course.slots == 3 and course.uid == 50000
    assert [one.groups for one in cluster.users if one.name == "zoe"] == [("hpc",)]
    assert [one.groups for one in cluster.users if one.name == "ada"] == [("students",)]
    assert file.read_text().startswith(BASE) and "# the end" in file.read_text()
    assert create(file) == 2  # there already


def test_a_course_has_a_kernel_and_a_profile(file, capsys) -> None:
    file.write_text(
        BASE + '[[kernels]]\nname = "mpi"\ntitle = "MPI"\n'
        '[[profiles]]\nname = "big"\ntitle = "Big"\npartition = "batch"\ngroups = ["teachers"]\n'
    )
    assert create(file, "--kernel", "mpi", "--profile", "big") == 0
    (course,) = load(file).courses
    assert (course.kernel, course.profile) == ("mpi", "big")
    capsys.readouterr()
    assert practicum(["course", "show", "hpc", "-f", str(file)]) == 0
    assert {"kernel          mpi", "profile         big"} <= set(
        capsys.readouterr().out.splitlines()
    )


@pytest.mark.parametrize(
    "words",
    [["--instructor", "nobody"], ["--instructor", "ada"], ["--slots", "0"], ["--kernel", "x"],
     ["--profile", "x"]],
)  # fmt: skip
def test_what_cannot_be_leaves_everything_as_it_was(file, tmp_path, words) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("username\nzoe\n")
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    assert create(file, "--students", str(roster), *words) == 2
    after = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    assert before == after


def test_a_class_list_that_the_course_refuses_makes_no_account(file, tmp_path, capsys) -> None:
    """The instructor is on it: known only with the names of the list."""
    roster = tmp_path / "roster.csv"
    roster.write_text("username\nzoe\nines\n")

    def all_files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = all_files()
    assert create(file, "--students", str(roster)) == 2
    assert "nothing was imported" in capsys.readouterr().err
    assert all_files() == before
    assert create(file) == 0
    before = all_files()
    more = ["--students", str(roster), "--no-apply", "-f", str(file)]
    assert practicum(["course", "add-student", "hpc", *more]) == 2
    assert "ines" in capsys.readouterr().err
    assert all_files() == before


def test_students_come_and_go_and_a_course_ends(file, capsys) -> None:
    create(file)
    more = ["--no-apply", "-f", str(file)]
    assert practicum(["course", "add-student", "hpc", "ada", *more]) == 0
    assert load(file).courses[0].students == ("ada",)
    assert practicum(["course", "add-student", "hpc", "nobody", *more]) == 2
    assert practicum(["course", "add-student", "phys", "ada", *more]) == 2
    assert "no course phys" in capsys.readouterr().err
    assert practicum(["course", "remove-student", "hpc", "ben", *more]) == 2
    assert practicum(["course", "remove-student", "hpc", "ada", *more]) == 0
    assert load(file).courses[0].students == ()
    assert practicum(["course", "archive", "hpc", *more]) == 0
    assert load(file).courses[0].state == "archived"
    capsys.readouterr()
    assert practicum(["course", "list", "--json", "-f", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["courses"][0]["name"] == "hpc"
    assert practicum(["course", "show", "hpc", "-f", str(file)]) == 0
    assert "/nfs/courses/hpc" in capsys.readouterr().out


def test_text_around_a_course_stays() -> None:
    text = with_course("a = 1  # one\n", {"name": "x", "students": [f"s{n}" for n in range(9)]})
    assert text.startswith("a = 1  # one\n") and '    "s8",\n' in text
    assert 'state = "archived"' in changed(text, "x", {"state": "archived"})
    with pytest.raises(KeyError):
        changed(text, "y", {})
    assert '"s3"' not in without_person(text, "s3") and without_person(text, "zz") == text
    with pytest.raises(ValueError, match="only instructor"):
        without_person('[[courses]]\nname = "x"\ninstructors = ["i"]\n', "i")


def test_numbers_come_by_the_hundred() -> None:
    assert free_uid([]) == 50000
    assert free_uid([50000, 50250, 3000]) == 50100
    with pytest.raises(ValueError, match="all hundred"):
        free_uid(range(50000, 60000))
