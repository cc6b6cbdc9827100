"""The cluster's own file server on kernels of their own: the disk, NFS, quotas, a server that goes
away. `head` serves, `node01` is its client."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from vmkit import described
from vmkit.described import DATA_DEVICE, DATA_DISK, EXTERNAL, FULL_DISK
from vmkit.use import WRITER, Vms, changes

from provisioning.lab.system import write

pytestmark = pytest.mark.vm

ON = "quotas = true"
QUOTAS = """
[[quotas]]
group = "students"
soft_mb = 28
hard_mb = 30
soft_files = 150
hard_files = 200
"""
# du counts blocks with a file's list of blocks, which is no part of what a quota counts
HARD_KB, OWN_KB = 30 * 1024, 16


def served(text: str) -> str:
    return described.served(text, ON) + QUOTAS


def unserved(text: str) -> str:
    return text.replace(QUOTAS, "").replace(described.served(EXTERNAL, ON), EXTERNAL, 1)


@pytest.fixture(scope="module")
def bare(cluster_vms: Vms) -> Iterator[Vms]:
    """The pair with an empty disk, and without homes on node01 meanwhile."""
    vms = cluster_vms
    with vms.homes_away("node01"):  # other tests may have made some; head's have tests here
        vms.empty_disk()
        yield vms
    assert changes(vms.plan()) == []


@pytest.fixture(scope="module")
def store(bare: Vms) -> Iterator[Vms]:
    """The same, with its own storage: the disk was formatted, and all roles applied. Afterwards
    all is as before."""
    before = bare.toml.read_text()
    with bare.homes_away("head"):
        begun = time.monotonic()
        result = bare.apply(served, format_=DATA_DISK)
        print(f"storage: {result.changed} changes in {time.monotonic() - begun:.0f} s")
        yield bare
        bare.apply(lambda _text: before)
        gone = bare.check_on("head", ["cat", "/proc/mounts", "/etc/exports"])
        assert "/srv/practicum" not in gone
        assert "/home" not in bare.check_on("node01", ["cat", "/proc/mounts"])


@pytest.fixture
def ada(store: Vms) -> Iterator[Vms]:
    """ada's home is there, and empty before and after."""
    # From the client: nfsd holds a file open for a while after it was deleted behind its back,
    # and it counts as long.
    clear = ["sh", "-c", "rm -rf /home/ada/*"]
    store.check_on("node01", clear, user="ada")
    yield store
    store.check_on("node01", clear, user="ada")


@contextlib.contextmanager
def described_as(vms: Vms, edit: Callable[[str], str]) -> Iterator[None]:
    """Meanwhile cluster.toml is another."""
    before = vms.toml.read_text()
    write(vms.toml, edit(before))
    try:
        yield
    finally:
        write(vms.toml, before)


def refusal(vms: Vms, edit: Callable[[str], str]) -> str:
    """What head's plan says to another cluster.toml."""
    with described_as(vms, edit):
        return vms.plan().errors.get("head", "")


# -- the disk; these come first, while it is empty


def test_homes_that_would_be_hidden_are_named(bare: Vms) -> None:
    if "ada" not in bare.check_on("head", ["ls", "/home"]):
        pytest.fail("the cluster's homes are not on head")
    assert "would hide the homes of ada, " in refusal(bare, served)


def test_a_disk_with_a_file_system_or_another_name_is_refused(bare: Vms) -> None:
    with bare.homes_away("head"):
        said = refusal(bare, lambda text: served(text).replace(DATA_DISK, FULL_DISK))
        assert f"disk {FULL_DISK} of head (67 MB) is not formatted, since it has ext4" in said
        said = refusal(bare, lambda text: served(text).replace(DATA_DISK, "PRACTICUM-DATE"))
        assert "head has no disk with serial PRACTICUM-DATE; it has " in said
        assert f"serial {DATA_DISK}, 2.1 GB" in said


def test_an_empty_disk_is_formatted_only_when_its_name_is_typed(bare: Vms) -> None:
    with bare.homes_away("head"), described_as(bare, served):
        disk = ["blkid", "-p", DATA_DEVICE]
        planned = bare.practicum("plan")
        assert f"format disk {DATA_DISK}, 2.1 GB, which is empty" in planned.stdout
        done = bare.practicum("apply", "--yes")
        assert done.returncode == 2
        assert f"add --format {DATA_DISK}" in done.stderr
        done = bare.practicum("apply", "--yes", "--format", FULL_DISK)
        assert f"cluster.toml asks to format {DATA_DISK}" in done.stderr
        # an apply that nobody confirmed, past the command's own question
        errors = bare.try_apply().errors
        assert "formatted only when its name is typed again" in errors["head"]
        assert bare.run_on("head", disk).returncode == 2  # still nothing on it


