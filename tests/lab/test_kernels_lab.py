"""Shared kernels from the admin's line to a student's notebook: built by Slurm, updated, rolled
back while an old one runs, from a lock, for a group, with modules, a student's own, and conda's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conda_channel import make_channel
from playwright.sync_api import Browser, Page, sync_playwright
from test_browser_lab import fresh_lab, run_cell, shot, start_server

pytestmark = pytest.mark.lab

LIMIT = 600  # seconds for one command on a busy machine
CELL = 60_000
WHICH = "import sys, socket, six; print(sys.prefix, six.__version__, socket.gethostname())"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Debian's chromium is missing: `make prepare` installs it"
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chrome = driver.chromium.launch(executable_path=chromium, args=options)
        yield chrome
        chrome.close()


@pytest.fixture(scope="module")
def file(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lab's cluster.toml: what is declared there goes with the test."""
    folder = tmp_path_factory.mktemp("cluster")
    shutil.copy(lab.cluster_toml, folder / "cluster.toml")
    (folder / "secrets").symlink_to(lab.cluster_toml.parent / "secrets")
    return folder / "cluster.toml"


@pytest.fixture(scope="module")
def kernel(lab: Any, file: Path) -> Iterator[Callable[..., str]]:
    """``kernel("add", ..., code=0)``: the command's output; the kernels it adds go in the end."""
    added: list[str] = []

    def run(action: str, *words: str, code: int = 0) -> str:
        if action == "add":
            added.append(words[0])
        argv = [sys.executable, "-m", "practicum", "kernel", action, *words, "--file", str(file)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said, said
        return said

    yield run
    for name in added:
        argv = [sys.executable, "-m", "practicum", "kernel", "remove", name, "--yes", "--later",
                "--file", str(file)]  # fmt: skip
        subprocess.run(argv, capture_output=True, timeout=LIMIT, check=False)


@pytest.fixture
def elsewhere(run_on: Any) -> Iterator[Callable[[str], None]]:
    """``elsewhere(node)``: what starts from now on does not start there."""
    closed: list[str] = []

    def state(node: str, word: str) -> None:
        change = ["scontrol", "update", f"nodename={node}", f"state={word}", "reason=test"]
        assert run_on("login", change).returncode == 0

    def close(node: str) -> None:
        closed.append(node)
        state(node, "drain")

    yield close
    for node in closed:
        state(node, "resume")


def open_kernel(page: Page, card: str) -> None:
    """A notebook of the kernel whose card in the launcher begins so; its kernel answers."""
    fresh_lab(page)
    cards = page.locator('.jp-LauncherCard[data-category="Notebook"]')
    cards.filter(has_text=card).first.click(timeout=CELL)
    page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content", timeout=CELL)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=2 * CELL)


def end_session(run_on: Any, user: str) -> None:
    """The job goes, and with it the kernel's lease; the hub notices by itself."""
    run_on("login", ["scancel", "--name=practicum-hub", "-u", user])
    end = time.monotonic() + 120
    while run_on("login", ["squeue", "-h", "-u", user, "-n", "practicum-hub"]).stdout.strip():
        assert time.monotonic() < end, "the session does not end"
        time.sleep(1)


def test_added_used_on_two_nodes_updated_and_rolled_back(
    lab: Any, run_on: Any, kernel: Callable[..., str], browser: Browser,
    elsewhere: Callable[[str], None],
) -> None:  # fmt: skip
    said = kernel("add", "demo", "six==1.16.0", "--title", "Demo")
    assert "demo: version 1 is live" in said
    assert "node" in said

    ada = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    start_server(ada, lab, "ada")
    shot(ada, "kernels-launcher")
    open_kernel(ada, "Demo · v1")
    prefix, six, node = run_cell(ada, WHICH).split()
    assert re.fullmatch(r"/nfs/envs/demo/1/\w+", prefix)
    assert six == "1.16.0"

    assert "version 2 is live" in kernel("update", "demo", "six==1.17.0")
    elsewhere(node)
    ben = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    start_server(ben, lab, "ben")
    open_kernel(ben, "Demo · v2")
    newer, six, other = run_cell(ben, WHICH).split()
    assert (newer, six) == (prefix.replace("/1/", "/2/"), "1.17.0")
    assert other != node

    assert "version 1 is live (it was 2)" in kernel("rollback", "demo")
    told = kernel("list")
    assert re.search(r"demo +version 1 .*rolled back; others: 2 \(runs\)", told), told
    # ben's kernel goes on: what it imports only now comes from its own version
    late = run_cell(ben, "import ipykernel.inprocess as late; print(late.__file__)")
    assert late.startswith(newer)
    assert "demo: kernels run" not in told
    said = kernel("remove", "demo", "--yes", code=1)
    assert "kernels run from demo (version 1, 2): end them" in said
    for page, user in ((ada, "ada"), (ben, "ben")):
        page.context.close()
        end_session(run_on, user)


def test_it_is_tried_on_each_node(kernel: Callable[..., str]) -> None:
    for node in ("node01", "node02"):
        assert f"demo version 1 on {node}: works" in kernel("test", "demo", "--node", node)
    assert "there is no compute node nope" in kernel("test", "demo", "--node", "nope", code=1)


def test_builds_that_cannot_be_change_nothing(kernel: Callable[..., str], run_on: Any) -> None:
    said = kernel("update", "demo", "no-such-package-of-ours", code=1)
    assert "no-such-package-of-ours was not found" in said
    said = kernel("update", "demo", "traitlets<4", code=1)
    assert "these do not go together: No solution found" in said
    assert len(said.strip().splitlines()[-1]) < 600
    assert "there is a kernel demo already" in kernel("add", "demo", "six", code=2)
    assert json.loads(kernel("list", "--json"))["kernels"][0]["name"]
    held = run_on("login", ["sh", "-c", "ls -d /nfs/envs/demo/[0-9]* /nfs/envs/demo/.trash* "])
    assert held.stdout.split() == ["/nfs/envs/demo/1", "/nfs/envs/demo/2"]


def test_a_build_that_is_killed_changes_nothing(
    kernel: Callable[..., str], file: Path, run_on: Any
) -> None:
    argv = [sys.executable, "-m", "practicum", "kernel", "update", "demo", "--file", str(file)]
    build = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 120
    while run_on("login", ["scancel", "--verbose", "--name=practicum-kernel-demo"]).returncode or (
        run_on("login", ["squeue", "-h", "-n", "practicum-kernel-demo"]).stdout.strip()
        or build.poll() is None
    ):
        assert time.monotonic() < end, "the build does not end"
        time.sleep(0.5)
    said = build.communicate(timeout=60)[0]
    assert build.returncode == 1, said
    assert "was cancelled" in said
    assert "version 1" in kernel("list")


def test_from_a_lock_for_a_group_with_a_module(
    kernel: Callable[..., str], run_on: Any, tmp_path: Path
) -> None:
    lock = tmp_path / "demo.lock"
    lock.write_text(kernel("show", "demo", "--lock"))
    assert "six==1.16.0" in lock.read_text()
    kernel("add", "twin", "--from-lock", str(lock), "--group", "instructors",
           "--module", "openmpi")  # fmt: skip
    assert kernel("show", "twin", "--lock") == lock.read_text()

    def sees(user: str) -> bool:
        listed = run_on(
            "node01",
            ["env", "JUPYTER_PATH=/nfs/envs/jupyter",
             "/nfs/envs/server/current/bin/jupyter-kernelspec", "list", "--json"],
            user=user,
        )  # fmt: skip
        found = json.loads(listed.stdout)["kernelspecs"]
        assert "demo" in found
        return "twin" in found

    assert sees("ines")
    assert not sees("ada")
    assert run_on("node01", ["ls", "/nfs/envs/twin/1"], user="ada").returncode != 0
    assert "twin version 1 on node" in kernel("test", "twin")
    # a module that cannot be loaded is told in the notebook
    spec = "/nfs/envs/jupyter/kernels/twin/kernel.json"
    run_on("login", ["sed", "-i", 's/"openmpi"/"no-such-module"/', spec])
    said = kernel("test", "twin", code=1)
    assert "KernelNotStarted" in said
    assert "no-such-module" in said


def test_a_student_has_one_of_their_own(run_on: Any) -> None:
    try:
        made = run_on(
            "node01", ["practicum-kernel", "add", "mine", "six==1.17.0"], user="ada", timeout=LIMIT
        )
        assert made.returncode == 0, made.stdout + made.stderr
        done = run_on(
            "node02",
            ["env", "JUPYTER_PATH=/nfs/envs/jupyter", "/nfs/envs/server/current/bin/python", "-I",
             "/usr/local/lib/practicum/kernel-room/kernels/node/trial.py", "mine",
             "import six; print(six.__version__)"],
            user="ada", timeout=LIMIT,
        )  # fmt: skip
        assert json.loads(done.stdout)["output"] == "1.17.0", done.stdout + done.stderr
        refused = run_on("node01", ["practicum-kernel", "add", "demo", "six"], user="ada")
        assert "there is a shared kernel demo" in refused.stderr
    finally:
        run_on("node01", ["practicum-kernel", "remove", "mine"], user="ada")


def test_conda_from_a_channel_of_our_own(
    lab: Any, kernel: Callable[..., str], run_on: Any, tmp_path: Path
) -> None:
    """Where conda-forge is not reached: a channel whose python is a venv of the system's."""
    shared = Path("/var/lib/practicum/labs") / lab.name / "shared/nfs"
    channel = shared / "channel"
    try:
        make_channel(channel, shared / "envs/demo/1")
        described = tmp_path / "environment.yml"
        described.write_text("channels: [file:///nfs/channel]\ndependencies: [python]\n")
        assert "version 1 is live" in kernel("add", "conda", "--environment", str(described))
        shown = kernel("show", "conda")
        assert "py-rattler" in shown
        assert "ipykernel ==" in shown
        assert "works" in kernel("test", "conda")
    finally:
        shutil.rmtree(channel, ignore_errors=True)


def test_removed(kernel: Callable[..., str], run_on: Any) -> None:
    end = time.monotonic() + 60
    while "(runs)" in kernel("list"):
        assert time.monotonic() < end, "a lease outlives its kernel"
        time.sleep(2)
    assert "demo: removed" in kernel("remove", "demo", "--yes")
    gone = run_on("login", ["ls", "/nfs/envs/demo", "/nfs/envs/jupyter/kernels/demo"])
    assert gone.stdout == ""
