"""What must hold across the tables of cluster.toml: names refer to something, nothing clashes.

Each check yields problems; :mod:`cluster.load` adds file and line.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import zoneinfo
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster.hostlist import expand
from cluster.model import HOST, Cluster, NodeRole, Partition, Profile, seconds
from cluster.toml_lines import Place

# Accounts of Debian's and Ubuntu's base system (base-passwd), of the packages that practicum
# installs, and practicum's own.
RESERVED_NAMES = frozenset(
    """root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody
    nogroup systemd-network systemd-resolve systemd-timesync messagebus sshd polkitd mysql munge
    slurm practicum practicum-hub adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio
    dip operator src shadow utmp video sasl plugdev staff users input sgx kvm render crontab
    netdev systemd-journal statd rpc""".split()
)
RESERVED_HOSTS = frozenset({"localhost", "default", "all"})  # two are words of slurm.conf
RESERVED_ENVIRONMENTS = frozenset({"server", "jupyter"})  # folders beside the kernels
DATABASE_PORT = 3306  # MariaDB's, on the database node


@dataclass(frozen=True)
class Problem:
    """What is wrong and what would be right, and the key it belongs to."""

    place: Place
    text: str


def check(cluster: Cluster) -> list[Problem]:
    """Everything that is wrong with it; nothing when the list is empty."""
    problems = [*_node_entries(cluster)]
    if problems:  # without names and addresses nothing else can be looked at
        return problems
    for part in (
        _addresses, _roles, _general, _groups, _users, _partitions, _profiles, _kernels, _ports
    ):  # fmt: skip
        problems += part(cluster)
    return problems


def _repeated(values: Iterable[object], place: Place, key: str, what: str) -> Iterator[Problem]:
    seen: dict[object, int] = {}
    for index, value in enumerate(values):
        if value in seen:
            yield Problem(
                (*place, index, key),
                f"{what} {value} is taken by {place[-1]}[{seen[value]}]: choose another",
            )
        else:
            seen[value] = index


def _unknown(word: str, valid: Iterable[str], what: str) -> str:
    known = list(valid)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no {what} {word}{hint}; there are: {', '.join(known) or 'none'}"


def _node_entries(cluster: Cluster) -> Iterator[Problem]:
    """Host lists and first addresses: what `machines` needs."""
    for index, entry in enumerate(cluster.nodes):
        try:
            names = expand(entry.name)
        except ValueError as error:
            yield Problem(("nodes", index, "name"), str(error))
            continue
        for name in names:
            if not re.match(HOST, name) or name in RESERVED_HOSTS:
                yield Problem(
                    ("nodes", index, "name"),
                    f"{name!r} cannot be a host name: use a-z, 0-9 and -, and none of "
                    f"{', '.join(sorted(RESERVED_HOSTS))}",
                )
        try:
            address = ipaddress.ip_address(entry.address)
            _ = address + (len(names) - 1)
        except ValueError:
            yield Problem(
                ("nodes", index, "address"),
                f"must be an address like {_example(cluster)}, not {entry.address!r}",
            )


def _example(cluster: Cluster) -> str:
    network = cluster.network.network
    return str(network[min(10, network.num_addresses - 1)])


def _addresses(cluster: Cluster) -> Iterator[Problem]:
    """One machine, one name, one usable address of the subnet."""
    network = cluster.network.network
    names: dict[str, int] = {}
    owners: dict[str, str] = {}
    gateway = cluster.network.gateway
    taken = {gateway: "the gateway's"} if gateway else {}
    if network.version == 4 and network.num_addresses > 2:
        taken |= {
            str(network.network_address): "the network's own",
            str(network.broadcast_address): "the broadcast",
        }
    machines = iter(cluster.machines)
    for index, entry in enumerate(cluster.nodes):
        for name in expand(entry.name):
            node = next(machines)
            if name in names:
                yield Problem(
                    ("nodes", index, "name"),
                    f"{name} is already in nodes[{names[name]}]: every machine is listed once",
                )
            names.setdefault(name, index)
            where = ("nodes", index, "address")
            if ipaddress.ip_address(node.address) not in network:
                yield Problem(where, f"{node.address} ({name}) is not in {network}")
            elif node.address in taken:
                yield Problem(where, f"{node.address} ({name}) is {taken[node.address]} address")
            elif owners.get(node.address, name) != name:
                yield Problem(
                    where,
                    f"{node.address} ({name}) is also the address of {owners[node.address]}: "
                    "give each node its own",
                )
            owners.setdefault(node.address, name)


def _roles(cluster: Cluster) -> Iterator[Problem]:
    """Which role needs how many machines."""
    for index, entry in enumerate(cluster.nodes):
        if len(set(entry.roles)) < len(entry.roles):
            yield Problem(("nodes", index, "roles"), "a role is listed twice")
    for role in (NodeRole.CONTROLLER, NodeRole.DATABASE):
        names = [node.name for node in cluster.with_role(role)]
        if len(names) > 1:
            index = [i for i, entry in enumerate(cluster.nodes) if role in entry.roles][-1]
            yield Problem(
                ("nodes", index, "roles"),
                f"only one node can be the {role}, and there are {', '.join(names)}",
            )
    for role in (NodeRole.LOGIN, NodeRole.CONTROLLER, NodeRole.DATABASE, NodeRole.COMPUTE):
        if not cluster.with_role(role):
            yield Problem(
                ("nodes",), f'no node has the role {role}: add "{role}" to the roles of one'
            )


def _general(cluster: Cluster) -> Iterator[Problem]:
    zones = zoneinfo.available_timezones()
    zone = cluster.cluster.timezone
    if zones and zone not in zones:
        near = difflib.get_close_matches(zone, sorted(zones), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ", use one like Europe/Berlin"
        yield Problem(("cluster", "timezone"), f"there is no time zone {zone}{hint}")
    storage = cluster.storage
    for key, path in (("home", storage.home), ("shared", storage.shared)):
        parts = path.split("/")[1:]
        if "" in parts or "." in parts or ".." in parts:
            yield Problem(("storage", key), f"must be a plain folder like /nfs, not {path!r}")
    if storage.home == storage.shared:
        yield Problem(("storage", "shared"), "must be another folder than home")


def _groups(cluster: Cluster) -> Iterator[Problem]:
    yield from _repeated((group.name for group in cluster.groups), ("groups",), "name", "the name")
    yield from _repeated((group.gid for group in cluster.groups), ("groups",), "gid", "gid")
    for index, group in enumerate(cluster.groups):
        if group.name in RESERVED_NAMES:
            yield Problem(("groups", index, "name"), f"{group.name} belongs to the system")


def _users(cluster: Cluster) -> Iterator[Problem]:
    yield from _repeated((user.name for user in cluster.users), ("users",), "name", "the name")
    yield from _repeated((user.uid for user in cluster.users), ("users",), "uid", "uid")
    known = [group.name for group in cluster.groups]
    for index, user in enumerate(cluster.users):
        if user.name in RESERVED_NAMES:
            yield Problem(("users", index, "name"), f"{user.name} belongs to the system")
        if len(set(user.groups)) < len(user.groups):
            yield Problem(("users", index, "groups"), "a group is listed twice")
        for place, group in enumerate(user.groups):
            if group not in known:
                yield Problem(("users", index, "groups", place), _unknown(group, known, "group"))


def _partitions(cluster: Cluster) -> Iterator[Problem]:
    parts = cluster.partitions
    yield from _repeated((part.name for part in parts), ("partitions",), "name", "the name")
    if not parts:
        yield Problem(("partitions",), "there is none: add [[partitions]] with a name and nodes")
        return
    defaults = [index for index, part in enumerate(parts) if part.default]
    for index in defaults[1:]:
        yield Problem(
            ("partitions", index, "default"),
            f"{parts[defaults[0]].name} is the default already: only one can be",
        )
    if not defaults:
        yield Problem(
            ("partitions",), "none has default = true: mark the one that sbatch uses by itself"
        )
    for index, part in enumerate(parts):
        yield from _partition(cluster, index, part)


def _partition(cluster: Cluster, index: int, part: Partition) -> Iterator[Problem]:
    here: Place = ("partitions", index)
    if part.name in RESERVED_HOSTS:
        yield Problem((*here, "name"), f"{part.name} is a word of slurm.conf: choose another")
    for key, length in (("max_time", part.max_time), ("default_time", part.default_time)):
        if seconds(length) < 60:
            yield Problem((*here, key), "must be a minute or more")
    if seconds(part.default_time) > seconds(part.max_time):
        yield Problem(
            (*here, "default_time"),
            f"{part.default_time} is more than this partition's max_time, {part.max_time}",
        )
    try:
        names = cluster.partition_nodes(part)
    except ValueError as error:
        yield Problem((*here, "nodes"), f"{error}; ALL stands for every compute node")
        return
    compute = {node.name: node for node in cluster.with_role(NodeRole.COMPUTE)}
    everyone = {node.name for node in cluster.machines}
    for name in names:
        if name not in everyone:
            yield Problem((*here, "nodes"), _unknown(name, compute, "node"))
        elif name not in compute:
            yield Problem(
                (*here, "nodes"),
                f'{name} runs no jobs: add "compute" to its roles, or leave it out',
            )


def _profiles(cluster: Cluster) -> Iterator[Problem]:
    known = {part.name: part for part in cluster.partitions}
    groups = [group.name for group in cluster.groups]
    yield from _repeated(
        (profile.name for profile in cluster.profiles), ("profiles",), "name", "the name"
    )
    for index, profile in enumerate(cluster.profiles):
        here: Place = ("profiles", index)
        for place, group in enumerate(profile.groups):
            if group not in groups:
                yield Problem((*here, "groups", place), _unknown(group, groups, "group"))
        part = known.get(profile.partition)
        if part is None:
            yield Problem((*here, "partition"), _unknown(profile.partition, known, "partition"))
        else:
            yield from _profile_fits(cluster, here, profile, part)


def _profile_fits(
    cluster: Cluster, here: Place, profile: Profile, part: Partition
) -> Iterator[Problem]:
    """Some node of the partition must be able to hold it (as far as hardware is declared)."""
    if seconds(profile.time) < 60:
        yield Problem((*here, "time"), "must be a minute or more")
    if seconds(profile.time) > seconds(part.max_time):
        yield Problem(
            (*here, "time"),
            f"{profile.time} is more than {part.max_time}, the max_time of partition {part.name}",
        )
    try:
        names = cluster.partition_nodes(part)
    except ValueError:
        return  # told with the partition
    nodes = [node for node in cluster.machines if node.name in names]
    cpus, memory = [node.cpus for node in nodes], [node.memory_mb for node in nodes]
    for key, wanted, has, unit in (
        ("cpus", profile.cpus, cpus, "cpus"),
        ("memory_mb", profile.memory_mb, memory, "MB"),
    ):
        most = max((amount for amount in has if amount is not None), default=0)
        if nodes and None not in has and wanted > most:
            yield Problem(
                (*here, key),
                f"{wanted} {unit} are more than any node of partition {part.name} has ({most})",
            )
    limit = part.max_cpus_per_node
    if limit and profile.cpus > limit:
        yield Problem(
            (*here, "cpus"),
            f"{profile.cpus} is more than max_cpus_per_node ({limit}) of partition {part.name}",
        )


def _kernels(cluster: Cluster) -> Iterator[Problem]:
    yield from _repeated(
        (kernel.name for kernel in cluster.kernels), ("kernels",), "name", "the name"
    )
    for index, kernel in enumerate(cluster.kernels):
        if kernel.name == "python":  # jupyter_client's manager renames it, and starts another
            yield Problem(
                ("kernels", index, "name"),
                "Jupyter reads python as python3: write python3, which notebooks ask for",
            )
        if kernel.name in RESERVED_ENVIRONMENTS:
            yield Problem(
                ("kernels", index, "name"), f"{kernel.name} is practicum's own: choose another"
            )


def _ports(cluster: Cluster) -> Iterator[Problem]:
    """Every port has one owner, on whichever node: nodes may take several roles."""
    hub, slurm = cluster.hub, cluster.slurm
    owners = {cluster.ssh.port: "ssh.port", DATABASE_PORT: "the database"}
    for place, port in (
        (("slurm", "controller_port"), slurm.controller_port),
        (("slurm", "node_port"), slurm.node_port),
        (("slurm", "database_port"), slurm.database_port),
        (("hub", "port"), hub.port),
        (("hub", "api_port"), hub.api_port),
        (("hub", "proxy_api_port"), hub.proxy_api_port),
    ):
        if port in owners:
            yield Problem(place, f"port {port} is also {owners[port]}: choose another")
        owners.setdefault(port, ".".join(place))
    low, high = hub.session_ports
    if low >= high:
        yield Problem(("hub", "session_ports"), f"must be [lowest, highest], not [{low}, {high}]")
    for port, owner in owners.items():
        if low <= port <= high:
            yield Problem(
                ("hub", "session_ports"), f"{low}-{high} holds {port}, which is {owner}: move one"
            )
