"""Shared kernels from the admin's line to a student's notebook: built by Slurm, updated, rolled
back while an old one runs, from a lock, for a group, with modules, a student's own, and conda's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conda_channel import make_channel
from playwright.sync_api import Browser, Page, sync_playwright
from student import no_jobs_left
from test_browser_lab import fresh_lab, notebook, run_cell, shot, start_server
from waiting import until

from cluster.load import load
from kernels.role import ROOM

pytestmark = pytest.mark.lab

LIMIT = 600  # seconds for one command on a busy machine
OWN = "import os, shutil, six; print(six.__version__, os.environ['CC'], shutil.which('mpicc'))"
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
def kernel(lab: Any, file: Path, run_on: Any) -> Iterator[Callable[..., str]]:
    """``kernel("add", ..., code=0)``: the command's output; the kernels it adds go in the end."""

    def run(action: str, *words: str, code: int = 0) -> str:
        argv = [sys.executable, "-m", "practicum", "kernel", action, *words, "--file", str(file)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said, said
        return said

    yield run
    declared = [one.name for one in load(lab.cluster_toml).kernels]
    done = run_on("login", ["python3", "-I", ROOM, "sweep", "/nfs/envs", *declared], timeout=LIMIT)
    assert done.returncode == 0, done.stderr


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
    notebook(page, card)


def end_session(run_on: Any, user: str) -> None:
    """The job goes, and with it the kernel's lease; the hub notices by itself."""
    run_on("login", ["scancel", "--name=practicum-hub", "-u", user])
    no_jobs_left(run_on, user, "-n", "practicum-hub")


@pytest.fixture(scope="module")
def page_of(lab: Any, run_on: Any, browser: Browser) -> Iterator[Callable[[str], Page]]:
    """JupyterLab of a student, started once; sessions, and with them kernels' leases, go in the
    end."""
    pages: dict[str, Page] = {}

    def start(user: str) -> Page:
        if user not in pages:
            pages[user] = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            start_server(pages[user], lab, user)
        return pages[user]

    yield start
    for user, page in pages.items():
        page.context.close()
        end_session(run_on, user)


def version(said: str) -> int:
    found = re.search(r"demo: version (\d+) is live", said)
    assert found, said
    return int(found[1])


@pytest.fixture(scope="module")
def demo(kernel: Callable[..., str]) -> int:
    """The live version of a kernel `demo` with an old six."""
    return version(kernel("add", "demo", "six==1.16.0", "--title", "Demo"))


def versions(run_on: Any) -> list[str]:
    """Of the kernel `demo`, whole or not."""
    found = run_on("login", ["find", "/nfs/envs/demo", "-mindepth", "1", "-maxdepth", "1",
                             "-type", "d"])  # fmt: skip
    return sorted(found.stdout.split())


def test_added_used_on_two_nodes_updated_and_rolled_back(
    kernel: Callable[..., str], demo: int, page_of: Callable[[str], Page],
    elsewhere: Callable[[str], None],
) -> None:  # fmt: skip
    first = demo
    ada = page_of("ada")
    shot(ada, "kernels-launcher")
    open_kernel(ada, f"Demo · v{first}")
    prefix, six, node = run_cell(ada, WHICH).split()
    assert re.fullmatch(rf"/nfs/envs/demo/{first}/\w+", prefix)
    assert six == "1.16.0"

    second = version(kernel("update", "demo", "six==1.17.0"))
    elsewhere(node)
    ben = page_of("ben")
    open_kernel(ben, f"Demo · v{second}")
    newer, six, other = run_cell(ben, WHICH).split()
    assert (newer, six) == (prefix.replace(f"/{first}/", f"/{second}/"), "1.17.0")
    assert other != node

    assert f"version {first} is live (it was {second})" in kernel("rollback", "demo")
    told = kernel("list")
    assert re.search(rf"demo +version {first} .*rolled back; others: {second} \(runs\)", told), told
    # ben's kernel goes on: what it imports only now comes from its own version
    late = run_cell(ben, "import ipykernel.inprocess as late; print(late.__file__)")
    assert late.startswith(newer)
    said = kernel("remove", "demo", "--yes", code=1)
    assert f"kernels run from demo (version {first}, {second}): end them" in said


def test_it_is_tried_on_a_node(kernel: Callable[..., str], demo: int) -> None:
    said = kernel("test", "demo", "--node", "node02")
    assert re.search(r"demo version \d+ on node02: works", said)
    assert "there is no compute node nope" in kernel("test", "demo", "--node", "nope", code=1)


def test_builds_that_cannot_be_change_nothing(
    kernel: Callable[..., str], demo: int, run_on: Any
) -> None:
    before = versions(run_on)
    said = kernel("update", "demo", "no-such-package-of-ours", code=1)
    assert "no-such-package-of-ours was not found" in said
    said = kernel("update", "demo", "ipykernel>=6.29", "traitlets<5", code=1)
    assert "these do not go together: No solution found" in said
    assert len(said.strip().splitlines()[-1]) < 600
    assert "there is a kernel demo already" in kernel("add", "demo", "six", code=2)
    said = kernel("add", "other", "six", "--module", "no-such-module", code=1)
    assert "no-such-module" in said
    assert versions(run_on) == before


def test_a_build_that_is_killed_changes_nothing(
    kernel: Callable[..., str], demo: int, file: Path, run_on: Any
) -> None:
    before = versions(run_on)
    argv = [sys.executable, "-m", "practicum", "kernel", "update", "demo", "--file", str(file)]
    build = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    job = "--name=practicum-kernel-demo"
    until(
        lambda: (
            run_on("login", ["scancel", "--verbose", job]).returncode == 0
            and not run_on("login", ["squeue", "-h", job]).stdout.strip()
            and build.poll() is not None
        ),
        120,
    )
    said = build.communicate(timeout=60)[0]
    assert build.returncode == 1, said
    assert "was cancelled" in said
    assert versions(run_on) == before


def test_from_a_lock_for_a_group_with_modules(
    kernel: Callable[..., str], demo: int, run_on: Any, tmp_path: Path
) -> None:
    lock = tmp_path / "demo.lock"
    lock.write_text(kernel("show", "demo", "--lock"))
    assert re.search(r"^six==1\.1[67]\.0", lock.read_text(), re.MULTILINE)
    kernel("add", "twin", "--from-lock", str(lock), "--group", "instructors",
           "--module", "gcc", "--module", "openmpi")  # fmt: skip
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
    assert run_on("node01", ["ls", "/nfs/envs/twin"], user="ada").returncode != 0
    assert "works" in kernel("test", "twin")
    # a module that cannot be loaded is told in the notebook
    spec = "/nfs/envs/jupyter/kernels/twin/kernel.json"
    run_on("login", ["sed", "-i", 's/"openmpi"/"no-such-module"/', spec])
    said = kernel("test", "twin", code=1)
    assert "KernelNotStarted" in said
    assert "no-such-module" in said
    assert "twin: removed" in kernel("remove", "twin", "--yes")
    gone = run_on("login", ["ls", "/nfs/envs/twin", "/nfs/envs/jupyter/kernels/twin"])
    assert gone.stdout == ""


def test_a_student_has_one_of_their_own(
    run_on: Any, demo: int, page_of: Callable[[str], Page]
) -> None:
    """With a set of modules that was saved before."""
    script = (
        "module load gcc openmpi && module save mine && "
        "practicum-kernel add mine six==1.17.0 --set mine"
    )
    try:
        made = run_on("node01", ["bash", "-lc", script], user="ada", timeout=LIMIT)
        assert made.returncode == 0, made.stdout + made.stderr
        refused = run_on("node01", ["practicum-kernel", "add", "demo", "six"], user="ada")
        assert "there is a shared kernel demo" in refused.stderr
        ada = page_of("ada")
        open_kernel(ada, "mine (mine)")
        said = run_cell(ada, OWN)
        assert re.fullmatch(r"1\.17\.0 gcc /\S+/mpicc", said), said
    finally:
        run_on("node01", ["practicum-kernel", "remove", "mine"], user="ada")
        run_on("node01", ["rm", "-f", "/home/ada/.config/lmod/mine", "/home/ada/.lmod.d/mine"])


def test_conda_from_a_channel_of_our_own(
    lab: Any, kernel: Callable[..., str], demo: int, tmp_path: Path
) -> None:
    """Where conda-forge is not reached: a channel whose python is a venv of the system's."""
    shared = Path("/var/lib/practicum/labs") / lab.name / "shared/nfs"
    channel = shared / "channel"
    try:
        make_channel(channel, (shared / "envs/demo/current").resolve())
        described = tmp_path / "environment.yml"
        described.write_text("channels: [file:///nfs/channel]\ndependencies: [python]\n")
        assert "is live" in kernel("add", "conda", "--environment", str(described))
        shown = kernel("show", "conda")
        assert "py-rattler" in shown
        assert "ipykernel ==" in shown
        assert "works" in kernel("test", "conda")
    finally:
        shutil.rmtree(channel, ignore_errors=True)
