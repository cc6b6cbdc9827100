"""The cluster's own file server, and everyone else as its clients. NFS 4.1, and nothing else:

- 4.2's server-side copy went past hard quotas (seen on 6.1), 4.0 has no sessions, 3 has lock
  daemons of its own and ports everywhere.
- Home and shared folder are two exports that lie beside each other: one inside the other, on the
  same file system, would take its parent's options.
- After a restart the server waits for its clients to claim what they had open before anybody gets
  a new lock or file: ten seconds here instead of ninety.
- Somebody's groups are asked for again after a minute, not after half an hour, also when they were
  changed by hand (:mod:`provisioning.roles.identity` has them asked for at once).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cluster.errors import PracticumError
from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import (
    Command,
    Directory,
    Image,
    Line,
    Mount,
    Package,
    Resource,
    Service,
    file,
)
from provisioning.role import Context, Role
from provisioning.roles.disk import disk_mount

PORT = 2049
EXPORTS = "/etc/exports"
CONF = """# Written by practicum.
[nfsd]
vers3=n
vers4=y
vers4.0=n
vers4.1=y
vers4.2=n
grace-time=10
lease-time=10
[mountd]
ttl=60
"""
CLIENT_OPTIONS = (
    "_netdev",
    "x-systemd.automount",  # a server that is away holds up whoever looks, never the boot
    "nfsvers=4.1",
    "hard",  # wait for the server as long as it takes: nothing that was written is lost
    "nosuid",
    "nodev",
)


def is_server(cluster: Cluster, node: Node) -> bool:
    servers = cluster.with_role(NodeRole.STORAGE)
    return cluster.storage.provider == "nfs" and bool(servers) and node.name == servers[0].name


def is_client(cluster: Cluster, node: Node) -> bool:
    return cluster.storage.provider == "nfs" and not is_server(cluster, node)


def shares(cluster: Cluster) -> tuple[tuple[str, str], ...]:
    """(folder on the server, where everyone sees it)"""
    storage = cluster.storage
    return (
        (f"{storage.folder}/home", storage.home),
        (f"{storage.folder}/shared", storage.shared),
    )


def roots(cluster: Cluster) -> tuple[Node, ...]:
    """Nodes whose root is root on the exports: the first login node, where what all share is
    built, and those that are named."""
    names = (cluster.first(NodeRole.LOGIN).name, *cluster.storage.root_nodes)
    return tuple(cluster.node(name) for name in dict.fromkeys(names))


def export_line(cluster: Cluster, path: str) -> str:
    """exports(5). To the cluster's network, root squashed; ``mountpoint`` so that an empty folder
    is never served in the place of a disk that is not there."""
    common = "rw,sync,no_subtree_check"
    if cluster.storage.disk is not None:
        common += f",mountpoint={cluster.storage.folder}"
    hosts = [
        f"{node.address}({common},no_root_squash)"
        for node in roots(cluster)
        if not is_server(cluster, node)
    ]
    return " ".join([path, *hosts, f"{cluster.network.subnet}({common},root_squash)"])


def unit(cluster: Cluster) -> str:
    """What serves waits for the folder's disk, and ends with it."""
    return f"[Unit]\nRequiresMountsFor={cluster.storage.folder}\n"


def refuse(context: Context, feature: str, what: str) -> None:
    """PracticumError on a node whose kernel cannot do what is asked of it."""
    name = context.node.name
    if context.own.container:
        raise PracticumError(
            f"{name} is a container, whose kernel {what}: set storage.provider = "
            '"external" and let its host share the folders'
        )
    known = context.own.kernel_can
    if known is not None and feature not in known:
        more = f"linux-modules-extra-$(uname -r) on {name}"
        raise PracticumError(
            f"the kernel of {name} {what} (it has no {feature}): install the distribution's whole "
            f"kernel (on Ubuntu {more}) and restart it"
        )


