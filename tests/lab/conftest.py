"""A real lab for the tests: the developer's running one (PRACTICUM_LAB=NAME), else one of our own.

When a test fails, what the services of the lab logged last is in its report.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest
from bare_nodes import lab_nodes, nodes
from networks import bare
from playwright.sync_api import expect
from run_in_lab import LAB, RunOn, run_in
from student import student

from practicum.report import Plain
from practicum.rooms import ROLES
from provisioning import lab as labs

UNITS = ("munge", "slurmdbd", "slurmctld", "slurmd", "practicum-hub", "practicum-proxy")
expect.set_options(timeout=30_000)  # its own 5 seconds are for a machine that does only this
NODES = 4  # three that compute: the capacity test's figure
__all__ = ["bare", "lab_nodes", "nodes", "student"]  # fixtures


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[labs.LabInfo]:
    """The lab. One of our own is taken down in the end, PRACTICUM_KEEP_LAB=1 leaves it."""
    named = os.environ.get("PRACTICUM_LAB")
    if named:
        info = labs.info(named)
        request.config.stash[LAB] = info
        yield info
        return
    name = f"test-{secrets.token_hex(3)}"
    guest = os.environ.get("PRACTICUM_GUEST")
    try:
        info = labs.up(name, nodes=NODES, guest=guest, roles=ROLES, reporter=Plain())
        request.config.stash[LAB] = info
        yield info
    finally:
        if os.environ.get("PRACTICUM_KEEP_LAB") != "1":
            labs.down(name, reporter=Plain())


@pytest.fixture(scope="session")
def run_on(lab: labs.LabInfo) -> RunOn:
    """`run_on(node, argv, user=..., input=...)` in the lab."""
    return run_in(lab)


@pytest.fixture
def made_labs() -> Iterator[Callable[..., str]]:
    """Names for labs of a test's own; whatever it leaves of them is taken down."""
    names: list[str] = []

    def new_name() -> str:
        names.append(f"t-{secrets.token_hex(4)}")
        return names[-1]

    yield new_name
    for name in names:
        labs.down(name, reporter=Plain())


def journals(info: labs.LabInfo, lines: int = 40) -> Iterator[tuple[str, str]]:
    """(title, text) of what each service of each node logged last."""
    run_on = run_in(info)
    for node in info.nodes:
        for unit in UNITS:
            try:
                done = run_on(
                    node.name,
                    ["journalctl", "--no-pager", "--quiet", f"--lines={lines}", f"--unit={unit}"],
                    timeout=20,
                )
            except subprocess.TimeoutExpired:
                yield f"{node.name}: journals", "the node does not answer"
                break
            if done.stdout.strip():
                yield f"{node.name}: {unit}", done.stdout


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    info = item.config.stash.get(LAB, None)
    if report.failed and info is not None and "lab" in getattr(item, "fixturenames", ()):
        report.sections.extend(journals(info))