# -- NFS


def test_everything_is_as_declared_after_the_first_apply(store: Vms) -> None:
    assert changes(store.plan()) == []
    for name in store.machines:
        failed = store.check_on(name, ["systemctl", "--failed", "--plain", "--no-legend"])
        assert not failed.strip(), f"{name}: {failed}"


def test_homes_are_on_the_disk_and_seen_by_nfs_4_1_alone(ada: Vms) -> None:
    ada.check_on("node01", ["tee", "/home/ada/note"], user="ada", input="hello\n")
    assert ada.check_on("head", ["cat", "/srv/practicum/home/ada/note"]) == "hello\n"
    mounts = ada.check_on("node01", ["cat", "/proc/mounts"])
    row = next(line for line in mounts.splitlines() if " /home nfs" in line)
    assert {"vers=4.1", "hard", "nosuid", "nodev"} <= set(row.split()[3].split(","))
    assert ada.check_on("head", ["cat", "/proc/fs/nfsd/versions"]).split() == [
        "-3", "+4", "-4.0", "+4.1", "-4.2",
    ]  # fmt: skip
    late = ada.check_on("node01", ["systemctl", "show", "-P", "After", "slurmd"])
    early = ada.check_on("node01", ["systemctl", "show", "-P", "Before", "home.automount"])
    assert "remote-fs.target" in late
    # the automount needs no network: systemd has it in place before anything ordinary starts
    assert "local-fs.target" in early or "remote-fs.target" in early


def test_root_of_a_node_is_nobody_on_the_exports(ada: Vms) -> None:
    ada.check_on("node01", ["sh", "-c", "umask 077; echo secret > ~/secret"], user="ada")
    for command in (["cat", "/home/ada/secret"], ["touch", "/home/x"], ["touch", "/nfs/apps/x"]):
        done = ada.run_on("node01", command)
        assert done.returncode == 1, command
        assert "Permission denied" in done.stderr


def test_root_is_root_from_nodes_that_are_named(store: Vms, apply) -> None:
    apply(lambda text: text.replace(ON, f'{ON}\nroot_nodes = ["node01"]'))
    store.check_on("node01", ["sh", "-c", "touch /nfs/apps/x && rm /nfs/apps/x"])
    # and nobody else's
    exports = store.check_on("head", ["cat", "/etc/exports"])
    assert exports.count("no_root_squash") == 2


def test_a_job_has_its_home(ada: Vms) -> None:
    ada.until_idle()
    job = ada.check_on(
        "head",
        ["sbatch", "--parsable", "--chdir=/home/ada", "--output=/home/ada/out"],
        user="ada",
        input="#!/bin/bash\nhostname; pwd\n",
    )
    states = ["sacct", "-X", "-n", "-P", "-j", job.strip(), "-o", "State"]
    ada.until("head", states, lambda text: text.strip() not in ("", "PENDING", "RUNNING"))
    ada.until_idle()
    assert ada.check_on("head", ["cat", "/home/ada/out"]) == "node01\n/home/ada\n"


# -- quotas


def test_a_quota_stops_a_user_on_the_client_at_the_block_limit(ada: Vms) -> None:
    assert ada.fill("node01", "ada", "/home/ada/one", 25) == ""
    assert "Disk quota exceeded" in ada.fill("node01", "ada", "/home/ada/two", 25)
    used = int(ada.check_on("head", ["du", "-sk", "/srv/practicum/home/ada"]).split()[0])
    assert used <= HARD_KB + OWN_KB


def test_a_quota_stops_a_user_on_the_client_at_the_inode_limit(ada: Vms) -> None:
    done = ada.run_on(
        "node01", ["sh", "-c", "cd; i=0; while [ $i -lt 300 ]; do : > f$i || exit 9; i=$((i+1)); done"],
        user="ada",
    )  # fmt: skip
    assert done.returncode != 0
    assert "Disk quota exceeded" in done.stderr
    found = ada.check_on("head", ["find", "/srv/practicum/home/ada", "-name", "f*"]).split()
    assert 100 < len(found) < 200


