"""[[groups]] and [[users]]."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem, repeated, unknown
from cluster.model import Cluster

# Accounts and groups of Debian's and Ubuntu's base systems, of packages that practicum installs,
# and practicum's own; and groups that are root's equals where they exist. Names that cannot be
# written in cluster.toml (_chrony, Debian-exim) need not be here.
RESERVED_NAMES = frozenset(
    """root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody
    nogroup systemd-network systemd-resolve systemd-timesync messagebus sshd polkitd mysql munge
    slurm practicum practicum-hub adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio
    dip operator src shadow utmp video sasl plugdev staff users input sgx kvm render crontab
    netdev systemd-journal statd rpc practicum-build apt-cacher-ng gnats syslog uuidd tcpdump dhcpcd
    landscape pollinate fwupd-refresh usbmux tss avahi dnsmasq nslcd postfix postdrop ssl-cert rdma
    bluetooth gpio i2c spi wheel docker lxd""".split()
)
# Of accounts that practicum and systemd make themselves: a course's grader and boxes among them,
# which are in no [[users]].
RESERVED_PREFIXES = ("practicum-", "grader-", "gradebox-", "systemd-")


def reserved(name: str) -> bool:
    """Whether an account or group of this name is not for people."""
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


def groups(cluster: Cluster) -> Iterator[Problem]:
    yield from repeated((group.name for group in cluster.groups), ("groups",), "name", "the name")
    yield from repeated((group.gid for group in cluster.groups), ("groups",), "gid", "gid")
    for index, group in enumerate(cluster.groups):
        if reserved(group.name):
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
        if reserved(user.name):
            yield Problem(("users", index, "name"), f"{user.name} belongs to the system")
        if len(set(user.groups)) < len(user.groups):
            yield Problem(("users", index, "groups"), "a group is listed twice")
        for place, group in enumerate(user.groups):
            if group not in known:
                yield Problem(("users", index, "groups", place), unknown(group, known, "group"))