def nothing_hidden(context: Context) -> None:
    """Refuse to mount over homes that are in use: above all that of whoever is applying this."""
    cluster, own = context.cluster, context.own
    home = cluster.storage.home
    # On the server it is the folder's own, once practicum has been there; a client's facts leave
    # out what another machine serves. A partition of its own is what would be hidden.
    if (
        is_server(cluster, context.node)
        and home in own.mounted
        and cluster.storage.shared in own.mounted
    ):
        _no_disk_over_them(context)
        return
    inside = {user: path for user, path in own.homes.items() if path.startswith(f"{home}/")}
    name, admin = context.node.name, cluster.ssh.user
    if admin in inside:
        raise PracticumError(
            f"the cluster's {home} would hide {inside[admin]} on {name}, and with it the SSH key "
            f"that {admin} logs in by: move that home away (as root, with nobody logged in as "
            f'{admin}: usermod -m -d /var/lib/{admin} {admin}), or set ssh.user = "root"'
        )
    known = {user.name for user in cluster.users}
    lost = sorted(user for user in inside if user in known)
    if lost:
        server = cluster.with_role(NodeRole.STORAGE)[0].name
        target = f"{cluster.storage.folder}/home on {server}"
        raise PracticumError(
            f"the cluster's {home} would hide the homes of {', '.join(lost[:5])} on {name}: move "
            f"them to {target}, or elsewhere, first"
        )


def _no_disk_over_them(context: Context) -> None:
    """Refuse a first disk over the folder that has everybody's files. That they are on the system's
    own is told by lsblk: a folder's second place in the tree (bind) counts as the disk's."""
    storage, own, name = context.cluster.storage, context.own, context.node.name
    on_systems = any({"/", storage.home} <= set(one.get("mounts", ())) for one in own.disks or ())
    if storage.disk is not None and storage.folder not in own.mounted and on_systems:
        raise PracticumError(
            f"everybody's files are in {storage.folder} of {name}, on its own disk: that of "
            f"storage.disk would hide them. With nobody working, mount it at a place of its own, "
            f"copy home and shared there, umount {storage.home} {storage.shared}, and apply again"
        )


def server(context: Context) -> list[Resource]:
    cluster = context.cluster
    storage = cluster.storage
    refuse(context, "nfsd", "serves no files")
    nothing_hidden(context)
    bind = ["bind", "nosuid", "nodev"]
    if storage.disk is not None:
        bind += ["nofail", f"x-systemd.requires-mounts-for={storage.folder}"]
    found: list[Resource] = [
        Package(package="nfs-kernel-server"),
        *disk_mount(context),
        Directory(path=storage.folder, image=Image.DEFER),
    ]
    for path, seen in shares(cluster):
        found.append(Directory(path=path, image=Image.DEFER))
        found.append(Mount(source=path, target=seen, fstype="none", options=",".join(bind)))
    found += [
        Directory(path="/etc/nfs.conf.d"),
        file("/etc/nfs.conf.d/practicum.conf", CONF, notify=("restart:nfs-server",)),
        Directory(path="/etc/systemd/system/nfs-server.service.d"),
        file("/etc/systemd/system/nfs-server.service.d/practicum.conf", unit(cluster)),
        *exports(cluster),
        Service(service="nfs-server", wait_port=PORT),
        Command(
            id="exportfs",
            run=("exportfs", "-ra"),
            on_notify=True,
            summary="serve what /etc/exports says now",
        ),
    ]
    if context.node.has(NodeRole.COMPUTE):
        found += [
            Directory(path="/etc/systemd/system/slurmd.service.d"),
            file(
                "/etc/systemd/system/slurmd.service.d/storage.conf",
                f"[Unit]\nRequiresMountsFor={storage.home} {storage.shared}\n",
            ),
        ]
    return found


def exports(cluster: Cluster) -> Sequence[Resource]:
    """In the file itself, beside the site's own: rpc.rquotad's start script looks there alone."""
    return [
        Line(
            path=EXPORTS,
            line=export_line(cluster, path),
            match=rf"^{re.escape(path)}\s",
            notify=("run:exportfs",),
        )
        for path, _seen in shares(cluster)
    ]


def client(context: Context) -> list[Resource]:
    """The automounts are in place before slurmd starts (systemd puts them before local-fs.target,
    since they need no network): a job that comes before the server is back waits for its home."""
    refuse(context, "nfs", "mounts no NFS")
    nothing_hidden(context)
    cluster = context.cluster
    name = cluster.with_role(NodeRole.STORAGE)[0].name
    options = ",".join(CLIENT_OPTIONS)
    return [
        Package(package="nfs-common"),
        *(
            Mount(source=f"{name}:{path}", target=seen, fstype="nfs", options=options)
            for path, seen in shares(cluster)
        ),
    ]


ROLES = (
    Role("nfs-server", "storage", is_server, server),
    Role("nfs-client", "storage", is_client, client),
)