def test_a_copy_on_the_server_is_held_by_the_quota_too(ada: Vms) -> None:
    """NFS 4.2's own copy was seen to go past it."""
    assert ada.fill("node01", "ada", "/home/ada/one", 20) == ""
    # coreutils' cp asks for copy_file_range(2) first
    done = ada.run_on("node01", ["cp", "/home/ada/one", "/home/ada/two"], user="ada")
    assert done.returncode != 0
    assert "Disk quota exceeded" in done.stderr
    used = int(ada.check_on("head", ["du", "-sk", "/srv/practicum/home/ada"]).split()[0])
    assert used <= HARD_KB + OWN_KB


COPY = """
import os
whole = 20 << 20
with open("/home/ada/one", "rb") as source, open("/home/ada/two", "wb") as copy:
    done = 0
    for _ in range(1000):
        some = os.copy_file_range(source.fileno(), copy.fileno(), whole - done)
        done += some
        if some == 0:
            break
    os.fsync(copy.fileno())
print(done)
"""


def test_copy_file_range_is_held_by_the_quota_too(ada: Vms) -> None:
    """The system call itself, without a program's way round it."""
    assert ada.fill("node01", "ada", "/home/ada/one", 20) == ""
    done = ada.run_on("node01", ["python3", "-c", COPY], user="ada", timeout=120)
    assert done.returncode != 0, done.stdout
    assert "Disk quota exceeded" in done.stderr
    used = int(ada.check_on("head", ["du", "-sk", "/srv/practicum/home/ada"]).split()[0])
    assert used <= HARD_KB + OWN_KB


def test_students_see_their_quota_on_every_node(ada: Vms) -> None:
    assert ada.fill("node01", "ada", "/home/ada/one", 5) == ""
    for name in ada.machines:
        done = ada.run_on(name, ["quota", "-w"], user="ada")
        assert re.search(r"\s5\d{3}\s+28672\s+30720\s", done.stdout), (name, done)
    assert ada.run_on("node01", ["quota", "-u", "ben"], user="ada").returncode != 0


