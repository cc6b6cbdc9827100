"""Installs packages into a tree by the engine in image mode; run as a script by
:mod:`provisioning.lab.tree` in namespaces of its own, so that nothing of it outlives a kill.

usage: fill.py ROOT < JSON list of resources in their wire form
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(root: Path) -> None:
    """Exits with the engine's sentence when that failed."""
    # not at the top: tree.py imports this module for its path only
    from provisioning import engine, resources  # noqa: PLC0415
    from provisioning.report import Plain  # noqa: PLC0415

    kinds = {"package": resources.Package, "group": resources.Group, "user": resources.User}
    wanted = []
    for wire in json.load(sys.stdin):
        kind = kinds[wire.pop("kind")]
        del wire["key"]
        # nothing to notify in an image; JSON has lists for tuples
        fields = {
            key: tuple(value) if isinstance(value, list) else value for key, value in wire.items()
        }
        wanted.append(kind(**{**fields, "image": resources.Image.APPLY, "notify": ()}))
    declared = resources.Declared("image", (("base", tuple(wanted)),))
    result = engine.apply_image(root, declared, Plain())
    if result.error:
        sys.exit(result.error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
