"""Quotas of more than one number, on a file server whose disk is a partition: soft limits and
their grace, what a group's members have together; and a job's own folder on its node's disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from vmkit import described
from vmkit.described import DATA_DEVICE
from vmkit.use import Vms, changes

pytestmark = pytest.mark.vm

GRACE = 60
# One partition from the first megabyte to the end, in a master boot record: a minimal system has no
# program for it.
PARTITION = """
import os, struct, sys
with open(sys.argv[1], "r+b", buffering=0) as disk:
    sectors = os.lseek(disk.fileno(), 0, os.SEEK_END) // 512
    entry = struct.pack("<B3sB3sII", 0, b"\\0" * 3, 0x83, b"\\0" * 3, 2048, sectors - 2048)
    os.pwrite(disk.fileno(), struct.pack("<I", 0xC0FFEE01) + b"\\0" * 2 + entry, 440)
    os.pwrite(disk.fileno(), b"\\x55\\xaa", 510)
    os.fsync(disk.fileno())
"""
# A file that the client has not let go of yet stays in its folder as .nfs*, for a moment.
CLEAR = "for i in $(seq 60); do rm -rf ~/* && exit; sleep 1; done; ls -AR ~; exit 1"
MORE = ("quotas = true", f'quota_grace = "00:{GRACE // 60:02}:00"', 'scratch = "/scratch"')
QUOTAS = """
[[groups]]
name = "project"
gid = 2010

[[quotas]]
group = "students"
soft_mb = 10
hard_mb = 30

