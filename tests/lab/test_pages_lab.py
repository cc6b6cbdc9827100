"""The hub's own pages in a browser, on a desk and on a phone: the form, the wait, its cancelling.

Screenshots are kept in test-output/screenshots, to be looked at.
"""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect
from test_browser_lab import browser, log_in, shot  # noqa: F401 - browser is a fixture

pytestmark = pytest.mark.lab


def fits(page: Page, width: int) -> None:
    """Nothing is wider than the screen."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (375, 812)])
def test_from_the_form_to_a_cancelled_wait(
    lab: Any,
    run_on: Any,
    browser: Any,  # noqa: F811
    width: int,
    height: int,
) -> None:
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    faults: list[str] = []
    memory = 300 + width // 10  # less than the profile has
    page.on("pageerror", lambda error: faults.append(str(error)))
    log_in(page, lab, "ben")
    page.wait_for_url("**/hub/**", timeout=30_000)
    page.goto(f"{lab.hub_url}/hub/spawn", timeout=30_000)
    expect(page.locator(".practicum-free").first).to_contain_text("nodes")
    if page.locator(".practicum-advanced").get_attribute("open") is None:
        page.get_by_text("Advanced").click()
    page.get_by_label("On the login node").check()
    expect(page.get_by_label("Memory in MB")).to_be_disabled()  # it is had as it is
    page.get_by_label("Medium").check()
    page.get_by_label("Memory in MB").fill(str(memory))
    shot(page, f"form-{width}")
    fits(page, width)

    closed = ["scontrol", "update", "partitionname=notebook"]
    assert run_on("login", [*closed, "state=DOWN"]).returncode == 0
    try:
        page.click("form#spawn_form [type=submit]")
        expect(page.get_by_role("status")).to_contain_text("Waiting: ", timeout=60_000)
        shot(page, f"wait-{width}")
        fits(page, width)
        page.get_by_role("button", name="Cancel").click()
        page.wait_for_url("**/hub/home", timeout=60_000)
    finally:
        assert run_on("login", [*closed, "state=UP"]).returncode == 0
    assert run_on("login", ["squeue", "-h", "-u", "ben"]).stdout == ""

    page.goto(f"{lab.hub_url}/hub/spawn", timeout=30_000)
    expect(page.get_by_label("Medium")).to_be_checked()
    expect(page.get_by_label("Memory in MB")).to_have_value(str(memory))
    assert faults == []
    page.context.close()
