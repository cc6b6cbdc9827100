"""Virtual machines for tests: `head` (login, controller, database, storage; 1 GB) and `node01`
(compute), with kernels of their own, on one LAN whose gateway is this host.

How to use it:

    PRACTICUM_VMS=mine .venv/bin/pytest -m vm tests/vm/test_x.py   # makes them, then keeps them
    .venv/bin/python tests/vm/conftest.py mine                     # removes them

Without PRACTICUM_VMS a session makes a pair of its own and removes it in the end; what a killed
session left is removed by the next. PRACTICUM_GUEST=debian13 is another system.

Fixtures (all of the session, and of :class:`vmkit.use.Vms`, which says what else it can do:
reboot, reset, power_off, power_on, set_clock, until, plan, practicum, ...):

- `vms`: both run, and root can log in; nothing was applied by this session yet.
- `three_vms` (of a module): three others, with `node02`; PRACTICUM_VMS=mine names them mine-3.
- `cluster_vms`: the same with cluster.toml applied (all roles below Python environments and hub).
- `run_on(node, argv, user=..., input=..., timeout=...)`: as in tests/lab; on `cluster_vms`.
- `apply(edit)` (of a test): rewrites cluster.toml by a function text → text and applies; after
  the test, what cluster.toml was before is applied again.

`head` has two more disks, by their serials: PRACTICUM-DATA (2 GB, empty) and PRACTICUM-FULL
(64 MB, with somebody's ext4).

After changes of roles that need further packages, remove the pair: new packages are put into the
image (seconds), rather than installed by an emulated dpkg (minutes).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from vmkit import cluster as machines
from vmkit.use import Edit, Vms

from provisioning.planning import Result

RUN = pytest.StashKey[list[Vms]]()


def say(text: str) -> None:
    print(f"vms: {text}", flush=True)


@contextlib.contextmanager
def running(config: pytest.Config, named: str, compute: int) -> Iterator[Vms]:
    """Machines of that name, which are kept; or others, if it is empty."""
    name = named or f"t-{secrets.token_hex(3)}"
    machines.recover()
    with machines.hold(name):
        made = Vms(name, os.environ.get("PRACTICUM_GUEST", "debian12"), compute)
        config.stash[RUN] = [*config.stash.get(RUN, []), made]
        try:
            made.up(say)
            if named:
                (made.folder / "keep").touch()
            yield made
        finally:
            config.stash[RUN].remove(made)
            if not named:
                made.down()


@pytest.fixture(scope="session")
def vms(request: pytest.FixtureRequest) -> Iterator[Vms]:
    """Both machines, running."""
    with running(request.config, os.environ.get("PRACTICUM_VMS", ""), 1) as made:
        yield made


@pytest.fixture(scope="module")
def three_vms(request: pytest.FixtureRequest) -> Iterator[Vms]:
    """head, node01 and node02, running."""
    named = os.environ.get("PRACTICUM_VMS", "")
    with running(request.config, named and f"{named}-3", 2) as made:
        yield made


@pytest.fixture(scope="session")
def first_apply(vms: Vms) -> tuple[Result, float]:
    """The first apply of this session, and its seconds."""
    begun = time.monotonic()
    result = vms.apply()
    return result, time.monotonic() - begun


@pytest.fixture(scope="session")
def cluster_vms(vms: Vms, first_apply: tuple[Result, float]) -> Vms:
    """Both machines as cluster.toml has them."""
    return vms


@pytest.fixture(scope="session")
def run_on(cluster_vms: Vms) -> Callable[..., object]:
    """`run_on(node, argv, user=..., input=...)` on the cluster."""
    return cluster_vms.run_on


@pytest.fixture
def apply(cluster_vms: Vms) -> Iterator[Callable[[Edit], Result]]:
    """`apply(edit)`: cluster.toml changed by a function, and applied; undone after the test."""
    before = cluster_vms.toml.read_text()
    yield cluster_vms.apply
    if cluster_vms.toml.read_text() != before:
        cluster_vms.apply(lambda _text: before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for made in item.config.stash.get(RUN, []):
            report.sections.extend(made.evidence())


if __name__ == "__main__":
    for one in sys.argv[1:]:
        with machines.hold(one):
            Vms(one).down()
    machines.recover()
