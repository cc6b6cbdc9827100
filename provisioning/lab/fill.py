"""Installs packages into a tree by the engine in image mode; run as a script by
:mod:`provisioning.lab.tree` in namespaces of its own, so that nothing of it outlives a kill.

usage: fill.py ROOT < JSON list of package names
"""

from __future__ import annotations

import json
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
    # not at the top: the module is imported for its path only
    try:
        from provisioning.engine import apply_image  # noqa: PLC0415
    except ImportError:
        import os  # noqa: PLC0415

        apt = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *json.load(sys.stdin)]
        os.execvp("chroot", ["chroot", str(root), *apt])  # noqa: S606
    from provisioning.resources import Declared, Package  # noqa: PLC0415

    packages = tuple(Package(package=name) for name in json.load(sys.stdin))
    result = apply_image(root, Declared("image", (("base", packages),)), Lines())
    if result.error:
        sys.exit(result.error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
