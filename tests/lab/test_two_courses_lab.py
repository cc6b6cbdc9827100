"""Two courses of two instructors, made with people who had no accounts: these log in; the one
instructor is nobody in the other's course, by command, by address and on the hub; and the class
page of one course tells how it stands."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from courses import Course, card, courses
from playwright.sync_api import Page, expect
from student import Student, no_jobs_left
from test_browser_lab import browser, log_in, shot  # noqa: F401 - browser is a fixture
from test_course_browser_lab import WAIT, grave, page_of

pytestmark = pytest.mark.lab

BAD = "#!/bin/sh\nexit 3\n"


class Two(NamedTuple):
    """``alpha`` is taught by ines, ``beta`` by ivo."""

    alpha: Course
    beta: Course
    ines: Student
    ivo: Student
    zoe: Student  # of alpha; she and ivo had no account before


@pytest.fixture(scope="module")
def two(lab: Any, run_on: Any) -> Iterator[Two]:
    made = ("alpha", ["ines"], ["ada", "zoe"]), ("beta", ["ivo"], ["ben"])
    with courses(lab, run_on, *made, more=("--profile", "teaching"), staff=("ivo",)) as both:
        alpha, beta = both
        alpha.write_assignment("ps1")
        known = {name: card(lab.cluster_toml, name) for name in ("ivo", "zoe")}
        people = [Student(lab, name, known.get(name, "")) for name in ("ines", "ivo", "zoe")]
        for name in ("ada", "ben", "cleo"):
            Student(lab, name)  # who has never signed in is not known to the hub
        yield Two(alpha, beta, *people)
        # whatever failed: a course with jobs stays in Slurm's accounting
        run_on("login", ["scancel", "-u", "zoe"])


def test_people_of_a_class_list_have_accounts_and_the_courses_profile(two: Two) -> None:
    free = two.zoe.web.get(f"{two.zoe.hub}/hub/api/practicum/free", timeout=30).json()
    assert "teaching" in free, "which is otherwise for instructors"
    form = two.zoe.web.get(f"{two.zoe.hub}/hub/spawn", timeout=30).text
    assert form.index('value="teaching" checked') < form.index('value="small"')
    assert two.alpha.shell("zoe", "id -un; id -Gn").stdout.split()[0] == "zoe"
    assert "ps1" in two.alpha.student("zoe", "list")


def test_a_grader_reaches_nothing_of_another_course(two: Two) -> None:
    grader = ["runuser", "-u", "grader-alpha", "--"]
    run = two.alpha.run_on
    script = "#!/bin/sh\ntrue\n"
    sbatch = ["/usr/bin/sbatch", "--parsable", "--chdir=/", "--output=/dev/null", "--account=beta"]
    for account in ("gradebox-beta-01", "grader-beta", "root"):
        done = run("login", [*grader, "sudo", "-n", "-u", account, *sbatch], input=script)
        assert done.returncode != 0 and "password is required" in done.stderr, (account, done)
    own = run("login", [*grader, "sudo", "-n", "-u", "gradebox-alpha-01", *sbatch], input=script)
    assert "Invalid account" in own.stderr, "its own accounts are in no other course"
    for place in ("/nfs/courses/beta", "/nfs/courses/.grading/gradebox-beta-01",
                  "/nfs/courses/beta/gradebook.db"):  # fmt: skip
        done = run("login", [*grader, "ls", place])
        assert "Permission denied" in done.stderr, done
    assert run("login", [*grader, "ls", "/nfs/courses/alpha"]).returncode == 0


def test_an_instructor_of_one_course_commands_nothing_in_another(two: Two) -> None:
    for course, stranger in ((two.beta, "ines"), (two.alpha, "ivo")):
        name = course.name
        for words in (("release", name, "ps1"), ("collect", name, "ps1"), ("grade", name, "ps1"),
                      ("extend", name, "ps1", "ada", "2030-01-01T00:00"), ("grades", name),
                      ("give-back", name, "ps1")):  # fmt: skip
            assert f"you do not teach {name}" in course.teach(*words, who=stranger, expect=1)
        become = f"sudo -n -u grader-{name} id || sudo -n -u gradebox-{name}-01 id"
        assert course.shell(stranger, become, node="login", expect=None).returncode != 0
        assert "not in a course" in course.student(stranger, "fetch", name, "ps1", expect=1)


def test_an_instructor_of_one_course_sees_no_page_of_another(two: Two) -> None:
    for own, who in ((two.alpha, two.ines), (two.beta, two.ivo)):
        home = who.web.get(f"{who.hub}/hub/home", timeout=30).text
        assert f"/services/formgrader-{own.name}/class" in home
        for course in (two.alpha, two.beta):
            place = f"{who.hub}/services/formgrader-{course.name}"
            wanted = 200 if course is own else 403
            for path in ("class", "class/data", "formgrader/manage_assignments", "grading/ps1",
                         "api/contents"):  # fmt: skip
                answer = who.web.get(f"{place}/{path}", timeout=60)
                assert answer.status_code == wanted, (who.name, course.name, path)
            assert (f"formgrader-{course.name}" in home) == (course is own)
    zoe = two.zoe
    for path in ("class", "class/data"):
        answer = zoe.web.get(f"{zoe.hub}/services/formgrader-alpha/{path}", timeout=60)
        assert answer.status_code == 403
    assert "/class" not in zoe.web.get(f"{zoe.hub}/hub/home", timeout=30).text


def test_an_instructor_has_no_session_of_anothers_students(two: Two) -> None:
    def listed(who: Student) -> set[str]:
        found = who.web.get(f"{who.hub}/hub/api/users", params=who.xsrf, timeout=30).json()
        return {one["name"] for one in found}

    assert listed(two.ines) - {"ines"} == {"ada", "zoe", "cleo"}
    assert listed(two.ivo) - {"ivo"} == {"ben", "cleo"}
    for who, theirs in ((two.ines, "ben"), (two.ivo, "zoe"), (two.ivo, "ada"), (two.ivo, "ines")):
        for method in ("POST", "DELETE"):
            url = f"{who.hub}/hub/api/users/{theirs}/server"
            answer = who.web.request(method, url, params=who.xsrf, timeout=30)
            assert answer.status_code in (403, 404), (who.name, method, theirs)
    mine = two.ines.web.get(f"{two.ines.hub}/hub/api/users/ada", params=two.ines.xsrf, timeout=30)
    assert mine.status_code == 200


def row(page: Page, table: str, student: str) -> Any:
    return page.get_by_role("region", name=table).get_by_role("row").filter(has_text=student)


def test_the_class_page_tells_how_the_class_stands(
    lab: Any,
    two: Two,
    browser: Any,  # noqa: F811
) -> None:
    """Reached from the home page; then ada fails a job, one of zoe's waits; ada hands in and is graded,
    while the page is open."""
    page = page_of(browser)
    log_in(page, lab, "ines")
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"))
    page.goto(f"{lab.hub_url}/hub/home", timeout=WAIT)
    assert grave(page) == []
    page.get_by_role("link", name="the class of alpha").click()
    expect(page.get_by_role("heading", name="alpha: class")).to_be_visible(timeout=WAIT)
    expect(row(page, "ps1", "ada").get_by_role("cell")).to_have_text(["no"] * 4, timeout=WAIT)
    name = f"first-{secrets.token_hex(3)}"  # accounting remembers an earlier run on the same lab
    expect(row(page, "Jobs", "ada")).not_to_contain_text(name)

    sbatch = f"sbatch --account=alpha --time=30 --mem=50 --job-name={name}"
    two.alpha.run_on("node01", ["bash", "-c", f"cd; {sbatch}"], user="ada", input=BAD)
    # one runs, one waits for it, and one may not start yet
    more = (
        f"cd; job=$({sbatch} --parsable --wrap='sleep 1500'); {sbatch} -d afterok:$job --wrap=true; "
        f"{sbatch} --hold --wrap=true"
    )
    two.alpha.shell("zoe", more)
    # the end of a job takes along what else its owner runs on that node
    no_jobs_left(two.alpha.run_on, "ada")
    two.alpha.student("ada", "fetch", "alpha", "ps1")
    two.alpha.shell(
        "ada", "sed -i 's/raise NotImplementedError()/return x * x/' ~/alpha/ps1/*.ipynb"
    )
    two.alpha.student("ada", "submit", "alpha", "ps1")
    ada = row(page, "ps1", "ada").get_by_role("cell")
    expect(ada.nth(0)).not_to_have_text("no", timeout=WAIT)  # nobody has loaded it anew
    expect(ada.nth(1)).not_to_have_text("no", timeout=WAIT)
    expect(ada.nth(2)).to_have_text("no")
    expect(page.get_by_text("1 of 2 handed in")).to_be_visible()
    failed = re.compile(rf"FAILED \d+; last: \d+ {name}")
    expect(row(page, "Jobs", "ada")).to_contain_text(failed, timeout=WAIT)
    expect(row(page, "Jobs", "zoe").get_by_role("cell").nth(0)).to_have_text("2", timeout=WAIT)
    expect(row(page, "Jobs", "zoe").get_by_role("cell").nth(1)).to_have_text("1", timeout=WAIT)
    two.alpha.run_on("login", ["scancel", "-u", "zoe"])
    no_jobs_left(two.alpha.run_on, "zoe")
    two.alpha.teach("collect", "alpha", "ps1")
    two.alpha.teach("grade", "alpha", "ps1")
    expect(ada.nth(2)).to_have_text("2", timeout=WAIT)
    two.alpha.teach("give-back", "alpha", "ps1")
    expect(ada.nth(3)).to_have_text("given back", timeout=WAIT)
    expect(row(page, "ps1", "zoe").get_by_role("cell")).to_have_text(["no"] * 4)
    shot(page, "class-standing")
    assert grave(page) == []
    page.context.close()
