"""Folders on the shared storage. It is mounted by the site (``storage.provider = "external"``)."""

from __future__ import annotations

from cluster.model import NodeRole
from provisioning.resources import Directory, Image, Resource
from provisioning.role import Context, Role
from provisioning.roles.where import on_first


def folders(context: Context) -> list[Resource]:
    """Made once, on the first login node; everyone may read, only root writes."""
    storage = context.cluster.storage
    paths = (storage.home, storage.shared, storage.envs, storage.apps)
    return [Directory(path=path, image=Image.DEFER) for path in paths]


ROLES = (Role("shared-folders", "storage", on_first(NodeRole.LOGIN), folders),)
