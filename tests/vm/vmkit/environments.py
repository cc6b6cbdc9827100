"""The Python environments of hub, sessions and kernels, built here for the machines.

On an emulated processor that takes a quarter of an hour. The same resources of the same roles
are carried out in an overlay over the machines' tree, by this machine's own processor; what comes
out is put on a disk, and copied from there to where the roles would have built it, so that their
checks find it done.
"""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kernels.role import ROOM
from provisioning.lab import tree
from provisioning.lab.system import CACHE, locked, remove_tree, run, run_logged
from provisioning.resources import Command, Directory, File, Image, Resource
from provisioning.role import Context, Role, declare
from vmkit import build
from vmkit.image import PLACE, Say, make_filesystem

DISK_MB = 2048
# Where environments are, and nothing of the files that roles write besides.
FOLDERS = ("opt/practicum", "usr/local/lib/practicum/uv", "nfs/envs")


def wanted(context: Context, roles: Sequence[Role]) -> list[Resource]:
    """What building takes, of all that the context's node should have: the builder, the specs and
    their files, the commands, and the folders that lead there."""
    declared = [one for _, stage in declare(roles, context).stages for one in stage]
    commands = {
        one.key: one
        for one in declared
        if isinstance(one, Command) and one.id.startswith(("environment-", "kernel-"))
    }
    paths = {word for one in commands.values() for word in one.run if word.startswith("/")}
    for one in declared:
        if isinstance(one, File) and one.path in paths and one.path.endswith(".json"):
            spec = json.loads(one.content)
            if "envs" in spec:  # a kernel's order
                paths |= {f"{spec['envs']}/jupyter/kernels/{spec['request']['name']}"}
            else:
                paths |= {spec["requirements"], spec["root"], *spec["wheels"]}
    paths |= {
        one.path for one in declared if isinstance(one, File) and one.path.startswith(f"{ROOM}/")
    }
    parents = {str(parent) for path in paths if path for parent in Path(path).parents}

    def needed(one: Resource) -> bool:
        if isinstance(one, Directory):
            return one.path in paths | parents
        return one.key in commands or (isinstance(one, File) and one.path in paths)

    found = [replace(one, image=Image.APPLY, notify=()) for one in declared if needed(one)]
    # there is no Slurm in an image
    here = (("PRACTICUM_BUILD_HERE", "1"),)
    return [replace(one, env=here) if isinstance(one, Command) else one for one in found]


def make(
    guest: tree.Guest, root: Path, resources: Sequence[Resource], disk: Path, say: Say
) -> None:
    """Build what is missing in an overlay over ``root``, then write it to ``disk``, which a
    running machine may have (it must not have mounted it)."""
    place = PLACE / f"environments-{root.name}"
    busy = "environments for VMs are being built by someone else"
    with locked(f"vm-environments-{guest.name}", wait=1800, busy=busy):
        for name in ("upper", "work", "root"):
            (place / name).mkdir(parents=True, exist_ok=True)
        remove_tree(place / "upper/var/lib/practicum")
        cache = CACHE / "uv"
        cache.mkdir(parents=True, exist_ok=True)
        log = PLACE / f"environments-{guest.name}.log"
        with tempfile.NamedTemporaryFile(dir=place) as stream:
            pickle.dump(list(resources), stream)
            stream.flush()
            run_logged(
                [sys.executable, "-P", build.__file__, str(root), str(place), str(cache), stream.name],
                log, timeout=1800, watch=say,
                env={**tree._apt_environment(), "PYTHONPATH": str(tree.ROOT)},
            )  # fmt: skip
        _remove_old(place / "upper")
        with tempfile.TemporaryDirectory(dir=place) as scratch:
            for name in FOLDERS:
                target = Path(scratch) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                run(["cp", "-al", str(place / "upper" / name), str(target)], timeout=120)
            say("writing them to a disk")
            make_filesystem(disk, DISK_MB, "practicum-built", Path(scratch))


def _remove_old(upper: Path) -> None:
    """Versions that are not live: of earlier code, and of no use to new machines."""
    for pattern in ("opt/practicum/current", "nfs/envs/*/current"):
        for link in upper.glob(pattern):
            for other in link.parent.iterdir():
                if other.is_dir() and not other.is_symlink() and other.name != link.readlink().name:
                    remove_tree(other)
