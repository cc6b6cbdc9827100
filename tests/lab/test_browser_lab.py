"""The main job, as a student does it: Debian's Chromium against a real lab.

Screenshots are kept in test-output/screenshots, to be looked at.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import story
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from waiting import until

pytestmark = pytest.mark.lab

SHOTS = Path(__file__).parents[2] / "test-output" / "screenshots"
START = 180_000  # milliseconds a server may take on a busy two-core machine
CELL = 60_000

MPI_JOB = r"""
import pathlib, subprocess, textwrap
home = pathlib.Path.home()
(home / "hello.c").write_text(textwrap.dedent('''
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
  int rank, size, length; char name[MPI_MAX_PROCESSOR_NAME];
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank); MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Get_processor_name(name, &length);
  int sum = 0; MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  printf("rank %d of %d on %s sum %d\\n", rank, size, name, sum);
  MPI_Finalize(); return 0; }
'''))
(home / "hello.sh").write_text('''#!/bin/bash
#SBATCH --job-name=hello-mpi --nodes=2 --ntasks-per-node=2 --time=00:05:00 --output=hello.out
srun ./hello
''')
job = subprocess.run("cd && mpicc -o hello hello.c && sbatch --wait hello.sh; echo ended $?; cat hello.out",
                     shell=True, capture_output=True, text=True, timeout=120)
print(job.stdout, job.stderr)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Debian's chromium is missing: `make prepare` installs it"
    with sync_playwright() as driver:
        chrome = driver.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield chrome
        chrome.close()


def password(lab, name: str) -> str:
    return next(account.password for account in lab.accounts if account.name == name)


