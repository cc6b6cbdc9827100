"""[[groups]] and [[users]]."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem, repeated, unknown
from cluster.model import Cluster

# Accounts of Debian's and Ubuntu's base system (base-passwd), of the packages that practicum
# installs, and practicum's own.
RESERVED_NAMES = frozenset(
    """root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody
    nogroup systemd-network systemd-resolve systemd-timesync messagebus sshd polkitd mysql munge
    slurm practicum practicum-hub adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio
    dip operator src shadow utmp video sasl plugdev staff users input sgx kvm render crontab
    netdev systemd-journal statd rpc""".split()
)


def groups(cluster: Cluster) -> Iterator[Problem]:
    yield from repeated((group.name for group in cluster.groups), ("groups",), "name", "the name")
    yield from repeated((group.gid for group in cluster.groups), ("groups",), "gid", "gid")
    for index, group in enumerate(cluster.groups):
        if group.name in RESERVED_NAMES:
            yield Problem(("groups", index, "name"), f"{group.name} belongs to the system")


def way_in(cluster: Cluster) -> Iterator[Problem]:
    """The account that practicum logs in with has root's rights: never a student's."""
    students = set(cluster.groups_with("student"))
    for user in cluster.users:
        if user.name == cluster.ssh.user and students.intersection(user.groups):
            yield Problem(
                ("ssh", "user"),
                f"{user.name} is a student, and this account needs root's rights: take root or an "
                "admin's",
            )


def users(cluster: Cluster) -> Iterator[Problem]:
    yield from repeated((user.name for user in cluster.users), ("users",), "name", "the name")
    yield from repeated((user.uid for user in cluster.users), ("users",), "uid", "uid")
    known = [group.name for group in cluster.groups]
    for index, user in enumerate(cluster.users):
        if user.name in RESERVED_NAMES:
            yield Problem(("users", index, "name"), f"{user.name} belongs to the system")
        if len(set(user.groups)) < len(user.groups):
            yield Problem(("users", index, "groups"), "a group is listed twice")
        for place, group in enumerate(user.groups):
            if group not in known:
                yield Problem(("users", index, "groups", place), unknown(group, known, "group"))
