"""The commands of docs/admin.md that format a disk or switch everything off, typed as the page has
them on virtual machines, with the page's own tables in cluster.toml."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_page import PAGE, Typed, blocks, commands, run, surroundings
from vmkit.described import DATA_DISK
from vmkit.use import Vms, changes

from provisioning.lab.system import write

pytestmark = pytest.mark.vm

NAME, SIZE = "WD-WX12A34B5678", "1.8 TB"
# The command, with roles up to running jobs: those above build Python environments, which an
# emulated processor is slow at.
COMMAND = """#!{python}
import practicum.rooms
from practicum.cli import main
practicum.rooms.ROLES = tuple(
    role for role in practicum.rooms.ROLES if role.stage not in ("software", "hub")
)
main()
"""


def page() -> str:
    return PAGE.read_text(encoding="utf-8").replace(NAME, DATA_DISK).replace(SIZE, "...")


def table(start: str) -> str:
    """The page's TOML block that has such a line."""
    (found,) = [
        content
        for _, language, _, content in blocks(page())
        if language == "toml" and start in content.splitlines()
    ]
    return found


@pytest.fixture(scope="module")
def served(cluster_vms: Vms, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """cluster.toml as the page has it, the disk empty; the environment to type in. Afterwards the
    pair is as it was."""
    vms = cluster_vms
    before = vms.toml.read_text()
    folder = tmp_path_factory.mktemp("admin")
    command = folder / "practicum"
    command.write_text(COMMAND.format(python=sys.executable))
    command.chmod(0o755)
    env = surroundings(folder / "home")
    env["PATH"] = f"{folder}{os.pathsep}{env['PATH']}"
    storage = re.sub(r"^\[storage\].*", "[storage]", table('provider = "nfs"'), flags=re.M)
    text, found = re.subn(r"^\[storage\]\n(?:\w.*\n)+", storage, before, flags=re.M)
    assert found == 1
    with vms.homes_away():
        vms.empty_disk()
        write(vms.toml, f"{text}\n{table('[[quotas]]')}")
        yield env
        vms.apply(lambda _text: before)


def test_the_commands_of_the_page(cluster_vms: Vms, served: dict[str, str]) -> None:
    vms = cluster_vms
    *typed, off = commands(page(), "vm")
    assert any(one.answers for one in typed) and off.text.startswith("practicum shutdown")

    def type_(command: Typed) -> None:
        run(command, Path(vms.toml.parent), served, timeout=1800)

    for command in typed:
        type_(command)
    assert "ext4" in vms.check_on("head", ["findmnt", "-no", "FSTYPE", "/srv/practicum"])
    vms.apply()  # the last of them changed a quota back
    assert changes(vms.plan()) == []
    vms.until_idle()
    type_(off)
    try:
        end = time.monotonic() + 120
        while on := [name for name, one in vms.machines.items() if one.process() is not None]:
            assert time.monotonic() < end, on
            time.sleep(1)
    finally:
        for name in vms.machines:
            vms.close(name)
        vms.power_on("head")
        vms.power_on("node01")