def shot(page: Page, name: str) -> None:
    """A picture for people. Chromium on a busy machine now and then has no frame to give, and
    has one when asked again."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for last in (False, False, False, True):
        try:
            page.screenshot(path=SHOTS / f"{name}.png")
        except PlaywrightError as error:
            if last or "Unable to capture screenshot" not in error.message:
                raise
            page.wait_for_timeout(1000)
        else:
            return


def log_in(page: Page, lab, name: str, secret: str | None = None) -> None:
    page.goto(f"{lab.hub_url}/hub/login", timeout=30_000)
    page.fill("#username_input", name)
    page.fill("#password_input", secret or password(lab, name))
    page.click("#login_submit")


def stop_server(page: Page) -> None:
    """On the hub's home page, once JupyterHub's scripts have bound its buttons."""
    page.wait_for_load_state("networkidle", timeout=30_000)
    page.click("#stop")
    expect(page.locator("#start")).to_have_text(re.compile("Start My Server"), timeout=60_000)


def start_server(
    page: Page, lab, name: str, when_waiting: Callable[[], object] | None = None
) -> list[str]:
    """From the log-in to JupyterLab; returns what the page said while it started.

    ``when_waiting`` is called once, when the page says that the job waits.
    """
    log_in(page, lab, name)
    page.goto(f"{lab.hub_url}/hub/home", timeout=30_000)
    if page.locator("#stop").is_visible():  # left by an earlier run on the same lab
        stop_server(page)
    page.goto(f"{lab.hub_url}/hub/spawn", timeout=30_000)
    if page.locator("form#spawn_form").count():
        shot(page, f"{name}-profiles")
        # an earlier test's choice may be remembered, of the login node too
        page.check('input[name="profile"][value="small"]')
        page.click("form#spawn_form [type=submit]")
    said: list[str] = []
    end = time.monotonic() + START / 1000
    while time.monotonic() < end and "/lab" not in page.url:
        line = page.locator("#progress-message")
        try:
            text = line.inner_text(timeout=500) if line.count() else ""
        except Exception as error:  # noqa: BLE001 - the page navigates away under us when ready
            assert "Timeout" in str(error) or "destroyed" in str(error), error
            text = ""
        if text and (not said or said[-1] != text):
            said.append(text)
            shot(page, f"{name}-wait-{len(said)}")
        if when_waiting and text.startswith("Waiting"):
            when_waiting()
            when_waiting = None
        page.wait_for_timeout(100)
    page.wait_for_url(re.compile(r"/user/[^/]+/lab"), timeout=START)
    fresh_lab(page)
    return said


def fresh_lab(page: Page) -> None:
    """JupyterLab with its launcher; it restores what was open otherwise."""
    page.goto(re.sub(r"/lab.*", "/lab?reset", page.url), timeout=START)
    page.wait_for_selector(".jp-LauncherCard", timeout=START)


def notebook(page: Page, card: str = "") -> None:
    """A new notebook that runs what is typed: JupyterLab drops what is run before its kernel is
    connected and its keys are bound. ``card``: what its card in the launcher says, if not the first.

    Where the page does not come that far in its time, it is loaded once more, as a person would;
    a picture of it is kept.
    """
    for last in (False, True):
        try:
            cards = page.locator('.jp-LauncherCard[data-category="Notebook"]')
            cards.filter(has_text=card).first.click(timeout=CELL)
            page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content", timeout=CELL)
            ready = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
            page.wait_for_selector(ready, timeout=2 * CELL)
            assert "42" in run_cell(page, "6 * 7")
        except PlaywrightTimeout:
            shot(page, "notebook-late")
            if last:
                raise
            fresh_lab(page)
        else:
            return


def run_cell(page: Page, code: str) -> str:
    """Type into the last cell, run it, and return its output as text."""
    index = page.locator(".jp-Notebook .jp-Cell").count() - 1
    done = page.locator(".jp-Notebook .jp-Cell").nth(index)
    text, prompt = done.locator(".cm-content"), done.locator(".jp-InputPrompt")
    text.fill(code)
    end = time.monotonic() + 2 * CELL / 1000
    while prompt.inner_text().strip() == "[ ]:":
        # its keys are bound some time after it is drawn, and a new notebook that comes from the
        # server only then takes away what was typed (seen on a busy machine)
        if time.monotonic() > end:
            shot(page, "keys-not-taken")
            raise PlaywrightTimeout("JupyterLab does not take Shift+Enter")
        if not text.inner_text().strip():
            text.fill(code)
        text.press("Shift+Enter")
        page.wait_for_timeout(1500)
    expect(prompt).to_have_text(re.compile(r"\[\d+\]"), timeout=3 * CELL)
    output = done.locator(".jp-OutputArea-output")
    return output.all_inner_texts()[0].strip() if output.count() else ""


def squeue(run_on, user: str) -> list[tuple[str, str, str]]:
    done = run_on("login", ["squeue", "-h", "-u", user, "-o", "%i|%j|%N"])
    return [tuple(line.split("|")) for line in done.stdout.splitlines()]


def test_wrong_password_is_said_in_the_page(lab, browser: Browser) -> None:
    page = browser.new_context().new_page()
    log_in(page, lab, "ada", "not-the-password")
    expect(page.get_by_text("Invalid username or password")).to_be_visible()
    shot(page, "wrong-password")
    page.context.close()


def test_two_students_from_the_browser_to_two_node_jobs(lab, run_on, browser: Browser) -> None:
    ada = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    ben = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    said = _wait_is_told(ada, lab, run_on)
    assert any(line.startswith("Waiting") for line in said), said
    start_server(ben, lab, "ben")
    shot(ada, "jupyterlab")

    _modules_of_the_tab(ada)
    notebook(ada)
    where = run_cell(
        ada, "import os, socket; print(socket.gethostname(), os.environ['SLURM_JOB_ID'])"
    )
    host, job = where.split()
    assert host.startswith("node")
    jobs = squeue(run_on, "ada")
    assert [(number, node) for number, _name, node in jobs] == [(job, host)]
    numpy = run_cell(ada, "import numpy; print(numpy.arange(10).sum())")
    assert numpy == "45"
    loaded = run_cell(ada, "import os; print(os.environ['LOADEDMODULES'], os.environ['MPICC'])")
    assert re.fullmatch(r"gcc/[\d.]+:openmpi/[\d.]+ /usr/bin/mpicc\.openmpi", loaded), loaded

    output = run_cell(ada, MPI_JOB)
    shot(ada, "mpi-job")
    hosts = set(re.findall(r"rank \d of 4 on (node\d+) sum 6", output))
    number = "".join(re.findall(r"^Submitted batch job (\d+)", output))
    good = len(hosts) == 2 and "ended 0\n" in output
    assert good, f"{output}\n{story(lab, run_on, number) if number else ''}"

    _terminal_gets_its_own_allocation(ada, run_on, job)
    _ben_has_his_own_job_and_cannot_reach_adas(ben, lab, run_on, job)
    _accounting_knows_both(run_on)
    _stop_ends_the_job(ada, lab, run_on, "ada")
    _stop_ends_the_job(ben, lab, run_on, "ben")


def _wait_is_told(page: Page, lab, run_on) -> list[str]:
    """Ada's job has to wait, until the page has said so: else it is ready before one can read."""

    def notebooks(state: str) -> None:
        change = ["scontrol", "update", "partitionname=notebook", f"state={state}"]
        assert run_on("login", change).returncode == 0

    notebooks("DOWN")
    try:
        return start_server(page, lab, "ada", when_waiting=lambda: notebooks("UP"))
    finally:
        notebooks("UP")


