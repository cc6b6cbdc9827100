"""A version as one image beside its tree: over NFS a start from it takes a fifth of the calls, and
a second one next to none (benchmarks/kernel_nfs.py). Standard library only.

    ENVS/NAME/VERSION/ARCH/            the tree, which is always there
    ENVS/NAME/VERSION/ARCH.squashfs    the same, for nodes that have ENVS from a file server

A node mounts it when a kernel first asks for it (autofs, the role kernel-images), and takes it off
when nobody has used it for a while. Whatever goes wrong with it, the tree is used.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAM = "/usr/bin/mksquashfs"
SECONDS = 1800  # a Pi's patience
# gzip: the one that each distribution's kernel reads, Raspberry Pi OS's too
OPTIONS = ("-comp", "gzip", "-all-root", "-no-xattrs", "-noappend", "-quiet", "-no-progress",
           "-mem", "128M")  # fmt: skip


def of(tree: Path) -> Path:
    """Where a tree's image is."""
    return tree.with_name(f"{tree.name}.squashfs")


def make(tree: Path) -> tuple[int, str]:
    """(bytes of the image, "") or (0, why there is none): a version is whole without."""
    image = of(tree)
    fresh = image.with_name(f".{image.name}")
    words = ["nice", PROGRAM, str(tree), str(fresh), *OPTIONS]
    try:
        done = subprocess.run(
            words, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        why = "" if done.returncode == 0 else done.stdout.strip()[-300:] or "it says nothing"
        if not why:
            fresh.chmod(0o644)
            fresh.replace(image)
            return image.stat().st_size, ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)[:300]
    fresh.unlink(missing_ok=True)
    return 0, why
