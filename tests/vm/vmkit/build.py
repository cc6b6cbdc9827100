"""Carries resources out in an overlay over a tree; run as a script by :mod:`vmkit.environments`
in namespaces of its own, so that no mount and no process outlives a kill.

usage: build.py TREE PLACE UV_CACHE PICKLED_RESOURCES
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from provisioning import engine
from provisioning.lab.fill import Lines
from provisioning.resources import Declared


def main(tree: Path, place: Path, cache: Path, pickled: Path) -> None:
    """Exits with the engine's sentence when that failed."""
    root = place / "root"
    overlay = f"lowerdir={tree},upperdir={place / 'upper'},workdir={place / 'work'}"
    inside = root / "var/cache/practicum/uv"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", overlay, str(root)], check=True)
    inside.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(cache), str(inside)], check=True)
    resources = tuple(pickle.loads(pickled.read_bytes()))
    result = engine.apply_image(root, Declared("image", (("software", resources),)), Lines())
    if result.error:
        sys.exit(result.error)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
