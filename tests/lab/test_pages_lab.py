"""The hub's own pages in a browser, on a desk and on a phone: every page that practicum touches is
judged by axe (no serious or critical violation), and is no wider than the screen; the form and the
wait do what they say.

Screenshots are kept in test-output/screenshots, to be looked at.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect
from test_browser_lab import browser, log_in, shot  # noqa: F401 - browser is a fixture

pytestmark = pytest.mark.lab

SCREENS = [(1280, 900), (375, 812)]
WAIT = 90_000  # milliseconds for what the cluster has to do
GRAVE = {"serious", "critical"}
AXE = Axe()


@contextmanager
def screen(browser: Browser, width: int, height: int) -> Iterator[Page]:  # noqa: F811
    """A page of that size, on which no script may fail."""
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    assert faults == []
    page.context.close()


def judge(page: Page, name: str) -> None:
    """A picture, axe's verdict, and whether it fits the screen."""
    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    shot(page, f"{name}-{width}")
    found = [
        f"{item['id']} ({item['impact']}): {node['html']}"
        for item in AXE.run(page).response["violations"]
        if item["impact"] in GRAVE
        for node in item["nodes"]
    ]
    assert found == [], f"{name}, {width} pixels: {found}"
    assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def sign_in(page: Page, lab: Any, name: str) -> None:
    log_in(page, lab, name)
    page.wait_for_url(re.compile(r"/(hub/(?!login)|user/)"), timeout=WAIT)
    page.goto(f"{lab.hub_url}/hub/home", timeout=WAIT)


@contextmanager
def closed(run_on: Any) -> Iterator[None]:
    """No notebook's job starts meanwhile."""
    change = ["scontrol", "update", "partitionname=notebook"]
    assert run_on("login", [*change, "state=DOWN"]).returncode == 0
    try:
        yield
    finally:
        assert run_on("login", [*change, "state=UP"]).returncode == 0


def open_form(page: Page, lab: Any, server: str = "") -> None:
    path = f"/hub/spawn/ben/{server}" if server else "/hub/spawn"
    page.goto(f"{lab.hub_url}{path}", timeout=WAIT)
    expect(page.locator(".practicum-free").first).to_contain_text("nodes", timeout=WAIT)
    if page.locator(".practicum-advanced").get_attribute("open") is None:
        page.get_by_text("Advanced").click()


def start_and_wait(page: Page) -> None:
    """Press Start while no job can start: the page says that it waits."""
    page.click("form#spawn_form [type=submit]")
    expect(page.get_by_role("status")).to_contain_text("Waiting: ", timeout=WAIT)


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_pages_without_a_session(
    lab: Any,
    browser: Browser,  # noqa: F811
    width: int,
    height: int,
) -> None:
    with screen(browser, width, height) as page:
        page.goto(f"{lab.hub_url}/hub/login", timeout=WAIT)
        judge(page, "sign-in")
        log_in(page, lab, "ben", "not-the-password")
        expect(page.get_by_role("alert")).to_contain_text("Invalid username", timeout=WAIT)
        judge(page, "sign-in-wrong")
        log_in(page, lab, "admin")
        refusal = page.get_by_text("admins work on the cluster by SSH")
        expect(refusal).to_have_count(1, timeout=WAIT)  # said once
        judge(page, "refused")
        sign_in(page, lab, "ben")
        judge(page, "home")
        page.goto(f"{lab.hub_url}/hub/token", timeout=WAIT)
        page.wait_for_load_state("networkidle", timeout=WAIT)  # its script has bound the button
        page.get_by_role("button", name="Request new API token").click()
        expect(page.locator("#token-result")).to_be_visible(timeout=WAIT)
        page.reload()
        expect(page.get_by_role("table").first).to_be_visible(timeout=WAIT)  # wider than a phone
        judge(page, "tokens")
        page.goto(f"{lab.hub_url}/hub/admin", timeout=WAIT)
        expect(page.get_by_role("heading")).to_have_text("Not allowed")
        judge(page, "not-allowed")
        page.goto(f"{lab.hub_url}/hub/no-such-page", timeout=WAIT)
        judge(page, "no-such-page")


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_from_the_form_to_a_cancelled_wait(
    lab: Any,
    run_on: Any,
    browser: Browser,  # noqa: F811
    width: int,
    height: int,
) -> None:
    memory = 300 + width // 10  # less than the profile has
    with screen(browser, width, height) as page:
        sign_in(page, lab, "ben")
        open_form(page, lab)
        expect(page.locator(".practicum-limits")).to_contain_text("sessions at a time")
        page.get_by_label("On the login node").check()
        expect(page.get_by_label("Memory in MB")).to_be_disabled()  # it is had as it is
        page.get_by_label("Medium").check()
        page.get_by_label("Memory in MB").fill(str(memory))
        module = page.get_by_role("group", name="Modules").get_by_role("checkbox").first
        module.check()
        judge(page, "form")
        with closed(run_on):
            start_and_wait(page)
            judge(page, "wait")
            page.get_by_role("button", name="Cancel").click()
            page.wait_for_url("**/hub/home", timeout=WAIT)
        assert run_on("login", ["squeue", "-h", "-u", "ben"]).stdout == ""
        open_form(page, lab)
        expect(page.get_by_label("Medium")).to_be_checked()
        expect(page.get_by_label("Memory in MB")).to_have_value(str(memory))
        expect(module).to_be_checked()
        module.uncheck()  # not remembered for other tests
        page.get_by_label("Memory in MB").fill("")
        page.get_by_label("Small").check()
        with closed(run_on):
            start_and_wait(page)
            assert run_on("login", ["scancel", "-u", "ben"]).returncode == 0
            failure = page.locator(".practicum-failed")
            expect(failure).to_contain_text("its job was cancelled", timeout=WAIT)
            expect(page.get_by_role("link", name="Back to the profiles")).to_be_visible()
            judge(page, "failed")
        page.goto(f"{lab.hub_url}/user/ben/lab", timeout=WAIT)
        expect(page.get_by_role("heading")).to_contain_text("could not start")
        judge(page, "failed-later")


