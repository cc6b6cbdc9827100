"""The first notebook on each of the other guest systems; Debian 12 has all the other tests."""

from __future__ import annotations

import re
import secrets

import pytest
from playwright.sync_api import Browser
from run_in_lab import LAB, run_in
from test_browser_lab import MPI_JOB, browser, notebook, run_cell, shot, start_server, stop_server

from practicum.report import Plain
from practicum.rooms import ROLES
from provisioning import lab as labs

pytestmark = pytest.mark.lab

__all__ = ["browser"]  # the fixture
SYSTEMS = {
    "debian13": ("Debian GNU/Linux 13", "24.11"),
    "ubuntu24.04": ("Ubuntu 24.04", "23.11"),
}


# Five minutes each: Debian 13, whose Slurm and packages are nearer to Debian 12's, is for -m slow.
@pytest.mark.parametrize("guest", [pytest.param("debian13", marks=pytest.mark.slow), "ubuntu24.04"])
def test_the_first_notebook_and_a_two_node_job(
    guest: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    system, slurm = SYSTEMS[guest]
    name = f"guest-{secrets.token_hex(3)}"
    before = request.config.stash.get(LAB, None)
    try:
        info = labs.up(name, nodes=3, guest=guest, roles=ROLES, reporter=Plain())
        request.config.stash[LAB] = info
        run_on = run_in(info)
        assert system in run_on("node01", ["cat", "/etc/os-release"]).stdout
        assert slurm in run_on("node01", ["sinfo", "--version"]).stdout
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        start_server(page, info, "ada")
        notebook(page)
        where = run_cell(page, "import socket, numpy; print(socket.gethostname())")
        assert re.fullmatch(r"node0[12]", where)
        output = run_cell(page, MPI_JOB)
        shot(page, f"{guest}-mpi-job")
        assert len(set(re.findall(r"rank \d of 4 on (node\d+) sum 6", output))) == 2, output
        page.goto(f"{info.hub_url}/hub/home", timeout=30_000)
        stop_server(page)
        page.context.close()
    finally:
        labs.down(name, reporter=Plain())
        if before is not None:
            request.config.stash[LAB] = before
