"""Storage: which disk, what is exported to whom, who gets how much, and what is refused."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from importlib import resources as package_files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_roles import BOARD, SECRETS, small

from cluster.checks import check
from cluster.errors import PracticumError
from cluster.model import Cluster
from provisioning.agent.disks import homes, mounted, read_lsblk
from provisioning.facts import Facts
from provisioning.resources import Command, Line, Mount
from provisioning.role import Context, declare
from provisioning.roles import ROLES, disk, nfs, quota
from provisioning.roles.storage import ROLES as STORAGE_ROLES

GB = 10**9
EMPTY = {"name": "vdb", "path": "/dev/vdb", "kind": "disk", "serial": "DATA", "size": 1800 * GB}
FULL = {
    "name": "vdc", "path": "/dev/vdc", "kind": "disk", "serial": "FULL", "size": 64_000_000,
    "fstype": "ext4", "label": "photos", "uuid": "aa-bb",
}  # fmt: skip
ROOT = {
    "name": "vda",
    "path": "/dev/vda",
    "kind": "disk",
    "serial": "",
    "size": 8 * GB,
    "table": "gpt",
}
ROOT1 = {
    "name": "vda1", "path": "/dev/vda1", "kind": "part", "parent": "vda", "size": 8 * GB,
    "partuuid": "0b-01", "fstype": "ext4", "mounts": ["/"], "uuid": "cc-dd",
}  # fmt: skip
DISKS = (ROOT, ROOT1, EMPTY, FULL)
SERVER = replace(BOARD, disks=DISKS, kernel_can=("nfs", "nfsd", "quota"))
GIGS = [{"group": "students", "soft_mb": 900, "hard_mb": 1000, "hard_files": 5000}]


def cluster(disk: dict[str, Any] | None = None, **storage: Any) -> Cluster:
    table = {"provider": "nfs", "quotas": True, "disk": disk or {"serial": "DATA", "format": True}}
    return small(storage={**table, **storage}, quotas=GIGS)


def built(node: str, made: Cluster, facts: Facts = SERVER, **secrets: str) -> dict[str, Any]:
    everyone = {one.name: facts for one in made.machines}
    context = Context(made, made.node(node), everyone, {**SECRETS, **secrets})
    declared = declare(STORAGE_ROLES, context)
    return {item.key: item for _stage, items in declared.stages for item in items}


def refusal(made: Cluster, facts: Facts = SERVER, node: str = "login") -> str:
    with pytest.raises(PracticumError) as error:
        built(node, made, facts)
    return str(error.value)


def problems(made: Cluster) -> list[str]:
    return [f"{'.'.join(map(str, one.place))}: {one.text}" for one in check(made)]


# -- the disk


def test_an_empty_disk_is_formatted_only_with_its_name_typed() -> None:
    command = built("login", cluster())["command:storage-format"]
    assert isinstance(command, Command)
    assert command.summary == "format disk DATA, 1.8 TB, which is empty (ext4)"
    assert command.run[-2:] == ("--serial=DATA", "--confirmed=")
    typed = built("login", cluster(), **{disk.CONFIRMED: "DATA"})["command:storage-format"]
    assert typed.run[-1] == "--confirmed=DATA"


def test_a_disk_that_practicum_formatted_is_mounted_and_not_formatted_again() -> None:
    known = {**EMPTY, "fstype": "ext4", "uuid": disk.wanted_uuid(cluster().storage.disk)}
    found = built("login", cluster(), replace(SERVER, disks=(ROOT, ROOT1, known)))
    assert "command:storage-format" not in found
    mount = found["mount:/srv/practicum"]
    assert isinstance(mount, Mount)
    assert mount.source == f"UUID={known['uuid']}"
    assert {"usrquota", "grpquota", "nofail", "nosuid"} <= set(mount.options.split(","))


@pytest.mark.parametrize(
    ("named", "changes", "sentence"),
    [
        (
            {"serial": "DATB"},
            {},
            "no disk with serial DATB; it has vda (no name, 8.0 GB, 1 partition",
        ),
        ({"serial": "DATB"}, {}, "vdc (serial FULL, 64 MB, ext4 'photos')"),
        (
            {"serial": "FULL", "format": True},
            {},
            "is not formatted, since it has ext4 'photos' on it",
        ),
        ({"serial": "DATA"}, {}, "is empty: add format = true"),
        ({"serial": "DATA", "format": True}, {"table": "gpt"}, "a partition table (gpt)"),
        ({"serial": "DATA", "format": True}, {"readonly": True}, "read-only"),
        ({"serial": "DATA"}, {"fstype": "ntfs"}, "has ntfs on it: name a disk"),
        ({"serial": "DATA"}, {"fstype": "xfs"}, "storage.quotas needs ext4"),
        ({"partuuid": "0B-01"}, {}, "is mounted at /: unmount it"),
        ({"serial": "FULL"}, {"serial": "FULL"}, "vdb and vdc of login both have serial FULL"),
    ],
)
def test_a_disk_that_cannot_be_used_is_one_sentence(
    named: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    facts = replace(SERVER, disks=(ROOT, ROOT1, {**EMPTY, **changes}, FULL))
    said = refusal(cluster(named), facts)
    assert sentence in said
    assert "\n" not in said


def test_a_disk_with_partitions_is_not_formatted_and_its_only_one_is_used() -> None:
    part = {
        **FULL,
        "name": "vdb1",
        "path": "/dev/vdb1",
        "kind": "part",
        "parent": "vdb",
        "serial": "",
    }
    facts = replace(SERVER, disks=(ROOT, ROOT1, EMPTY, part))
    assert "1 partition (vdb1 ext4)" in refusal(cluster(), facts)
    found = built("login", cluster({"serial": "DATA"}), facts)
    assert found["mount:/srv/practicum"].source == "UUID=aa-bb"
    assert "command:storage-quota-feature" in found


def test_the_file_systems_name_depends_on_the_disk_alone() -> None:
    one, other = cluster(), cluster(home="/homes")
    assert disk.wanted_uuid(one.storage.disk) == disk.wanted_uuid(other.storage.disk)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (64_000_000, "64 MB"), (1_073_741_824, "1.1 GB"),
     (1_800_000_000_000, "1.8 TB"), (999_999_999_999, "1.0 TB"), (120_034_123_776, "120 GB")],
)  # fmt: skip
def test_sizes_are_as_disks_are_sold(size: int, text: str) -> None:
    assert disk.human(size) == text


def test_lsblk_is_read_without_loops_and_cd_drives() -> None:
    row = {
        "name": "vdb", "pkname": None, "path": "/dev/vdb", "type": "disk", "serial": "DATA ",
        "partuuid": None, "uuid": None, "fstype": None, "label": None, "pttype": None,
        "size": 1073741824, "ro": False, "model": None, "mountpoints": [None],
    }  # fmt: skip
    text = json.dumps({"blockdevices": [row, {**row, "type": "loop"}, {**row, "type": "rom"}]})
    (found,) = read_lsblk(text)
    assert (found["serial"], found["mounts"], found["fstype"]) == ("DATA", [], "")


# -- the server and its clients


def test_exports_go_to_the_network_squashed_and_to_the_admin_host_whole() -> None:
    made = small(storage={"provider": "nfs", "disk": {"serial": "DATA"}, "root_nodes": ["node01"]})
    line = nfs.export_line(made, "/srv/practicum/home")
    common = "rw,sync,no_subtree_check,mountpoint=/srv/practicum"
    assert line == (
        f"/srv/practicum/home 10.0.0.11({common},no_root_squash) 10.0.0.0/24({common},root_squash)"
    )


def test_turning_quotas_off_takes_them_away() -> None:
    """The file system would hold people to the old ones."""
    off = small(storage={"provider": "nfs", "disk": {"serial": "DATA", "format": True}})
    found = built("login", off, replace(SERVER, kernel_can=("nfs", "nfsd")))
    assert json.loads(found["file:/etc/practicum/quotas.json"].content)["users"] == {}
    assert found["command:quotas"].summary == "take all quotas away"
    assert "service:practicum-rquotad" not in found
    assert "service:practicum-rquotad" in built("login", cluster())


def test_the_server_itself_needs_no_exception() -> None:
    assert "no_root_squash" not in nfs.export_line(cluster(), "/srv/practicum/home")


def test_exports_lie_beside_each_other() -> None:
    paths = [path for path, _seen in nfs.shares(cluster())]
    assert not any(a != b and f"{a}/".startswith(f"{b}/") for a in paths for b in paths)


def test_only_version_4_1_is_served() -> None:
    assert "vers4.1=y" in nfs.CONF
    assert all(f"vers{one}=n" in nfs.CONF for one in ("3", "4.0", "4.2"))


def test_clients_mount_on_demand_and_wait_for_the_server() -> None:
    found = built("node01", cluster())
    mount = found["mount:/home"]
    assert mount.source == "login:/srv/practicum/home"
    wanted = {"_netdev", "x-systemd.automount", "nfsvers=4.1", "nosuid", "nodev", "hard"}
    assert wanted <= set(mount.options.split(","))
    assert "service:nfs-server" not in found
    assert "package:quota" in found


def test_the_server_binds_its_folders_and_serves_nothing_without_its_disk() -> None:
    found = built("login", cluster())
    assert found["mount:/home"].source == "/srv/practicum/home"
    assert (
        "RequiresMountsFor=/srv/practicum\n"
        in found["file:/etc/systemd/system/nfs-server.service.d/practicum.conf"].content.decode()
    )
    lines = [item for item in found.values() if isinstance(item, Line)]
    assert len(lines) == 2
    assert all(",mountpoint=/srv/practicum" in line.line for line in lines)


def test_mounts_are_in_the_order_in_which_they_need_each_other() -> None:
    mounts = [item.target for item in built("login", cluster()).values() if isinstance(item, Mount)]
    assert mounts == ["/srv/practicum", "/home", "/nfs"]


def test_containers_and_small_kernels_are_refused() -> None:
    boxed = replace(SERVER, container=True, disks=None)
    assert 'set storage.provider = "external"' in refusal(cluster(), boxed)
    assert "mounts no NFS" in refusal(cluster(), boxed, "node01")
    assert "no nfsd" in refusal(cluster(), replace(SERVER, kernel_can=("nfs", "quota")))
    assert "no quota" in refusal(cluster(), replace(SERVER, kernel_can=("nfs", "nfsd")))


def test_homes_in_use_are_not_hidden() -> None:
    pi = replace(SERVER, homes={"pi": "/home/pi"})
    ssh = {"user": "pi"}
    made = small(storage={"provider": "nfs"}, ssh=ssh)
    said = refusal(made, pi, "node01")
    assert "the SSH key that pi logs in by" in said
    assert "would hide" in refusal(made, replace(pi, mounted=("/home",)), "node01")  # a partition
    assert built("node01", made, replace(SERVER, mounted=("/home",)))  # of what is served, no facts
    assert built("login", made, replace(pi, mounted=("/home", "/nfs")))  # already so, and it works
    assert "would hide" in refusal(made, replace(pi, mounted=("/home",)))
    bound = {
        "name": "vda1",
        "path": "/dev/vda1",
        "kind": "part",
        "size": 1,
        "mounts": ["/", "/home"],
    }
    own = replace(SERVER, mounted=("/home", "/nfs"), disks=[*(SERVER.disks or ()), bound])
    first = refusal(cluster(), own)
    assert "files are in /srv/practicum of login" in first and "umount /home /nfs" in first
    # the disk is there; or was unmounted by hand, and the folders on it were not
    assert built("login", cluster(), replace(own, mounted=("/srv/practicum", "/home", "/nfs")))
    assert built("login", cluster(), replace(own, disks=SERVER.disks))
    ada = replace(SERVER, homes={"ada": "/home/ada", "pi": "/home/pi"})
    said = refusal(small(storage={"provider": "nfs"}), ada)
    assert "would hide the homes of ada on login" in said


def test_homes_are_made_where_the_disk_is() -> None:
    nodes = [
        {"name": "login", "address": "10.0.0.10", "roles": ["login", "controller", "database"]},
        {"name": "store", "address": "10.0.0.9", "roles": ["storage"]},
        {"name": "node01", "address": "10.0.0.11", "roles": ["compute"]},
    ]
    for provider, maker in (("nfs", "store"), ("external", "login")):
        made = small(nodes=nodes, storage={"provider": provider}, partitions=[])
        facts = {node.name: SERVER for node in made.machines}
        for node in made.machines:
            declared = declare(ROLES, Context(made, node, facts, SECRETS))
            found = {item.key: item for _stage, items in declared.stages for item in items}
            assert found["user:ada"].create_home == (node.name == maker)


def test_storage_is_there_before_people() -> None:
    made = cluster()
    facts = {node.name: SERVER for node in made.machines}
    declared = declare(ROLES, Context(made, made.node("login"), facts, SECRETS))
    keys = [item.key for _stage, items in declared.stages for item in items]
    assert keys.index("mount:/home") < keys.index("user:ada")


def test_facts_of_mounts_and_homes(tmp_path) -> None:
    local, remote = tmp_path / "ada", tmp_path / "away"
    local.mkdir()
    table = (
        "1 0 8:1 / / rw - ext4 /dev/vda1 rw\n"
        "2 1 0:4 / /proc/sys rw - proc proc rw\n"
        f"3 1 0:44 / {remote} rw - nfs4 s:/x rw\n"
    )
    assert mounted(table) == ["/", str(remote)]
    passwd = (
        f"root:x:0:0::/root:/bin/sh\nada:x:1001:1001::{local}:/bin/sh\n"
        f"ben:x:1002:1001::{remote}/ben:/bin/sh\ngone:x:1003:1::{tmp_path}/none:/bin/sh\n"
    )
    assert homes(passwd, table) == {"ada": str(local)}


# -- quotas

SCRIPT = runpy.run_path(
    str(package_files.files("provisioning.roles").joinpath("files", "quota.py"))
)
NUMBERS = st.integers(0, 1 << 40)
LIMITS = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)


def test_ones_own_line_counts_before_the_first_groups() -> None:
    made = small(
        groups=[{"name": "a", "gid": 2000}, {"name": "b", "gid": 2001}],
        users=[
            {"name": "ada", "uid": 3001, "groups": ["b", "a"]},
            {"name": "ben", "uid": 3002, "groups": ["b"]},
            {"name": "cleo", "uid": 3003, "groups": ["a"]},
        ],
        storage={"provider": "nfs", "quotas": True, "disk": {"serial": "XX"}},
        quotas=[
            {"group": "b", "whole_group": True, "hard_mb": 9},
            {"group": "a", "hard_mb": 1},
            {"group": "b", "hard_mb": 2},
            {"user": "cleo", "soft_files": 7},
        ],
    )
    assert quota.user_limits(made) == {
        3001: (0, 1024, 0, 0), 3002: (0, 2048, 0, 0), 3003: (0, 0, 7, 0),
    }  # fmt: skip
    assert quota.group_limits(made) == {2001: (0, 9216, 0, 0)}
    wanted = json.loads(quota.wanted(made))
    assert (wanted["grace"], wanted["folder"]) == (604800, "/srv/practicum")


def entry(limits: tuple[int, int, int, int]) -> dict[str, int]:
    names = ("soft_kb", "hard_kb", "soft_files", "hard_files")
    return dict(zip(names, limits, strict=True))


@given(
    st.dictionaries(st.integers(1000, 59999), LIMITS, max_size=8),
    st.dictionaries(st.integers(0, 65534), LIMITS, max_size=8),
)
def test_setting_quotas_reaches_what_is_wanted_and_then_rests(wanted, there) -> None:
    changes = SCRIPT["changes"]
    rows = {str(number): list(limits) for number, limits in wanted.items()}
    now = {number: entry(limits) for number, limits in there.items()}
    for number, limits in changes(rows, now):
        now[number] = entry(limits)
    assert list(changes(rows, now)) == []
    for number, limits in wanted.items():
        assert now.get(number, entry((0, 0, 0, 0))) == entry(limits)
    for number in there:
        if not 1000 <= number <= 59999:  # the system's
            assert now[number] == entry(there[number])
        elif number not in wanted:
            assert now[number] == entry((0, 0, 0, 0))


def test_the_script_finds_the_device_of_a_folder_with_blanks() -> None:
    table = "36 28 253:16 / /srv/my\\040disk rw,nosuid shared:1 - ext4 /dev/vdb rw,quota,usrquota,grpquota\n"
    device = SCRIPT["mount_of"]("/srv/my disk", table)
    assert device == "/dev/vdb"
    with pytest.raises(SCRIPT["RefusalError"], match="nothing is mounted at /srv"):
        SCRIPT["mount_of"]("/srv", table)


# -- cluster.toml


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ({"provider": "external", "quotas": True}, 'set provider = "nfs"'),
        ({"quotas": True}, "need a disk of their own"),
        ({"disk": {}}, "needs either serial or partuuid"),
        ({"disk": {"serial": "AA", "partuuid": "b-01"}}, "needs either serial or partuuid"),
        ({"root_nodes": ["nod01"]}, "did you mean node01"),
        ({"folder": "/home/disk"}, "/home/disk lies in home (/home)"),
        ({"home": "/nfs/home"}, "lies in shared"),
        ({"scratch": "/tmp"}, "/tmp is the system's own"),
        ({"scratch": "/var/tmp/x"}, "is the system's own"),
        ({"folder": "/srv"}, "/srv is the system's own"),
        ({"scratch": "/var/lib/mysql"}, "/var/lib/mysql is the system's own"),
        ({"scratch": "/root/x"}, "is the system's own"),
        ({"scratch": "/usr/x"}, "is the system's own"),
        ({"scratch": "/opt/practicum/x"}, "is the system's own"),
        ({"scratch": "/nfs/scratch"}, "lies in shared"),
        ({"quota_grace": "00:00"}, "longer than 0"),
    ],
)
def test_storage_that_cannot_work_is_told(storage: dict[str, Any], sentence: str) -> None:
    made = small(storage={"provider": "nfs", **storage})
    assert any(sentence in text for text in problems(made)), problems(made)


def test_external_storage_may_lie_in_one_share() -> None:
    made = small(storage={"home": "/nfs/home"})
    assert not [text for text in problems(made) if text.startswith("storage")]


@pytest.mark.parametrize(
    ("quotas", "sentence"),
    [
        ([{"hard_mb": 1}], "needs either user or group"),
        ([{"user": "ada", "group": "students"}], "needs either user or group"),
        ([{"user": "adda"}], "there is no user adda (did you mean ada?)"),
        ([{"group": "pupils"}], "there is no group pupils"),
        ([{"user": "ada"}, {"user": "ada"}], "ada already has quotas[0]"),
        ([{"user": "ada", "whole_group": True}], "goes with group"),
        ([{"user": "ada", "soft_mb": 2, "hard_mb": 1}], "2 is more than hard_mb = 1"),
    ],
)
def test_quotas_that_cannot_work_are_told(quotas: list[dict[str, Any]], sentence: str) -> None:
    made = small(
        storage={"provider": "nfs", "quotas": True, "disk": {"serial": "XX"}}, quotas=quotas
    )
    assert any(sentence in text for text in problems(made)), problems(made)


def test_quotas_that_nobody_counts_are_told() -> None:
    assert any("set quotas = true" in text for text in problems(small(quotas=GIGS)))


def test_a_server_is_needed_and_only_one() -> None:
    nodes = [
        {"name": "login", "address": "10.0.0.10", "roles": ["login", "controller", "database"]},
        {"name": "node01", "address": "10.0.0.11", "roles": ["compute"]},
    ]
    made = small(nodes=nodes, storage={"provider": "nfs"})
    assert any('add "storage" to one' in text for text in problems(made))
    both = [{**node, "roles": [*node["roles"], "storage"]} for node in nodes]
    made = small(nodes=both, storage={"provider": "nfs"})
    assert any("one file server" in text for text in problems(made))
