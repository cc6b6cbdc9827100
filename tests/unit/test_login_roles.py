"""What the first machine of a cluster does for the others and against strangers: its database's
memory, its clock, its logs, and who is banned."""

from __future__ import annotations

import configparser
from dataclasses import replace
from typing import Any

import pytest
from test_roles import BOARD, SECRETS, small

from cluster.model import Cluster
from provisioning.facts import Facts
from provisioning.resources import File, Package, Service
from provisioning.role import Context, declare
from provisioning.roles import ROLES
from provisioning.roles.slurmdbd import mariadb_conf


def built(node: str, made: Cluster | None = None, facts: Facts = BOARD) -> dict[str, Any]:
    made = made or small()
    everyone = {one.name: facts for one in made.machines}
    stages = declare(ROLES, Context(made, made.node(node), everyone, SECRETS)).stages
    return {one.key: one for _stage, found in stages for one in found}


def text(one: Any) -> str:
    """A File's."""
    return bytes(one.content).decode()


# -- MariaDB


def values(content: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read_string(content)
    return dict(parser["mysqld"])


@pytest.mark.parametrize(
    ("memory_mb", "pool"), [(0, 64), (900, 90), (3800, 380), (7800, 780), (256_000, 4096)]
)
def test_the_database_takes_a_tenth_of_the_memory(memory_mb: int, pool: int) -> None:
    assert values(mariadb_conf(memory_mb))["innodb_buffer_pool_size"] == f"{pool}M"


def test_the_database_is_what_slurm_asks_for_and_heard_here_alone() -> None:
    made = built("login")
    found = values(text(made["file:/etc/mysql/mariadb.conf.d/60-practicum.cnf"]))
    assert found["bind-address"] == "127.0.0.1"
    assert int(found["innodb_lock_wait_timeout"]) >= 900
    assert "file:/etc/mysql/mariadb.conf.d/60-practicum.cnf" not in built("node01")
    assert "StoragePass" not in text(made["file:/etc/slurm/slurmdbd.conf"])  # known by its socket
    assert made["file:/etc/slurm/slurmdbd.conf"].mode == 0o600


# -- time

ORDER = "file:/etc/systemd/system/munge.service.d/practicum-time.conf"


def test_the_login_node_serves_the_time_and_the_others_follow_it() -> None:
    conf = "file:/etc/chrony/conf.d/practicum.conf"
    serves, follows = built("login")[conf], built("node01")[conf]
    assert "allow 10.0.0.0/24" in text(serves)
    assert "server 10.0.0.10 iburst" in text(follows)
    assert "restart:chrony" in follows.notify
    boxed = built("node01", facts=replace(BOARD, container=True))
    assert conf not in boxed  # it has its host's clock


def test_munge_waits_for_the_time_where_no_clock_keeps_it() -> None:
    pi = built("node01", facts=replace(BOARD, clock=False))
    assert "After=time-sync.target" in text(pi[ORDER])
    assert any("chrony-wait" in key for key in pi)
    assert ORDER not in built("node01", facts=replace(BOARD, clock=True))


# -- commands at a time


def test_nobody_but_admins_has_commands_run_outside_the_limits() -> None:
    for path in ("file:/etc/cron.allow", "file:/etc/at.allow"):
        assert text(built("login")[path]) == "root\n"
        assert path not in built("node01")
        needs_job = small(slurm={"ssh_needs_job": True}, ssh={"user": "pi"})
        assert text(built("node01", needs_job)[path]) == "root\npi\n"


# -- logs


def test_slurms_logs_are_turned_over_on_every_node() -> None:
    for node in ("login", "node01"):
        wanted = text(built(node)["file:/etc/logrotate.d/practicum-slurm"])
        assert "SIGUSR2" in wanted  # SIGHUP would read slurm.conf again
        assert "copytruncate" not in wanted
        assert "package:logrotate" in built(node)


# -- strangers


def test_who_guesses_passwords_is_banned_and_the_clusters_nodes_never() -> None:
    outside = small()  # fail2ban's table is its own: it needs no firewall of ours
    made = built("login", outside, replace(BOARD, ssh_port=2222))
    jail = made["file:/etc/fail2ban/jail.d/practicum.local"]
    parser = configparser.ConfigParser()
    parser.read_string(text(jail))
    ignored = parser["DEFAULT"]["ignoreip"].split()
    assert {node.address for node in outside.machines} <= set(ignored)
    assert parser["sshd"]["enabled"] == "true"
    assert parser["sshd"]["port"] == "2222"
    assert parser["DEFAULT"]["ignorecommand"].endswith(
        '--grep="^Accepted publickey for root from <ip> "'
    )
    assert isinstance(made["package:nftables"], Package)
    assert isinstance(made["package:fail2ban"], Package)
    assert isinstance(made["service:fail2ban"], Service)
    assert jail.notify == ("restart:fail2ban",)
    assert not any(key.startswith("file:/etc/fail2ban/") for key in built("node01", outside))


def test_every_file_of_these_is_roots_to_write() -> None:
    for one in built("login").values():
        if isinstance(one, File) and one.path.startswith(("/etc/mysql/", "/etc/chrony/")):
            assert one.owner == "root"
            assert not one.mode & 0o022
