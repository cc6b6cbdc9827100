"""A whole course in browsers: made, handed out, worked on by three students, one late and one with
more time, graded by the button and by the command, given back, read, exported; a second course and
its instructor beside it.

Three JupyterLabs at once, so this is no part of `make test`: test_course_browser_lab.py has the
same steps for one student. On a lab that is up (PRACTICUM_LAB=NAME):

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_whole_course_slow.py
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tomlkit
from courses import Course, apply, courses
from playwright.sync_api import Page, expect
from test_browser_lab import log_in, shot, start_server, stop_server
from test_course_browser_lab import GRADER, WAIT, browser, grave, page_of
from waiting import until

pytestmark = pytest.mark.slow
__all__ = ["browser"]

STUDENTS = ("ada", "ben", "cleo")
SECRET = "of-ivos-own-7241"
ZERO_WHEN_LATE = 'c = get_config()\nc.LateSubmissionPlugin.penalty_method = "zero"\n'


@pytest.fixture
def ivo(lab: Any, run_on: Any) -> Iterator[str]:
    """A second instructor, once applied."""
    before = lab.cluster_toml.read_text()
    described = tomlkit.parse(before)
    person = tomlkit.table()
    person.update({"name": "ivo", "uid": 2290, "groups": ["instructors"]})
    described["users"].append(person)  # type: ignore[union-attr]
    lab.cluster_toml.write_text(tomlkit.dumps(described))
    yield "ivo"
    lab.cluster_toml.write_text(before)
    apply(lab.cluster_toml)
    for node in lab.nodes:
        run_on(node.name, ["userdel", "--remove", "ivo"])


@pytest.fixture
def two(lab: Any, run_on: Any, ivo: str) -> Iterator[tuple[Course, Course]]:
    with courses(
        lab, run_on, ("hpc101", ["ines"], list(STUDENTS)), ("phys", [ivo], ["ben"])
    ) as made:
        run_on("login", ["chpasswd"], input=f"{ivo}:{SECRET}\n")
        yield made[0], made[1]


def assignments(page: Page) -> None:
    """The assignment list, as it is now."""
    page.get_by_role("menuitem", name="Nbgrader").click()
    page.get_by_role("menuitem", name="Assignment List").click()


def fetch(page: Page) -> None:
    assignments(page)
    released = page.locator("#released_assignments_list")
    released.get_by_role("button", name="Fetch").click(timeout=WAIT)
    expect(page.locator("#fetched_assignments_list")).to_contain_text("ps1", timeout=WAIT)


def work(page: Page, lab: Any, course: Course, who: str) -> None:
    """Open the notebook, write the answer, save."""
    page.goto(f"{lab.hub_url}/user/{who}/lab/tree/hpc101/ps1/ps1.ipynb?reset", timeout=WAIT)
    cells = page.locator(".jp-Notebook .jp-Cell .cm-content")
    cells.filter(has_text="NotImplementedError").fill("def square(x):\n    return x * x")
    shot(page, f"whole-{who}-works")

    def saved() -> bool:
        page.keyboard.press("Control+S")
        page.wait_for_timeout(1000)
        book = course.shell(who, "cat ~/hpc101/ps1/ps1.ipynb", node="login").stdout
        return "return x * x" in book

    until(saved)


def submit(page: Page, lab: Any, who: str) -> None:
    page.goto(f"{lab.hub_url}/user/{who}/lab?reset", timeout=WAIT)
    assignments(page)
    page.locator("#fetched_assignments_list").get_by_role("button", name="Submit").click(
        timeout=WAIT
    )
    expect(page.locator("#submitted_assignments_list")).to_contain_text("ps1", timeout=WAIT)


def read_feedback(page: Page, lab: Any, course: Course, who: str) -> None:
    page.goto(f"{lab.hub_url}/user/{who}/lab?reset", timeout=WAIT)
    assignments(page)
    mine = page.locator("#submitted_assignments_list")
    expect(mine).to_contain_text("feedback available to fetch", timeout=WAIT)
    mine.get_by_role("button", name="Fetch Feedback").click()
    mine.get_by_text("view feedback").click(timeout=WAIT)
    shown = page.locator(".jp-DirListing-item").filter(has_text="ps1.html")
    expect(shown).to_be_visible(timeout=WAIT)
    shot(page, f"whole-{who}-feedback")
    found = course.shell(
        who, "cd && ls hpc101/ps1/feedback/*/ps1.html", node="login"
    ).stdout.strip()
    page.goto(f"{lab.hub_url}/user/{who}/files/{found}", timeout=WAIT)
    expect(page.locator("body")).to_contain_text("test_square", timeout=WAIT)


def click_and_close(page: Page, cell: str) -> None:
    """An icon of formgrader's table, and what it says."""
    page.locator(f"td.{cell} a").first.click(timeout=WAIT)
    said = page.locator("#success-modal")
    expect(said).to_contain_text("Success", timeout=WAIT)
    page.reload(timeout=WAIT)
    expect(page.locator("#main-table")).to_contain_text("ps1", timeout=WAIT)


def graded(page: Page, lab: Any, who: str) -> None:
    """By the button, until it is done."""
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/manage_submissions/ps1", timeout=WAIT)
    expect(page.locator("#main-table")).to_contain_text("needs autograding", timeout=WAIT)
    page.get_by_role("button", name="Grade what is new").click()
    row = page.get_by_role("row").filter(has_text=who)
    expect(row).to_contain_text("2 of 2", timeout=WAIT)
    expect(page.get_by_role("status")).to_contain_text("Nothing is being graded", timeout=WAIT)


