"""Files that are shipped to nodes as they are."""

from __future__ import annotations

from importlib import resources

FOLDER = "/usr/local/lib/practicum"  # on the nodes


def own_file(name: str) -> str:
    """The text of ``files/NAME``. FileNotFoundError when the installation lacks it."""
    return resources.files("provisioning.roles").joinpath("files", name).read_text(encoding="utf-8")
