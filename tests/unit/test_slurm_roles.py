"""Slurm's roles: what slurm.conf says of limits and boards, which releases live together, who gets
in where a log-in needs a job, and accounting's wants."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_roles import BOARD, FACTS, SECRETS, small

from cluster.errors import PracticumError
from cluster.model import Cluster
from provisioning.facts import Facts, release
from provisioning.health.limits import memory_limits
from provisioning.health.model import Look, Picture
from provisioning.resources import Command, File, Line, Resource, Service
from provisioning.role import Context, declare
from provisioning.roles import ROLES
from provisioning.roles.files.boot_line import edited, main
from provisioning.roles.files.check_slurm_conf import lost
from provisioning.roles.slurm import mpi_conf
from provisioning.roles.slurm_access import access_conf
from provisioning.roles.slurm_accounting import accounting
from provisioning.roles.slurm_conf import cgroup_conf, slurm_conf
from provisioning.roles.slurm_jobs import keep
from provisioning.roles.slurm_release import RELEASES, reads, refuse_jump, refuse_mixture

# A Pi whose firmware switched the memory cgroup off.
PI = replace(BOARD, cgroup_controllers="cpuset cpu io pids", boot_line="/boot/firmware/cmdline.txt")
GROUPS = [
    {"name": "students", "gid": 2000, "role": "student"},
    {"name": "admins", "gid": 2002, "role": "admin"},
]
USERS = [
    {"name": "ada", "uid": 3001, "groups": ["students"]},
    {"name": "ines", "uid": 3002, "groups": ["admins", "students"]},
]


def declared(
    node: str, cluster: Cluster | None = None, facts: dict[str, Facts] | None = None
) -> dict[str, Resource]:
    cluster = cluster or small()
    context = Context(cluster, cluster.node(node), facts or FACTS, SECRETS)
    stages = declare(ROLES, context).stages
    return {item.key: item for _stage, items in stages for item in items}


def test_partitions_have_their_limits() -> None:
    partitions = [
        {"name": "batch", "nodes": "ALL", "default": True, "max_nodes": 2, "priority": 7,
         "groups": ["students"], "qos": "short"},
    ]  # fmt: skip
    text = slurm_conf(small(partitions=partitions, qos=[{"name": "short"}]), FACTS)
    line = next(row for row in text.splitlines() if row.startswith("PartitionName=batch"))
    for word in ("MaxNodes=2", "PriorityJobFactor=7", "AllowGroups=students", "QOS=short"):
        assert f" {word} " in line
    assert "PriorityTier" not in text  # partitions of unlike tiers would not share cores
    assert "GroupUpdateTime=60" in text


def test_login_nodes_are_in_no_partition_and_heads_come_last() -> None:
    nodes = [
        {"name": "head", "address": "10.0.0.10",
         "roles": ["login", "controller", "database", "compute"]},
        {"name": "door", "address": "10.0.0.9", "roles": ["login"]},
        {"name": "node01", "address": "10.0.0.11", "roles": ["compute"]},
    ]  # fmt: skip
    partitions = [{"name": "batch", "nodes": "ALL", "default": True}]
    text = slurm_conf(small(nodes=nodes, partitions=partitions), {"head": BOARD, "node01": BOARD})
    assert "NodeName=door" not in text
    assert "Nodes=head,node01" in text
    weights = {row.split()[0]: "Weight=100" in row for row in text.splitlines() if "Weight=" in row}
    assert weights == {"NodeName=head": True, "NodeName=node01": False}


def test_a_board_without_memory_limits_waits_for_its_restart_and_spoils_nobody_elses() -> None:
    facts = {**FACTS, "node02": PI}
    text = slurm_conf(small(), facts)
    assert "ProctrackType=proctrack/cgroup" in text
    assert "ConstrainRAMSpace=yes" in cgroup_conf(small(), facts)
    rows = [row for row in text.splitlines() if row.startswith("NodeName=")]
    assert ["State=DOWN" in row for row in rows] == [False, True]
    there = declared("node02", facts=facts)
    slurmd = there["service:slurmd"]
    assert isinstance(slurmd, Service)
    assert (slurmd.enabled, slurmd.running) == (True, False)
    edit = there["command:memory-cgroup"]
    assert isinstance(edit, Command)
    assert edit.run[-3:] == (PI.boot_line, "cgroup_enable=memory", "cgroup_memory=1")
    assert "restart" in edit.summary
    assert "command:memory-cgroup" not in declared("node01", facts=facts)


def test_pmix_waits_by_the_ring_where_it_is_what_steps_start_with() -> None:
    key = "file:/etc/slurm/mpi.conf"
    (conf,) = [one for one in mpi_conf(small()) if one.key == key]
    assert isinstance(conf, File)
    assert conf.content == b"PMIxCollFence=ring\n"
    assert mpi_conf(small(slurm={"mpi_default": "pmi2"})) == []
    assert key in declared("login")
    assert key not in declared("node01")  # it fetches it


def test_slurmd_finds_dbus_where_it_makes_cgroups() -> None:
    assert "package:dbus" in declared("node01")
    contained = dict.fromkeys(FACTS, replace(BOARD, container=True))
    assert "package:dbus" not in declared("node01", facts=contained)


def test_scripts_around_jobs_are_on_every_compute_node_and_there_alone() -> None:
    for name in ("slurm-prolog", "slurm-epilog", "slurm-taskprolog", "slurm-health"):
        key = f"file:/usr/local/lib/practicum/{name}"
        script = declared("node01")[key]
        assert isinstance(script, File)
        assert (script.mode, script.owner) == (0o755, "root")
        assert key not in declared("login")
    cluster = small(slurm={"health_check": False})
    assert "HealthCheckProgram" not in slurm_conf(cluster, FACTS)


def test_the_epilog_leaves_admins_and_login_nodes_alone() -> None:
    cluster = small(groups=GROUPS, users=USERS, ssh={"user": "pi"})
    assert keep(cluster, cluster.node("node01")) == "root\npi\nines\n"
    assert keep(cluster, cluster.node("login")) == "*\n"


def test_where_a_login_needs_a_job_the_admin_is_asked_for_first() -> None:
    cluster = small(groups=GROUPS, users=USERS, ssh={"user": "pi"}, slurm={"ssh_needs_job": True})
    assert access_conf(cluster) == "+:root:ALL\n+:pi:ALL\n+:(admins):ALL\n-:ALL:ALL\n"
    there = list(declared("node01", cluster).values())
    lines = [n for n, r in enumerate(there) if isinstance(r, Line) and r.path == "/etc/pam.d/sshd"]
    asked = next(n for n, r in enumerate(there) if r.key == "command:admin-gets-in")
    rules = next(n for n, r in enumerate(there) if r.key == "file:/etc/pam.d/practicum-job-account")
    assert len(lines) == 2
    assert rules < asked < min(lines)
    check = there[asked]
    assert isinstance(check, Command)
    assert check.check == check.run
    assert check.check[-3:] == ("root", "pi", "ines")  # whoever is let in without a job
    content = there[rules]
    assert isinstance(content, File)
    order = content.content.decode().splitlines()
    assert "sufficient pam_access" in order[0]
    assert "required pam_slurm_adopt" in order[1]
    assert "PrologFlags=Contain" in slurm_conf(cluster, FACTS)


@pytest.mark.parametrize("facts", [replace(BOARD, container=True), replace(BOARD, cgroup="hybrid")])
def test_without_cgroups_of_ones_own_logins_stay_as_they_are(facts: Facts) -> None:
    cluster = small(slurm={"ssh_needs_job": True})
    everywhere = dict.fromkeys(FACTS, facts)
    there = declared("node01", cluster, everywhere)
    assert not [key for key in there if "pam" in key]
    assert "Contain" not in slurm_conf(cluster, everywhere)


def test_login_nodes_never_need_a_job() -> None:
    nodes = [
        {"name": "login", "address": "10.0.0.10",
         "roles": ["login", "controller", "database", "compute"]},
        {"name": "node01", "address": "10.0.0.11", "roles": ["compute"]},
    ]  # fmt: skip
    partitions = [{"name": "batch", "nodes": "ALL", "default": True}]
    cluster = small(nodes=nodes, partitions=partitions, slurm={"ssh_needs_job": True})
    assert not [key for key in declared("login", cluster) if "/etc/pam.d/practicum-job" in key]
    assert [key for key in declared("node01", cluster) if "/etc/pam.d/practicum-job" in key]


def test_slurm_conf_is_tried_before_it_counts() -> None:
    conf = declared("login")["file:/etc/slurm/slurm.conf"]
    assert isinstance(conf, File)
    assert conf.validate == ("/usr/local/lib/practicum/check_slurm_conf.py", "{}")


def test_mail_only_if_it_is_wanted() -> None:
    assert "MailProg=/bin/true" in slurm_conf(small(), FACTS)
    cluster = small(slurm={"mail": True})
    assert "MailProg=/usr/local/lib/practicum/slurm-mail" in slurm_conf(cluster, FACTS)
    assert "file:/usr/local/lib/practicum/slurm-mail" in declared("login", cluster)


# Slurm's releases


@pytest.mark.parametrize(
    ("new", "old", "fine"),
    [
        ("22.05", "22.05", True),
        ("23.11", "22.05", True),  # Debian 12's to Ubuntu 24.04's
        ("24.11", "23.11", True),
        ("24.11", "23.02", True),  # three since 24.11
        ("24.11", "22.05", False),  # Debian 12's to Debian 13's
        ("24.05", "22.05", False),
        ("22.05", "23.11", False),  # never back
        ("99.11", "22.05", True),  # unknown here
    ],
)
def test_which_releases_read_which(new: str, old: str, fine: bool) -> None:
    assert reads(new, old) is fine


def test_releases_are_in_order() -> None:
    assert list(RELEASES) == sorted(RELEASES)
    assert [release(text) for text in ("22.05.8-4+deb12u3", "1:24.11.5-4", "", "x")] == [
        "22.05", "24.11", "", "",
    ]  # fmt: skip


def test_an_upgrade_that_jumps_too_far_is_refused_with_a_way_on() -> None:
    jumped = replace(BOARD, slurm_database="22.05.8", packages={"slurmdbd": "24.11.5-4"})
    with pytest.raises(
        PracticumError, match=r"login has Slurm 24\.11, .* of Slurm 22\.05; .*23\.0"
    ):
        refuse_jump("login", jumped)
    back = replace(BOARD, slurm_database="24.11.5", packages={"slurmdbd": "22.05.8"})
    with pytest.raises(PracticumError, match=r"install Slurm 24\.11 or later"):
        refuse_jump("login", back)
    refuse_jump("login", replace(jumped, slurm_database="23.11.4"))
    refuse_jump("login", BOARD)  # nothing there yet


def test_nodes_of_releases_too_far_apart_are_refused() -> None:
    old, new = replace(BOARD, os_codename="bookworm"), replace(BOARD, os_codename="trixie")
    refuse_mixture(small(), "node01", {"login": old, "node01": old})
    with pytest.raises(
        PracticumError, match=r"node01 .* Slurm 24\.11, and the controller login 22"
    ):
        refuse_mixture(small(), "node01", {"login": old, "node01": new})
    with pytest.raises(PracticumError, match=r"works with 23\.02 to 24\.11"):
        refuse_mixture(small(), "node01", {"login": new, "node01": old})
    installed = replace(old, packages={"slurmd": "24.11.5-4"})  # from elsewhere
    refuse_mixture(small(), "node01", {"login": new, "node01": installed})


# Accounting


def test_accounts_have_their_members_and_everyone_the_first_qos() -> None:
    cluster = small(
        groups=GROUPS,
        users=USERS,
        qos=[{"name": "short", "max_time": "01:00:30", "max_cpus_per_user": 8}, {"name": "long"}],
        accounts=[
            {"name": "class", "shares": 3},
            {"name": "hpc", "groups": ["admins"], "qos": ["long", "short"], "coordinators": ["ada"],
             "max_cpu_minutes": 60},
        ],
    )  # fmt: skip
    wanted = json.loads(accounting(cluster))
    assert wanted["users"] == {
        "ada": ["class", "hpc"],  # as coordinator
        "ines": ["class", "hpc"],
        "practicum-hub": ["class"],
        "practicum-build": ["class"],
    }
    assert wanted["accounts"]["class"] == {
        "share": 3, "cpu_minutes": 0, "qos": ["short"], "coordinators": [],
    }  # fmt: skip
    assert wanted["accounts"]["hpc"]["qos"] == ["long", "short"]  # in order: the first is default
    assert wanted["qos"]["short"]["maxwall"] == 61  # whole minutes, never fewer


# What `practicum status` says of a board whose limits are off


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (BOARD, ()),
        (PI, ("off on node01 until it is restarted", "practicum node reboot node01")),
        (replace(PI, boot_line=""), ("kernel of node01", "cgroup_enable=memory")),
    ],
)
def test_a_board_without_memory_limits_is_named(facts: Facts, words: tuple[str, ...]) -> None:
    looks = {"login": Look(facts=PI), "node01": Look(facts=facts)}  # login computes nothing
    found = list(memory_limits(Picture(small(), looks, {})))
    assert bool(found) is bool(words)
    assert all(word in found[0].text for word in words)


# The boot command line


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_the_boot_line_stays_one_line_with_its_words(line: str) -> None:
    words = ["cgroup_enable=memory", "cgroup_memory=1"]
    once = edited(f"{line}\n", words)
    assert once.count("\n") == 1
    assert once.split()[: len(line.split())] == line.split()
    assert set(words) <= set(once.split())
    assert edited(once, words) == once


def test_the_boot_line_is_kept_as_it_was_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / "cmdline.txt"
    path.write_text("console=tty1 root=PARTUUID=1-02 rootwait")  # Pi OS writes no line end
    words = [str(path), "cgroup_enable=memory"]
    assert main(["--check", *words]) == 1
    assert main(words) == 0
    assert path.read_text() == "console=tty1 root=PARTUUID=1-02 rootwait cgroup_enable=memory\n"
    assert (tmp_path / "cmdline.txt.before-practicum").read_text().endswith("rootwait")
    assert main(["--check", *words]) == 0


# What a new slurm.conf would end


def test_jobs_that_a_change_would_end_are_named() -> None:
    old = slurm_conf(small(), FACTS)
    rows = [
        ["7", "ada", "RUNNING", "batch", "node01", ""],
        ["8", "ben", "PENDING", "notebook,batch", "", "node02"],
        ["9", "ben", "PENDING", "notebook", "", ""],
    ]
    assert lost(old, old, rows) == []
    without = old.replace("NodeName=node02", "NodeName=node09")
    assert lost(old, without, rows) == [
        "node02 leaves the cluster, with jobs 8 of ben (waits for it)"
    ]
    other = old.replace("NodeName=node01 NodeAddr=10.0.0.11 CPUs=4", "NodeName=node01 CPUs=2")
    assert lost(old, other, rows) == ["node01 has other cores than before, with jobs 7 of ada"]
    less = old.replace("PartitionName=notebook", "PartitionName=note")
    assert lost(old, less, rows) == ["partition notebook goes, with jobs 8 of ben, 9 of ben"]
    memory = old.replace("RealMemory=3610", "RealMemory=3000")  # Slurm itself takes that well
    assert lost(old, memory, rows) == []
