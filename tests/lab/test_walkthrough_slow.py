"""The first assignment in a browser as a student does it: fetched, read, run, filled in, looked up
in the accounting, handed in; graded; and the feedback read.

Its pictures are those of docs/student.md. On a lab that is up:

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_walkthrough_slow.py
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import playing
import pytest
from courses import Course, courses
from playwright.sync_api import Browser, Locator, Page, expect
from test_browser_lab import (
    browser,  # noqa: F401 - a fixture
    shot,
    start_server,
    stop_server,
)

pytestmark = pytest.mark.slow

NAME = "1-first-job"
WAIT = 180_000  # milliseconds, on a slow machine
VIEW = {"width": 1120, "height": 760}
PICTURES = {"demo-output": "student-example", "hello-submit": "student-hello",
            "sacct-demo": "student-sacct"}  # fmt: skip


@pytest.fixture(scope="module")
def course(lab: Any, run_on: Any) -> Iterator[Course]:
    with courses(lab, run_on, ("hpc101", ["ines"], ["ada"])) as made:
        put = ["practicum", "assignment", "put", "hpc101", NAME]
        assert run_on("login", put, user="ines").returncode == 0
        made[0].teach("release", "hpc101", NAME)
        yield made[0]


def solutions() -> dict[str, str]:
    """What she types, by the cell's id."""
    found = {}
    for cell in playing.loaded(NAME).cells:
        if cell.kind == "solution":
            text = re.sub(r"### (BEGIN|END) SOLUTION\n", "", cell.text)
            found[cell.name] = text.replace("@COURSE@", "hpc101").rstrip("\n")
    return found


def test_a_student_works_through_an_assignment(lab: Any, course: Course, browser: Browser) -> None:  # noqa: F811
    page = browser.new_context(viewport=VIEW).new_page()
    page.set_default_timeout(WAIT)
    start_server(page, lab, "ada")
    fetch(page)
    work(page, lab)
    validate(page, lab)
    submit(page, lab)
    assert "1 of 1 collected" in course.teach("collect", "hpc101", NAME)
    graded = json.loads(course.teach("grade", "hpc101", NAME, "--json"))["graded"]
    assert graded[0]["score"] == 12, graded
    course.teach("give-back", "hpc101", NAME)
    read_feedback(page, lab)
    page.goto(f"{lab.hub_url}/hub/home", timeout=WAIT)
    stop_server(page)
    page.context.close()


def assignment_list(page: Page) -> None:
    page.get_by_role("menuitem", name="Nbgrader").click()
    page.get_by_role("menuitem", name="Assignment List").click()
    expect(page.locator("#released_assignments_list")).to_be_visible(timeout=WAIT)


def fetch(page: Page) -> None:
    assignment_list(page)
    released = page.locator("#released_assignments_list")
    expect(released).to_contain_text(NAME, timeout=WAIT)
    shot(page, "student-list")
    released.get_by_role("button", name="Fetch").click()
    fetched = page.locator("#fetched_assignments_list")
    expect(fetched).to_contain_text(NAME, timeout=WAIT)


def open_notebook(page: Page, lab: Any) -> None:
    path = f"hpc101/{NAME}/{NAME}.ipynb"
    page.goto(f"{lab.hub_url}/user/ada/lab/tree/{path}?reset", timeout=WAIT)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=WAIT)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=WAIT)


def work(page: Page, lab: Any) -> None:
    """From cell to cell, running each and typing into those that are to be filled in."""
    open_notebook(page, lab)
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.keyboard.press("Escape")
    typed = solutions()
    for cell in playing.loaded(NAME).cells:  # below the page that says what it is about
        page.keyboard.press("j")
        if cell.kind in ("text", "test"):
            continue
        at = page.locator(".jp-Notebook .jp-Cell.jp-mod-active")
        if cell.name in typed:
            first = cell.text.partition("### BEGIN")[0].replace("@COURSE@", "hpc101").split("\n")[1]
            expect(at).to_contain_text(first)
            if cell.name == "hello-script":
                picture(page, at, "student-exercise")
            at.locator(".cm-content").fill(typed[cell.name])
        run(page, at)
        if cell.name in PICTURES:
            picture(page, at, PICTURES[cell.name])
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0, timeout=WAIT)


def run(page: Page, at: Locator) -> None:
    """Run the cell; its keys are bound some time after it is drawn."""
    prompt = at.locator(".jp-InputPrompt")
    end = time.monotonic() + WAIT / 1000
    while prompt.inner_text().strip() == "[ ]:":
        assert time.monotonic() < end, "JupyterLab does not take Control+Enter"
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(1500)
    expect(prompt).to_have_text(re.compile(r"\[\d+\]"), timeout=WAIT)
    page.keyboard.press("Escape")


def picture(page: Page, at: Locator, name: str) -> None:
    at.evaluate("cell => cell.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(500)  # it is drawn
    shot(page, name)


def back_to_the_list(page: Page, lab: Any) -> None:
    page.goto(f"{lab.hub_url}/user/ada/lab?reset", timeout=WAIT)
    page.wait_for_selector(".jp-LauncherCard", timeout=WAIT)
    assignment_list(page)


def validate(page: Page, lab: Any) -> None:
    """She is told that this is not for what the cluster grades."""
    back_to_the_list(page, lab)
    fetched = page.locator("#fetched_assignments_list")
    fetched.get_by_text(NAME, exact=True).first.click()
    fetched.get_by_role("button", name="Validate").first.click()
    told = page.get_by_role("dialog")
    expect(told).to_contain_text("graded by the jobs that the cluster recorded", timeout=WAIT)
    shot(page, "student-validate")
    told.get_by_role("button").last.click()


def submit(page: Page, lab: Any) -> None:
    back_to_the_list(page, lab)
    fetched = page.locator("#fetched_assignments_list")
    fetched.get_by_role("button", name="Submit").click()
    expect(page.locator("#submitted_assignments_list")).to_contain_text(NAME, timeout=WAIT)
    shot(page, "student-submitted")


def read_feedback(page: Page, lab: Any) -> None:
    back_to_the_list(page, lab)
    submitted = page.locator("#submitted_assignments_list")
    submitted.get_by_role("button", name="Fetch Feedback").click()
    submitted.get_by_text("view feedback").click()
    page.locator(".jp-DirListing-item").filter(has_text=f"{NAME}.html").dblclick()
    seen = page.frame_locator("iframe").get_by_text("[ok] the state COMPLETED").first
    expect(seen).to_be_visible(timeout=WAIT)
    seen.scroll_into_view_if_needed()
    shot(page, "student-feedback")