def test_scripts_that_come_late_are_waited_for(
    lab: Any,
    run_on: Any,
    browser: Browser,  # noqa: F811
) -> None:
    """A busy login node: what the home page needs comes after half a minute of the page's clock."""
    with screen(browser, 1280, 900) as page:
        log_in(page, lab, "ben")
        page.wait_for_url(re.compile(r"/hub/(?!login)"), timeout=WAIT)
        late: list[Route] = []
        # a lambda, for playwright cannot call a list's own method
        page.route("**/js/jhapi.js*", lambda route: late.append(route))  # noqa: PLW0108
        page.clock.install()
        with page.expect_request("**/js/jhapi.js*", timeout=WAIT):
            page.goto(f"{lab.hub_url}/hub/home", timeout=WAIT, wait_until="domcontentloaded")
            page.clock.run_for(1_000)  # require.js asks for its modules by a timer
        page.clock.run_for(30_000)
        page.clock.resume()
        late[0].continue_()
        page.wait_for_function("require.defined('jhapi')", timeout=WAIT)


def test_what_is_free_is_told_anew(
    lab: Any,
    run_on: Any,
    browser: Browser,  # noqa: F811
) -> None:
    """The form asks again by itself; here its clock is put forward instead of waiting."""
    with screen(browser, 1280, 900) as page:
        sign_in(page, lab, "ben")
        page.clock.install()
        open_form(page, lab)
        told = page.locator('.practicum-free[data-profile="small"]')
        expect(told).to_contain_text("nodes")
        page.route(
            "**/hub/api/practicum/free",
            lambda route: route.fulfill(body=json.dumps({"small": "Full now; 3 waiting"})),
        )
        page.clock.run_for(10_000)
        expect(told).to_have_text("Full now; 3 waiting")


def test_a_named_server_that_waits_is_cancelled_and_told_only_on_change(
    lab: Any,
    run_on: Any,
    browser: Browser,  # noqa: F811
) -> None:
    with screen(browser, 1280, 900) as page, closed(run_on):
        sign_in(page, lab, "ben")
        open_form(page, lab, "spare")
        page.get_by_label("Small").check()
        start_and_wait(page)
        expect(page.get_by_role("heading")).to_contain_text("spare")
        page.wait_for_timeout(4_000)  # two looks of the watcher: nothing new is nothing said
        page.get_by_text("All that happened").click()
        said = [
            line.split(": ", 1)[1] for line in page.locator("#progress-log li").all_inner_texts()
        ]
        assert all(one != two for one, two in itertools.pairwise(said)), said
        page.get_by_role("button", name="Cancel").click()
        page.wait_for_url("**/hub/home", timeout=WAIT)
        assert run_on("login", ["squeue", "-h", "-u", "ben"]).stdout == ""


def jobs(run_on: Any, page: Page, owners: list[str]) -> None:
    """Wait until these and no others have sessions."""
    argv = ["squeue", "-h", "-n", "practicum-hub", "-o", "%u"]
    for _try in range(120):
        rows = run_on("login", argv).stdout.split()
        if rows == owners:
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"sessions of {rows}, not of {owners}")


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_an_instructor_starts_and_stops_a_students_session(
    lab: Any,
    run_on: Any,
    browser: Browser,  # noqa: F811
    width: int,
    height: int,
) -> None:
    with screen(browser, width, height) as page:
        sign_in(page, lab, "ben")  # whoever has never signed in is not listed
    with screen(browser, width, height) as page:
        sign_in(page, lab, "ines")
        page.goto(f"{lab.hub_url}/hub/admin", timeout=WAIT)
        row = page.get_by_role("row").filter(has_text="ben").first
        expect(row).to_be_visible(timeout=WAIT)
        for name in ("Shutdown Hub", "Add Users", "Edit User"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
        judge(page, "instructor")
        row.get_by_role("button", name="Start Server").click()
        jobs(run_on, page, ["ben"])  # as the student, in the student's account
        stop = row.get_by_role("button", name="Stop Server")
        for _try in range(30):  # the page does not look again by itself
            page.reload()
            expect(row).to_be_visible(timeout=WAIT)
            if stop.count():
                break
            page.wait_for_timeout(2_000)
        stop.click(timeout=WAIT)
        jobs(run_on, page, [])
        refused = page.goto(f"{lab.hub_url}/user/ben/lab", timeout=WAIT)
        assert refused is not None and refused.status in (403, 404)
        judge(page, "instructor-refused")
