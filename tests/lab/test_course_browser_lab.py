"""A course in the browser: students fetch, hand in and read feedback by JupyterLab's assignment
list; the instructor sees formgrader and the class page, and nobody else does.

Screenshots are kept in test-output/screenshots, to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from courses import Course, courses
from playwright.sync_api import Browser, Page, expect
from test_browser_lab import (
    browser,  # noqa: F401 - a fixture
    log_in,
    shot,
    start_server,
    stop_server,
)

pytestmark = pytest.mark.lab

WAIT = 120_000  # milliseconds, on a slow machine
GRADER = "/services/formgrader-hpc101"


@pytest.fixture(scope="module")
def hpc(lab: Any, run_on: Any) -> Iterator[Course]:
    with courses(lab, run_on, ("hpc101", ["ines"], ["ada"]), ("phys", ["ines"], ["ben"])) as made:
        made[0].write_assignment("ps1")
        yield made[0]


def page_of(browser: Browser, width: int = 1280) -> Page:  # noqa: F811
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.set_default_timeout(WAIT)
    return page


def test_a_student_works_by_the_assignment_list(lab: Any, hpc: Course, browser: Any) -> None:  # noqa: F811
    page = page_of(browser)
    start_server(page, lab, "ada")
    page.get_by_role("menuitem", name="Nbgrader").click()
    page.get_by_role("menuitem", name="Assignment List").click()
    released = page.locator("#released_assignments_list")
    expect(released).to_contain_text("ps1", timeout=WAIT)
    shot(page, "course-released")
    released.get_by_role("button", name="Fetch").click()
    fetched = page.locator("#fetched_assignments_list")
    expect(fetched).to_contain_text("ps1", timeout=WAIT)
    fetched.get_by_role("button", name="Submit").click()
    submitted = page.locator("#submitted_assignments_list")
    expect(submitted).to_contain_text("ps1", timeout=WAIT)
    shot(page, "course-submitted")
    assert len(hpc.listed("ada")["submissions"]) == 1
    page.goto(f"{lab.hub_url}/hub/home", timeout=WAIT)
    stop_server(page)
    page.context.close()


@pytest.mark.parametrize("width", [1280, 375])
def test_the_instructor_sees_the_class_and_formgrader(
    lab: Any,
    hpc: Course,
    browser: Any,  # noqa: F811
    width: int,
) -> None:
    page = page_of(browser, width)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    log_in(page, lab, "ines")
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"))
    page.goto(f"{lab.hub_url}{GRADER}/class", timeout=WAIT)
    expect(page.get_by_role("heading", name="hpc101: class")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("heading", name="ps1")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("status")).to_contain_text("As of")
    shot(page, f"class-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults == []
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/manage_assignments", timeout=WAIT)
    expect(page.locator("table")).to_contain_text("ps1", timeout=WAIT)
    shot(page, f"formgrader-{width}")
    page.context.close()


def test_the_next_term_gets_what_was_written_and_nothing_of_students(hpc: Course) -> None:
    said = hpc.teach("copy", "hpc101", "phys")
    assert "ps1 is in /nfs/courses/phys/source/ps1" in said
    here, there = (f"/nfs/courses/{name}/source/ps1/ps1.ipynb" for name in ("hpc101", "phys"))
    assert hpc.run_on("login", ["cmp", here, there]).returncode == 0
    made = hpc.run_on("login", ["ls", "/nfs/courses/phys"]).stdout.split()
    assert "submitted" not in made and "gradebook.db" not in made
    assert hpc.run_on("login", ["ls", "/nfs/courses/phys/exchange/outbound"]).stdout == ""
    assert "you do not teach" in hpc.teach("copy", "hpc101", "phys", who="ben", expect=1)


@pytest.mark.parametrize("who", ["ada", "ben"])
def test_a_student_sees_neither(lab: Any, hpc: Course, browser: Any, who: str) -> None:  # noqa: F811
    page = page_of(browser)
    log_in(page, lab, who)
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"))
    for path in ("class", "class/data", "formgrader/manage_assignments", "grading/ps1", "lab",
                 "api/contents"):  # fmt: skip
        answer = page.goto(f"{lab.hub_url}{GRADER}/{path}", timeout=WAIT)
        assert answer is not None and answer.status == 403, (path, page.content()[:2000])
        assert "ps1" not in page.content()
    page.context.close()