def test_the_admin_sees_and_sets_quotas(ada: Vms, apply) -> None:
    assert ada.fill("node01", "ada", "/home/ada/one", 5) == ""
    done = ada.practicum("quota", "show", "--group", "students", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rows = {row.get("user"): row for row in told["quotas"]}
    assert rows["ada"]["hard_kb"] == 30 * 1024
    assert 5 * 1024 <= rows["ada"]["used_kb"] < 6 * 1024
    assert told["grace_seconds"] == 7 * 86400
    assert "ines" not in rows
    before = ada.toml.read_text()
    done = ada.practicum("quota", "set", "ada", "--hard", "60M", "--soft", "0")
    assert done.returncode == 0, done.stderr
    changed = ada.toml.read_text()
    write(ada.toml, before)
    apply(lambda _text: changed)
    assert ada.fill("node01", "ada", "/home/ada/two", 45) == ""
    one = ada.practicum("quota", "show", "ada").stdout
    assert re.search(r"ada\s+50 MB\s+-\s+60 MB", one), one


def test_a_full_disk_is_told_and_stops_nobody_for_good(ada: Vms) -> None:
    all_but_root_s = (
        "import os\n"
        "free = os.statvfs('/srv/practicum')\n"
        "with open('/srv/practicum/big', 'w') as big:\n"
        "    os.posix_fallocate(big.fileno(), 0, free.f_bavail * free.f_frsize)\n"
    )
    ada.check_on("head", ["python3", "-c", all_but_root_s])
    try:
        said = ada.fill("node01", "ada", "/home/ada/one", 5)
        assert "No space left on device" in said
        assert changes(ada.plan()) == []
    finally:
        ada.check_on("head", ["rm", "/srv/practicum/big"])
    assert ada.fill("node01", "ada", "/home/ada/one", 5) == ""


# -- a server that goes away


@pytest.mark.parametrize("way", ["reboot", "reset"])
def test_nothing_is_lost_when_the_server_starts_again_under_a_writer(ada: Vms, way: str) -> None:
    ended: list[object] = []
    command = ["python3", "-c", WRITER, "/home/ada/lines", "400"]
    writer = threading.Thread(
        target=lambda: ended.append(ada.run_on("node01", command, user="ada", timeout=600))
    )
    writer.start()
    ada.until("node01", ["cat", "/home/ada/lines"], lambda text: text.count("\n") > 20, user="ada")
    begun = time.monotonic()
    getattr(ada, way)("head")
    print(f"head was away for {time.monotonic() - begun:.0f} s")
    writer.join(timeout=600)
    assert ended, "the writer never ended"
    assert ended[0].returncode == 0, ended[0].stderr  # type: ignore[attr-defined]
    text = ada.check_on("head", ["cat", "/srv/practicum/home/ada/lines"])
    assert text == "".join(f"{number}\n" for number in range(400))


def test_a_server_without_its_disk_serves_nothing(store: Vms) -> None:
    """Not the empty folder below: people would write where nothing stays."""
    table = store.check_on("head", ["cat", "/etc/fstab"])
    gone = re.sub(r"UUID=[0-9a-f]{8}(\S+\s+/srv/practicum)", r"UUID=00000000\1", table)
    assert gone != table
    gone = gone.replace("x-systemd.device-timeout=300s", "x-systemd.device-timeout=5s")
    store.check_on("head", ["systemctl", "stop", "nfs-server"])
    store.check_on("head", ["umount", "/home", "/nfs", "/srv/practicum"])
    try:
        store.check_on("head", ["tee", "/etc/fstab"], input=gone)
        store.check_on("head", ["systemctl", "daemon-reload"])
        assert store.run_on("head", ["systemctl", "start", "nfs-server"]).returncode != 0
        state = store.run_on("head", ["systemctl", "is-active", "nfs-server"]).stdout
        assert state.strip() == "inactive"
    finally:
        store.check_on("head", ["tee", "/etc/fstab"], input=table)
        store.check_on("head", ["systemctl", "daemon-reload"])
        for place in ("/srv/practicum", "/home", "/nfs"):
            store.check_on("head", ["mount", place])
        store.check_on("head", ["systemctl", "start", "nfs-server"])
    assert changes(store.plan()) == []


def test_shutdown_switches_the_file_server_off_last(ada: Vms) -> None:
    """And all comes back when the machines are switched on again, in any order."""
    ada.until_idle()
    ada.check_on("node01", ["ls", "/home/ada"], user="ada")  # it has something to unmount
    ended: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ada.practicum, "shutdown", "--yes")
        deadline = time.monotonic() + 900
        while len(ended) < len(ada.machines) and time.monotonic() < deadline:
            for name, machine in ada.machines.items():
                if name not in ended and machine.process() is None:
                    ended.append(name)
            if asked.done() and asked.result().returncode != 0:
                break
            time.sleep(0.2)
        done = asked.result()
    try:
        assert done.returncode == 0, done.stderr
        assert ended == ["node01", "head"], done.stderr
    finally:
        for name in ada.machines:
            ada.close(name)
        ada.power_on("node01", wait=False)  # it has to wait for its homes
        ada.power_on("head")
        ada.power_on("node01")
    ada.until_idle()
    ada.check_on("node01", ["touch", "/home/ada/after"], user="ada")
    # closed while all went off
    assert set(ada.check_on("head", ["sinfo", "-h", "-a", "-o", "%a"]).split()) == {"up"}


def test_a_client_lets_go_of_a_server_that_is_away(ada: Vms) -> None:
    """Also while somebody has a file open there."""
    before = ada.toml.read_text()
    ada.check_on("node01", ["tee", "/home/ada/open"], user="ada", input="kept\n")
    hold = "exec 3< /home/ada/open; exec sleep 900 > /dev/null 2>&1 &"
    ada.check_on("node01", ["sh", "-c", hold], user="ada")
    ada.power_off("head")
    try:
        write(ada.toml, unserved(before))
        begun = time.monotonic()
        result = ada.try_apply("node01")
        print(f"let go after {time.monotonic() - begun:.0f} s")
        assert "node01" not in result.errors, result.errors
        mounts = ada.check_on("node01", ["cat", "/proc/mounts", "/etc/fstab"])
        assert not re.search(r"\s(/home|/nfs)\s", mounts), mounts
    finally:
        write(ada.toml, before)
        ada.run_on("node01", ["pkill", "--euid", "ada", "sleep"])
        ada.power_on("head")
    ada.apply()
    assert ada.check_on("node01", ["cat", "/home/ada/open"], user="ada") == "kept\n"