[[quotas]]
group = "project"
whole_group = true
hard_mb = 20
"""


def served(text: str, partuuid: str) -> str:
    text = described.served(text, *MORE, disk=f'partuuid = "{partuuid}"')
    return text.replace('groups = ["students"]', 'groups = ["students", "project"]') + QUOTAS


@pytest.fixture(scope="module")
def store(cluster_vms: Vms) -> Iterator[Vms]:
    """The pair with its files on a partition; afterwards it is as before, the disk empty."""
    vms = cluster_vms
    before = vms.toml.read_text()
    with vms.homes_away():
        partuuid = partition(vms)
        vms.apply(lambda text: served(text, partuuid), format_=partuuid)
        yield vms
        vms.apply(lambda _text: before)
        vms.check_on("head", ["wipefs", "--all", "--force", DATA_DEVICE])


def partition(vms: Vms) -> str:
    """Make one on the empty disk; its PARTUUID."""
    vms.empty_disk()
    vms.check_on("head", ["python3", "-c", PARTITION, DATA_DEVICE])
    # udev, which reads it anew by itself, may be at it still
    vms.check_on("head", ["udevadm", "settle"])
    again = ["blockdev", "-v", "--rereadpt", DATA_DEVICE]
    vms.until("head", again, lambda text: "succeeded" in text)
    ask = ["lsblk", "--noheadings", "--output", "PARTUUID", DATA_DEVICE]
    partuuid = vms.until("head", ask, lambda text: bool(text.strip())).strip()
    assert partuuid == "c0ffee01-01"
    return partuuid


@pytest.fixture
def homes(store: Vms) -> Iterator[Vms]:
    """ada's and ben's are there, and empty before and after."""

    def clear() -> None:
        for user in ("ada", "ben"):  # from the client: nfsd holds open what goes behind its back
            store.check_on("node01", ["sh", "-c", CLEAR], user=user)

    clear()
    yield store
    clear()


def test_a_disk_is_named_by_its_partition(store: Vms) -> None:
    there = store.check_on("head", ["findmnt", "-no", "SOURCE,FSTYPE", "/srv/practicum"]).split()
    assert re.fullmatch(r"/dev/vd[a-z]1", there[0]), there
    assert there[1] == "ext4"
    assert changes(store.plan()) == []


def test_above_a_soft_limit_for_the_grace_and_no_longer(homes: Vms) -> None:
    assert homes.fill("node01", "ada", "/home/ada/one", 15) == ""  # soft 10, hard 30
    assert homes.fill("node01", "ada", "/home/ada/two", 2) == ""
    seen = homes.run_on("node01", ["quota", "-w"], user="ada").stdout
    assert re.search(r"\s17\d{3}\*\s+10240\s+30720\s", seen), seen  # the asterisk: above it
    told = json.loads(homes.practicum("quota", "show", "ada", "--json").stdout)
    assert told["grace_seconds"] == GRACE
    [row] = told["quotas"]
    homes.until("head", ["date", "+%s"], lambda text: int(text) > row["kb_until"] + 5)
    assert "Disk quota exceeded" in homes.fill("node01", "ada", "/home/ada/three", 2)
    said = homes.practicum("quota", "show", "ada").stdout
    assert "grace for" in said and "is over" in said, said
    homes.check_on("node01", ["rm", "/home/ada/one"], user="ada")
    assert homes.fill("node01", "ada", "/home/ada/three", 2) == ""


def test_limits_that_somebody_switched_off_hold_again_after_an_apply(homes: Vms) -> None:
    homes.check_on("head", ["quotaoff", "-u", "/srv/practicum"])
    assert homes.fill("node01", "ada", "/home/ada/much", 35) == ""  # hard 30
    assert changes(homes.apply()) == ["head: run command:quotas"]
    assert "Disk quota exceeded" in homes.fill("node01", "ada", "/home/ada/more", 2)
    assert changes(homes.plan()) == []


def test_who_joins_a_group_has_its_files_at_once(homes: Vms) -> None:
    """The server asks for somebody's groups itself and remembers them for a while, and a client whom
    it has refused."""
    before, folder = homes.toml.read_text(), "/srv/practicum/shared/club"
    look = ["ls", "/nfs/club"]

    def with_club(text: str) -> str:
        text = text.replace('groups = ["students", "project"]', 'groups = ["students", "club"]')
        return text + '\n[[groups]]\nname = "club"\ngid = 2999\n'

    homes.check_on("head", ["sh", "-c", f"mkdir -m 770 {folder} && chgrp 2999 {folder}"])
    try:
        assert "Permission denied" in homes.run_on("node01", look, user="ada").stderr
        homes.apply(with_club)
        homes.check_on("node01", look, user="ada")
    finally:
        homes.check_on("head", ["rmdir", folder])
        homes.apply(lambda _text: before)


def test_a_groups_members_have_a_limit_together(homes: Vms) -> None:
    shared = "mkdir ~/shared && chgrp project ~/shared && chmod g+s ~/shared"
    for user in ("ada", "ben"):
        homes.check_on("node01", ["sh", "-c", shared], user=user)
    assert homes.fill("node01", "ada", "/home/ada/shared/one", 9) == ""
    assert homes.fill("node01", "ben", "/home/ben/shared/one", 6) == ""
    assert "Disk quota exceeded" in homes.fill("node01", "ben", "/home/ben/shared/two", 9)
    assert homes.fill("node01", "ben", "/home/ben/own", 3) == ""  # it is not in the group's name


def test_a_job_has_a_folder_on_its_nodes_own_disk(homes: Vms) -> None:
    homes.until_idle()
    script = (
        'echo "$SLURM_TMPDIR"; stat -c "%U %a" "$SLURM_TMPDIR"; df --output=fstype "$SLURM_TMPDIR"'
    )
    said = homes.check_on("head", ["srun", "--chdir=/tmp", "bash", "-c", script], user="ada",
                          timeout=300).split()  # fmt: skip
    assert re.fullmatch(r"/scratch/\d+", said[0]), said
    assert said[1:3] == ["ada", "700"], said
    assert not said[-1].startswith("nfs"), said
    homes.until("node01", ["ls", "/scratch"], lambda text: said[0].rpartition("/")[2] not in text)
