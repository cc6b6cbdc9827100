"""The shared folders, wherever they come from: made once, for everyone to read, root's to write.

With ``storage.provider = "external"`` the site has mounted them on every node; with "nfs" they
are this cluster's own (:mod:`provisioning.roles.nfs`).
"""

from __future__ import annotations

from cluster.model import Cluster, Node
from provisioning.resources import Directory, Image, Resource
from provisioning.role import Context, Role
from provisioning.roles import nfs, quota, scratch
from provisioning.roles.where import homes_node


def where(cluster: Cluster, node: Node) -> bool:
    return node.name == homes_node(cluster).name


def folders(context: Context) -> list[Resource]:
    storage = context.cluster.storage
    paths = (storage.home, storage.shared, storage.envs, storage.apps, storage.courses)
    return [Directory(path=path, image=Image.DEFER) for path in paths]


ROLES = (
    *nfs.ROLES,
    Role("shared-folders", "storage", where, folders),
    *quota.ROLES,
    *scratch.ROLES,
)