def signed_in(browser: Any, lab: Any, who: str, secret: str | None = None) -> Page:
    page = page_of(browser)
    log_in(page, lab, who, secret)
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"))
    return page


def manage(page: Page, lab: Any) -> None:
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/manage_assignments", timeout=WAIT)
    expect(page.locator("#main-table")).to_contain_text("ps1", timeout=WAIT)


def test_a_whole_course(lab: Any, two: tuple[Course, Course], browser: Any) -> None:
    hpc, phys = two
    # the instructor's own words for late work, in the course folder
    own = "/nfs/courses/hpc101/nbgrader_config.py"
    hpc.run_on("login", ["runuser", "-u", "grader-hpc101", "--", "tee", own], input=ZERO_WHEN_LATE)
    hpc.write_source("ps1")
    ines = signed_in(browser, lab, "ines")
    manage(ines, lab)
    click_and_close(ines, "assign")
    click_and_close(ines, "release")
    expect(ines.locator("#main-table")).to_contain_text("released", timeout=WAIT)

    pages = {who: page_of(browser) for who in STUDENTS}
    for who, page in pages.items():
        start_server(page, lab, who)
        fetch(page)
        work(page, lab, hpc, who)
    handed_in(pages, lab, hpc)

    # ada's by the button, the others' by the command
    manage(ines, lab)
    click_and_close(ines, "collect")
    told = hpc.teach("grade", "hpc101", "ps1", "--student", "ben", "--student", "cleo")
    assert "2 graded" in told
    graded(ines, lab, "ada")
    manage(ines, lab)
    click_and_close(ines, "generate-feedback")
    click_and_close(ines, "release-feedback")
    for who, page in pages.items():
        read_feedback(page, lab, hpc, who)
    nobody_reads_adas(pages["ben"], lab, hpc)
    exported(hpc)

    ines.goto(f"{lab.hub_url}{GRADER}/class", timeout=WAIT)
    expect(ines.get_by_role("heading", name="ps1")).to_be_visible(timeout=WAIT)
    for who in STUDENTS:
        expect(ines.get_by_role("row").filter(has_text=who).first).to_be_visible(timeout=WAIT)
    shot(ines, "whole-class")
    assert grave(ines) == []
    the_other_course(ines, signed_in(browser, lab, "ivo", SECRET), lab, hpc, phys)
    for page in pages.values():
        page.goto(f"{lab.hub_url}/hub/home", timeout=WAIT)
        stop_server(page)
        page.context.close()


def handed_in(pages: dict[str, Page], lab: Any, hpc: Course) -> None:
    """ada in time; ben late; cleo as late, with more time."""
    submit(pages["ada"], lab, "ada")
    now = datetime.now(UTC)
    hpc.teach("due", "hpc101", "ps1", now.isoformat())
    hpc.teach("extend", "hpc101", "ps1", "cleo", (now + timedelta(days=1)).isoformat())
    for who in ("ben", "cleo"):
        submit(pages[who], lab, who)
    late = {who: hpc.listed(who)["submissions"][-1]["late_seconds"] for who in STUDENTS}
    assert late["ada"] == late["cleo"] == 0 < late["ben"], late


def nobody_reads_adas(ben: Page, lab: Any, hpc: Course) -> None:
    """Neither as a file, nor in the exchange, nor by the browser."""
    mine = hpc.shell("ada", "cd && ls hpc101/ps1/feedback/*/ps1.html", node="login").stdout.strip()
    for tried in (f"cat /home/ada/{mine}", "ls /nfs/courses/hpc101/exchange/feedback"):
        assert hpc.shell("ben", tried, node="login", expect=None).returncode != 0
    ben.goto(f"{lab.hub_url}/user/ada/files/{mine}", timeout=WAIT)
    assert "test_square" not in ben.content()


def exported(hpc: Course) -> None:
    lines = hpc.teach("grades", "hpc101").splitlines()
    rows = {row["student_id"]: row for row in csv.DictReader(lines)}
    assert {who: float(rows[who]["score"]) for who in STUDENTS} == {"ada": 2, "ben": 0, "cleo": 2}
    assert float(rows["ben"]["raw_score"]) == float(rows["ben"]["late_submission_penalty"]) == 2


def the_other_course(ines: Page, ivo: Page, lab: Any, hpc: Course, phys: Course) -> None:
    """Who teaches the one is nobody in the other."""
    for path in ("class", "class/data", "formgrader/manage_assignments", "grading/ps1"):
        answer = ivo.goto(f"{lab.hub_url}{GRADER}/{path}", timeout=WAIT)
        assert answer is not None and answer.status == 403, path
    theirs = f"{lab.hub_url}/services/formgrader-phys"
    answer = ivo.goto(f"{theirs}/formgrader/manage_assignments", timeout=WAIT)
    assert answer is not None and answer.status == 200
    assert "ps1" not in ivo.locator("#main-table").inner_text(timeout=WAIT)
    assert "you do not teach" in hpc.teach("grades", "hpc101", who="ivo", expect=1)
    assert phys.teach("grades", "phys", who="ivo").startswith("assignment,")
    answer = ines.goto(f"{theirs}/class", timeout=WAIT)
    assert answer is not None and answer.status == 403
