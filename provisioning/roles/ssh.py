"""SSH: keys only, nodes that know each other, and users who go between nodes without a password.

Between the cluster's nodes a user is who the other node says (host-based), which is what MPI
launchers and `ssh node01` need: no keys in homes, nothing to hand out. Never for root. Whoever
takes over one node can so act as any user on the others; over NFS they could anyway.
"""

from __future__ import annotations

from cluster.model import Cluster, Node, NodeRole
from provisioning.facts import release
from provisioning.resources import Command, Directory, Image, Package, Resource, Service, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.where import everywhere, on

# Sorts before an installer's 50-cloud-init.conf: of several values sshd takes the first.
SERVER = "/etc/ssh/sshd_config.d/00-practicum.conf"
CLIENT = "/etc/ssh/ssh_config.d/00-practicum.conf"
KEYS = "/etc/ssh/authorized_keys.d"
RELOAD = ("reload:ssh",)
CHECK = f"{FOLDER}/check_sshd.py"
# Exit 0 when there is such a line; sshd's sessions have a name of their own from OpenSSH 9.8.
# Root's words alone: anybody can log under any name.
ADMINS = (
    "journalctl --quiet --since=-7d --lines=1 --identifier=sshd --identifier=sshd-session _UID=0"
)


def sshd_config(cluster: Cluster, version: str = "") -> str:
    """For sshd of that package's version: from 9.8 on it shuts out for a while who fails to log in,
    by address. Not the cluster's own, or any student could shut practicum out of a node."""
    passwords = "yes" if cluster.ssh.passwords else "no"
    own = ",".join(node.address for node in cluster.machines)
    penalizes = [int(one) for one in release(version).split(".") if one] >= [9, 8]
    exempt = f"PerSourcePenaltyExemptList {own}\n" if penalizes else ""
    return f"""# Written by practicum.
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitEmptyPasswords no
AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 {KEYS}/%u
HostbasedAuthentication yes
IgnoreRhosts yes
IgnoreUserKnownHosts yes
{exempt}"""


def ssh_config(cluster: Cluster) -> str:
    """EnableSSHKeysign counts only outside of Host sections (ssh_config(5))."""
    names = " ".join(word for node in cluster.machines for word in (node.name, node.address))
    return f"""# Written by practicum.
EnableSSHKeysign yes
Host {names}
    HostbasedAuthentication yes
    HostbasedAcceptedAlgorithms ssh-ed25519,ecdsa-sha2-*,rsa-sha2-*
"""


def known_hosts(context: Context) -> str:
    """Every node's host keys, under its name and address; of those that have told them."""
    rows = [
        f"{node.name},{node.address} {key}\n"
        for node in context.cluster.machines
        if node.name in context.facts
        for key in context.facts[node.name].host_keys
    ]
    return "".join(rows)


def equivalents(cluster: Cluster) -> str:
    """sshd looks a client up by its address, since it asks no name server."""
    return "".join(f"{node.name}\n{node.address}\n" for node in cluster.machines)


def ssh(context: Context) -> list[Resource]:
    cluster = context.cluster
    return [
        Package(package="openssh-client"),
        Directory(path="/etc/ssh/sshd_config.d"),
        Directory(path="/etc/ssh/ssh_config.d"),
        Directory(path=KEYS),
        *_keys(cluster, context.node),
        file("/etc/ssh/ssh_known_hosts", known_hosts(context), image=Image.DEFER),
        file("/etc/ssh/shosts.equiv", equivalents(cluster)),
        file(CLIENT, ssh_config(cluster)),
        # Last, and tried by sshd itself, which wants host keys: not in an image.
        file(
            SERVER,
            sshd_config(cluster, context.own.packages.get("openssh-server", "")),
            validate=("sshd", "-t", "-f", "{}"),
            notify=RELOAD,
            image=Image.DEFER,
        ),
        Directory(path=FOLDER),
        file(CHECK, own_file("check_sshd.py"), mode=0o755),
        # An older sshd_config reads no folder, and passwords would stay on without a word.
        Command(
            id="sshd-follows",
            check=("python3", "-I", CHECK, SERVER),
            run=("python3", "-I", CHECK, SERVER),
            summary="ask sshd whether it follows practicum's settings",
        ),
    ]


def _keys(cluster: Cluster, node: Node) -> list[Resource]:
    """Keys of cluster.toml beside those in homes, in files that only root writes: everyone's on
    login nodes, admins' on every node, for themselves and for root."""
    admins = set(cluster.groups_with("admin"))
    login = node.has(NodeRole.LOGIN)
    roots: list[str] = []
    made: list[Resource] = []
    for user in cluster.users:
        admin = bool(admins.intersection(user.groups))
        if admin:
            roots += user.ssh_keys
        if user.ssh_keys and (admin or login):
            made.append(file(f"{KEYS}/{user.name}", "".join(f"{key}\n" for key in user.ssh_keys)))
    if roots:
        made.append(file(f"{KEYS}/root", "".join(f"{key}\n" for key in dict.fromkeys(roots))))
    return made


def bans(context: Context) -> list[Resource]:
    """fail2ban reads sshd's journal (Debian has no auth.log any more) and bans in a table of
    nftables of its own, with our firewall or without. The cluster's own nodes are never banned, nor
    is an address from which practicum's account came in by key within a week: the admin's. (From
    the facts it would change whenever an apply comes from elsewhere.)"""
    cluster = context.cluster
    known = " ".join(node.address for node in cluster.machines)
    text = f"""[DEFAULT]
backend = systemd
banaction = nftables
banaction_allports = nftables[type=allports]
ignoreip = 127.0.0.1/8 ::1 {known}
ignorecommand = {ADMINS} --grep="^Accepted publickey for {cluster.ssh.user} from <ip> "
ignorecache = key="<ip>", max-count=1000, max-time=5m

[sshd]
enabled = true
journalmatch = _SYSTEMD_UNIT=ssh.service _UID=0 + _COMM=sshd _UID=0 + _COMM=sshd-session _UID=0
port = {context.own.ssh_port or cluster.ssh.port}
"""
    return [
        Package(package="nftables"),
        Package(package="fail2ban"),
        Package(package="python3-systemd"),
        file("/etc/fail2ban/jail.d/practicum.local", text, notify=("restart:fail2ban",)),
        Service(service="fail2ban"),
    ]


ROLES = (
    Role("ssh", "identity", everywhere, ssh),
    Role("ssh-bans", "software", on(NodeRole.LOGIN), bans),
)