def _modules_of_the_tab(page: Page) -> None:
    """Loads a compiler and an MPI in JupyterLab's tab: what is started after has them."""
    page.locator('.jp-SideBar [data-id="module-jupyterlab"]').click(timeout=CELL)
    for name in ("gcc", "openmpi"):  # the second shows once the first is loaded
        row = page.locator("#module_avail_list li").filter(has_text=re.compile(f"^{name}/"))
        row.first.hover(timeout=CELL)
        row.first.locator("button").click(timeout=CELL)
        loaded = page.locator("#module_loaded_list li").filter(has_text=re.compile(f"^{name}/"))
        expect(loaded).to_have_count(1, timeout=CELL)
    shot(page, "modules-tab")


def _terminal_gets_its_own_allocation(page: Page, run_on, own: str) -> None:
    fresh_lab(page)
    page.locator('.jp-LauncherCard:has-text("Terminal")').click(timeout=CELL)
    page.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached", timeout=CELL)
    page.wait_for_timeout(1500)  # the shell's prompt is drawn on a canvas
    page.locator(".jp-Terminal .xterm-helper-textarea").focus()
    page.keyboard.type(
        "srun -N2 bash -c 'echo $SLURM_JOB_ID $(hostname)' > srun.txt 2>&1; "
        "(module avail; module -t list) > modules.txt 2>&1; touch done.txt\n"
    )
    until(
        lambda: run_on("login", ["test", "-e", "/home/ada/done.txt"]).returncode == 0,
        why=lambda: run_on("login", ["cat", "/home/ada/srun.txt"]).stdout,
    )
    shot(page, "terminal")
    lines = run_on("login", ["cat", "/home/ada/srun.txt"]).stdout.split("\n")[:2]
    numbers, hosts = zip(*(line.split() for line in lines), strict=True)
    assert len(set(hosts)) == 2
    assert own not in numbers, "srun ran inside the notebook's own job"
    modules = run_on("login", ["cat", "/home/ada/modules.txt"]).stdout
    assert re.search(r"^gcc/\S+\nopenmpi/\S+$", modules, re.MULTILINE), modules


def _ben_has_his_own_job_and_cannot_reach_adas(page: Page, lab, run_on, adas_job: str) -> None:
    notebook(page)
    own = run_cell(page, "import os; print(os.getuid(), os.environ['SLURM_JOB_ID'])").split()
    uid = run_on("login", ["id", "-u", "ben"]).stdout.strip()
    assert own[0] == uid
    assert own[1] != adas_job
    refused = run_cell(page, "import os; os.listdir('/home/ada')")
    assert "PermissionError" in refused
    tokens = run_cell(
        page,
        "import pathlib\n"
        "found = []\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "    try:\n"
        "        text = p.read_bytes().decode(errors='replace')\n"
        "    except OSError:\n"
        "        continue\n"
        "    if 'JUPYTERHUB_USER=ada' in text: found.append(p)\n"
        "print(found)",
    )
    assert tokens == "[]"
    page.goto(f"{lab.hub_url}/user/ada/lab", timeout=30_000)
    shot(page, "ben-at-adas-server")
    assert page.locator(".jp-Launcher").count() == 0


def _accounting_knows_both(run_on) -> None:
    rows = run_on(
        "login", ["sacct", "-a", "-X", "-n", "-P", "-o", "user,jobname,nnodes,account"]
    ).stdout.splitlines()
    assert "ada|hello-mpi|2|class" in rows, rows
    notebooks = {row.split("|")[0] for row in rows if "practicum" in row.split("|")[1]}
    assert {"ada", "ben"} <= notebooks


def _stop_ends_the_job(page: Page, lab, run_on, name: str) -> None:
    page.goto(f"{lab.hub_url}/hub/home", timeout=30_000)
    stop_server(page)
    shot(page, f"{name}-stopped")
    until(lambda: squeue(run_on, name), 60, wanted=lambda jobs: not jobs)
    page.context.close()
