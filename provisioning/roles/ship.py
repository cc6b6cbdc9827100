"""Scripts that are shipped to nodes as files."""

from __future__ import annotations

from importlib import resources


def own_file(name: str) -> str:
    """The text of a file of ``roles/files``. FileNotFoundError when the installation lacks it."""
    return resources.files("provisioning.roles").joinpath("files", name).read_text(encoding="utf-8")
