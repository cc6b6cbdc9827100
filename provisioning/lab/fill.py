"""Installs packages into a tree by the engine in image mode; run as a script by
:mod:`provisioning.lab.tree` in namespaces of its own, so that nothing of it outlives a kill.

usage: fill.py ROOT < JSON list of resources in their wire form
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


class Lines:
    """A :class:`provisioning.report.Reporter` that prints."""

    def node_state(self, node: str, state: str) -> None:
        self.line(f"{node}: {state}")

    def step(self, _node: str, text: str) -> None:
        self.line(text)

    def line(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201 - its output is the log


def main(root: Path) -> None:
    """Exits with the engine's sentence when that failed."""
    # not at the top: tree.py imports this module for its path only
    from provisioning import resources  # noqa: PLC0415

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
    try:
        from provisioning.engine import apply_image  # noqa: PLC0415
    except ImportError:
        import subprocess

        for r in wanted:
            if r.kind == "group":
                subprocess.run(
                    ["chroot", root, "groupadd", "-r", "-g", str(r.gid), r.group], check=True
                )
            if r.kind == "user":
                subprocess.run(
                    [
                        "chroot",
                        root,
                        "useradd",
                        "-r",
                        "-M",
                        "-u",
                        str(r.uid),
                        "-g",
                        r.group,
                        "-d",
                        r.home,
                        "-s",
                        r.shell,
                        r.user,
                    ],
                    check=True,
                )
        apt = [
            "apt-get",
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
            *[r.package for r in wanted if r.kind == "package"],
        ]
        os.execvp("chroot", ["chroot", str(root), *apt])  # noqa: S606
    declared = resources.Declared("image", (("base", tuple(wanted)),))
    result = apply_image(root, declared, Lines())
    if result.error:
        sys.exit(result.error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
