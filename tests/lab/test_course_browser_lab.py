"""A course in the browser: students fetch, hand in and read feedback by JupyterLab's assignment
list; the instructor grades by formgrader's button and sees the class page, and nobody else does.
The whole of a course, with three students in browsers, is in test_whole_course_slow.py.

Screenshots are kept in test-output/screenshots, to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
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


# links are named a moment after stock's script has made them
ALL_NAMED = """Array.from(document.querySelectorAll("#main-table a")).every(
    link => link.textContent.trim() || link.getAttribute("aria-label"))"""
COURSE = "/nfs/courses/hpc101"
FORMGRADER = ("manage_assignments", "manage_submissions/ps1", "gradebook", "gradebook/ps1",
              "gradebook/ps1/ps1", "manage_students", "manage_students/ada",
              "manage_students/ada/ps1")  # fmt: skip
EVIL = "<p id=said>quiet</p><script>document.getElementById('said').textContent = 'loud'</script>"
MARK = f"open('{COURSE}/was-run', 'w').close()"
# Stock nbgrader, run as the grader: what it makes of a name, and of formgrader?path=FOLDER
STOCK_PAGE = """
import os, jinja2
from nbgrader.server_extensions.formgrader import handlers
pages = jinja2.Environment(loader=jinja2.FileSystemLoader([handlers.template_path]))
print(pages.get_template("manage_submissions.tpl").render(assignment_id='";evil();"'))
"""
STOCK_PATH = """
from nbgrader.server_extensions.formgrader.formgrader import FormgradeExtension
FormgradeExtension().initialize([], root="/tmp/of-a-student")
"""


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
    page.get_by_role("link", name="The class at a glance").click()
    expect(page.get_by_role("heading", name="hpc101: class")).to_be_visible(timeout=WAIT)
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


def grave(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def formgrader_violations(page: Page, lab: Any) -> list[str]:
    """Of stock's pages as practicum serves them; a submission's and a dialog, too."""
    found: list[str] = []

    def judge(name: str) -> None:
        shot(page, "formgrader-" + name.replace("/", "-"))
        found.extend(f"{name}: {one}" for one in grave(page))

    for path in FORMGRADER:
        page.goto(f"{lab.hub_url}{GRADER}/formgrader/{path}", timeout=WAIT)
        table = page.locator("#main-table")
        expect(table).not_to_contain_text("Loading", timeout=WAIT)
        expect(table.locator("a").first).to_be_visible(timeout=WAIT)
        page.wait_for_function(ALL_NAMED, timeout=WAIT)
        judge(path)
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/gradebook/ps1/ps1", timeout=WAIT)
    page.locator("#main-table a:visible").first.click(timeout=WAIT)
    expect(page.get_by_label("Score of test_square")).to_be_visible(timeout=WAIT)
    expect(page.get_by_label("Comment on square")).to_be_visible(timeout=WAIT)
    judge("submission")
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/manage_assignments", timeout=WAIT)
    page.get_by_role("link", name="Edit: ps1").click(timeout=WAIT)
    expect(page.get_by_label("Due date (optional)")).to_be_visible(timeout=WAIT)
    for part, whole in ((".modal", "1"), (".modal-backdrop", "0.5")):  # once it has come up
        expect(page.locator(part)).to_have_css("opacity", whole, timeout=WAIT)
    judge("dialog")
    return found


def test_the_button_grades_on_the_cluster_and_feedback_is_given_back(
    lab: Any,
    hpc: Course,
    browser: Any,  # noqa: F811
) -> None:
    hpc.shell("ada", "rm -rf ~/hpc101")
    hpc.student("ada", "fetch", "hpc101", "ps1")
    hpc.shell("ada", "sed -i 's/raise NotImplementedError()/return x * x/' ~/hpc101/ps1/*.ipynb")
    hpc.run_on("node01", ["tee", "/home/ada/hpc101/ps1/page.html"], user="ada", input=EVIL)
    hpc.student("ada", "submit", "hpc101", "ps1")
    hpc.teach("collect", "hpc101", "ps1")
    page = page_of(browser)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    log_in(page, lab, "ines")
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"))
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/manage_submissions/ps1", timeout=WAIT)
    expect(page.locator("#main-table")).to_contain_text("needs autograding", timeout=WAIT)
    shot(page, "formgrader-to-grade")
    page.get_by_role("button", name="Grade what is new").click()
    expect(page.get_by_role("heading", name="Grading ps1")).to_be_visible(timeout=WAIT)
    assert grave(page) == []
    row = page.get_by_role("row").filter(has_text="ada")
    expect(row).to_contain_text("2 of 2", timeout=WAIT)
    expect(page.get_by_role("status")).to_contain_text("Nothing is being graded", timeout=WAIT)
    for width in (375, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        shot(page, f"grading-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert grave(page) == []
    page.get_by_role("link", name="Back to formgrader").click()
    expect(page.locator("#main-table")).to_contain_text("graded", timeout=WAIT)
    page.locator("td.autograde a").first.click()  # one again
    page.get_by_role("link", name="How it goes").click()
    expect(page.get_by_role("status")).to_contain_text("Nothing is being graded", timeout=WAIT)
    expect(row).to_contain_text("2 of 2", timeout=WAIT)
    assert formgrader_violations(page, lab) == []
    assert faults == []

    # what was handed in beside the notebook is shown, and runs nothing
    answer = page.request.get(f"{lab.hub_url}{GRADER}/formgrader/api/submitted_notebooks/ps1/ps1")
    assert "sandbox" in answer.headers["content-security-policy"]
    number = answer.json()[0]["id"]
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/submissions/{number}/page.html", timeout=WAIT)
    expect(page.locator("#said")).to_have_text("quiet", timeout=WAIT)
    page.context.close()
    hpc.teach("give-back", "hpc101", "ps1")
    hpc.student("ada", "feedback", "hpc101", "ps1")
    assert "test_square" in hpc.shell("ada", "cat ~/hpc101/ps1/feedback/*/ps1.html").stdout


def test_a_link_runs_nothing_in_formgrader(lab: Any, hpc: Course, browser: Any) -> None:  # noqa: F811
    """An instructor opens a link that a student sent. Stock runs what it says, by what it says
    and where its sender likes."""
    hpc.shell("ada", "mkdir -p -m 755 /tmp/of-a-student", node="login")
    hpc.run_on("login", ["tee", "/tmp/of-a-student/nbgrader_config.py"], user="ada", input=MARK)
    grader = ["runuser", "-u", "grader-hpc101", "--", "env", "-C", COURSE, f"HOME={COURSE}"]
    python = "/nfs/envs/coursework/current/bin/python"
    mark = ["rm", f"{COURSE}/was-run"]
    stock = hpc.run_on("login", [*grader, python, "-c", STOCK_PAGE])
    assert 'var assignment_id = "";evil();"";' in stock.stdout, stock.stderr
    stock = hpc.run_on("login", [*grader, python, "-c", STOCK_PATH])
    assert hpc.run_on("login", mark).returncode == 0, stock.stderr

    page = page_of(browser)
    log_in(page, lab, "ines")
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"))
    page.goto(f"{lab.hub_url}{GRADER}/formgrader/manage_assignments", timeout=WAIT)
    name = "%22;document.title='evil';%22"
    for path in (f"manage_submissions/{name}", f"gradebook/{name}", f"gradebook/ps1/{name}",
                 f"manage_students/{name}", f"api/assignment/{name}"):  # fmt: skip
        answer = page.request.get(f"{lab.hub_url}{GRADER}/formgrader/{path}", timeout=WAIT)
        assert answer.status == 404, path
        assert "document.title" not in answer.text()
    # formgrader's unit has a /tmp of its own
    hpc.shell("ada", "cp -r /tmp/of-a-student ~ && chmod 755 ~ ~/of-a-student", node="login")
    for folder in ("/home/ada/of-a-student", COURSE):
        page.goto(f"{lab.hub_url}{GRADER}/formgrader?path={folder}", timeout=WAIT)
        page.wait_for_url(re.compile("/formgrader/manage_assignments$"), timeout=WAIT)
        expect(page.locator("table")).to_contain_text("ps1", timeout=WAIT)
    page.context.close()
    assert hpc.run_on("login", mark).returncode != 0
    hpc.shell("ada", "chmod 700 ~; rm -r ~/of-a-student /tmp/of-a-student", node="login")


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
