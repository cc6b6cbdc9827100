"""Accounts that are no longer declared, on real nodes."""

from __future__ import annotations

import pytest
from bare_nodes import FIRST, Nodes, role

from provisioning.resources import Group, Resource, User, file

pytestmark = pytest.mark.lab


def test_the_account_that_practicum_logs_in_with_is_not_closed(nodes: Nodes) -> None:
    boss = [
        Group(group="boss", gid=3005),
        User(user="boss", uid=3005, group="boss", home="/var/boss", shell="/bin/sh",
             create_home=True),
        file("/etc/sudoers.d/boss", "boss ALL=(ALL) NOPASSWD: ALL\n", mode=0o440),
    ]  # fmt: skip
    keys = (
        "install -d -o boss /var/boss/.ssh && "
        "install -o boss /root/.ssh/authorized_keys /var/boss/.ssh/"
    )
    ssh = nodes.cluster.ssh.model_copy(update={"user": "boss"})
    as_boss = nodes.cluster.model_copy(update={"ssh": ssh})
    try:
        made = nodes.apply(identity=boss)
        assert made.ok, made.errors
        nodes.out("sh", "-c", keys)
        refused = nodes.with_roles([role("identity", [boss[0], boss[2]])], [FIRST], as_boss)
        assert "would be closed, but you log in as boss" in refused.errors[FIRST]
        assert nodes.with_roles([role("identity", boss)], [FIRST], as_boss).ok
    finally:
        nodes.run_on(FIRST, ["userdel", "-r", "boss"])
        nodes.run_on(FIRST, ["groupdel", "boss"])


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_closed_account_opens_again_as_it_was(nodes: Nodes, by_hand: bool) -> None:
    """Also one that somebody had made before practicum came."""
    group = Group(group="class", gid=3000)
    zoe = User(user="zoe", uid=3001, group="class", home="/home/zoe", shell="/bin/sh")
    people: list[Resource] = [group, zoe]
    if by_hand:
        nodes.out("groupadd", "-g", "3000", "class")
        nodes.out("useradd", "-u", "3001", "-g", "class", "-d", zoe.home, "-s", zoe.shell, "zoe")

    def shadow() -> list[str]:
        return nodes.out("getent", "shadow", "zoe").split(":")

    try:
        first = nodes.apply(identity=people)
        assert first.ok, first.errors
        assert (first.changed == 0) == by_hand
        done = nodes.run_on(FIRST, ["chpasswd"], input="zoe:her-own-word\n")
        assert done.returncode == 0, done.stderr
        before = shadow()
        closed = nodes.apply(identity=[group])
        assert closed.ok, closed.errors
        assert shadow()[7] == "1"
        assert shadow()[1] == before[1]
        assert not nodes.apply(identity=[group]).changed
        assert nodes.apply(identity=people).changed == 1
        assert shadow() == before
        assert not nodes.apply(identity=people).changed
    finally:
        nodes.run_on(FIRST, ["userdel", "zoe"])
        nodes.run_on(FIRST, ["groupdel", "class"])
