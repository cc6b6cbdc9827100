"""Puts packages and system accounts into a tree by the engine in image mode; run as a script
by :mod:`provisioning.lab.tree` in namespaces of its own, so that nothing outlives a kill.

usage: fill.py ROOT < JSON list of resources in their wire form
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provisioning import engine
from provisioning.report import Plain
from provisioning.resources import Declared, Group, Image, Package, Resource, User

KINDS: dict[str, type[Resource]] = {"package": Package, "group": Group, "user": User}


class Lines(Plain):
    """Without the image's path in front of every line."""

    def node_state(self, _node: str, state: str) -> None:
        self.line(state)

    def step(self, _node: str, text: str) -> None:
        self.line(text)


def from_wire(wire: Mapping[str, Any]) -> Resource:
    """The resource that a wire form stands for; there is nothing to notify in an image."""
    fields = {key: value for key, value in wire.items() if key not in ("kind", "key")}
    lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return KINDS[wire["kind"]](**{**fields, **lists, "image": Image.APPLY, "notify": ()})


def main(root: Path) -> None:
    """Exits with the engine's sentence when that failed."""
    wanted = [from_wire(wire) for wire in json.load(sys.stdin)]
    packages = tuple(one for one in wanted if isinstance(one, Package))
    accounts = tuple(one for one in wanted if not isinstance(one, Package))
    # Accounts first: packages keep an account that is there, and with it its number.
    declared = Declared("image", (("identity", accounts), ("software", packages)))
    result = engine.apply_image(root, declared, Lines())
    if result.error:
        sys.exit(result.error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
