"""A kernel's start over NFS, from a plain tree and from one squashfs image of it, in operations.

Two virtual machines as in tests/vm: `head` serves /nfs as practicum sets it up, `node01` has it by
NFS 4.1 with practicum's options. The same environment (ipykernel, numpy) lies there as a tree and
as an image; what a kernel imports is imported from each, after the node has forgotten all of it.

one   remote procedure calls of the node's kernel (/proc/net/rpc/nfs) for one start
ten   for ten starts at once on that node
next  for one more, with everything remembered

For the image that counts what mounting it takes, too. Seconds on an emulated processor mean
nothing and are not shown; the calls are the same on any.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common
from kernel_images import compared, environment, run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/vm"))
from vmkit import cluster as machines
from vmkit.described import DATA_DISK, served
from vmkit.use import Vms

PLACE, MOUNTED = "/nfs/probe", "/mnt/probe"
IMPORT = "import ipykernel.ipkernel, ipykernel.kernelapp, numpy"
SECONDS = 900  # an emulated processor's patience


def make(folder: Path) -> tuple[Path, Path]:
    """(tar file of a tree, squashfs image of the same), made by this machine's processor."""
    place = folder / "environment"
    tree, image = folder / "tree.tar", folder / "image.squashfs"
    environment(place, image)
    run("tar", "-C", place, "-cf", tree, ".")
    shutil.rmtree(place)
    return tree, image


def send(vms: Vms, source: Path, *argv: str) -> None:
    """A file to the standard input of a command on the server."""
    with source.open("rb") as stream:
        words = vms.ssh_command("head", argv)
        subprocess.run(words, stdin=stream, timeout=SECONDS, check=True)


def calls(vms: Vms) -> int:
    text = vms.check_on("node01", ["cat", "/proc/net/rpc/nfs"])
    return next(int(row.split()[1]) for row in text.splitlines() if row.startswith("rpc "))


def starts(vms: Vms, root: str, count: int, *, cold: bool, image: str = "") -> int:
    """Calls that so many starts at once take from the environment at ``root``."""
    forget = "sync; echo 3 > /proc/sys/vm/drop_caches"
    if cold and image:
        vms.run_on("node01", ["umount", root])
    if cold:
        vms.check_on("node01", ["sh", "-c", forget])
    before = calls(vms)
    if cold and image:
        vms.check_on("node01", ["mount", "-o", "loop,ro", image, root], timeout=SECONDS)
    one = f"'{root}/bin/python' -I -c '{IMPORT}' || echo failed"
    script = f"for i in $(seq {count}); do {{ {one}; }} & done; wait"
    said = vms.check_on("node01", ["sh", "-c", script], timeout=SECONDS)
    if "failed" in said:
        raise SystemExit("the environment does not work on the node")
    return calls(vms) - before


def measure(vms: Vms, root: str, image: str = "") -> dict[str, float]:
    one = starts(vms, root, 1, cold=True, image=image)
    after = starts(vms, root, 1, cold=False, image=image)
    ten = starts(vms, root, 10, cold=True, image=image)
    return {"one": one, "ten": ten, "next": after}


def compare(vms: Vms) -> tuple[dict[str, float], dict[str, float]]:
    """(plain tree, image)"""
    with tempfile.TemporaryDirectory(prefix="practicum-kernels-") as name:
        common.say("making the environment and its image")
        tree, image = make(Path(name))
        common.say(f"tree {tree.stat().st_size >> 20} MB, image {image.stat().st_size >> 20} MB")
        vms.check_on("head", ["mkdir", "-p", f"{PLACE}/tree"])
        send(vms, tree, "tar", "-C", f"{PLACE}/tree", "-xf", "-")
        send(vms, image, "sh", "-c", f"cat > {PLACE}/image.squashfs")
    vms.check_on("node01", ["mkdir", "-p", MOUNTED])
    common.say("plain tree")
    plain = measure(vms, f"{PLACE}/tree")
    common.say("image")
    return plain, measure(vms, MOUNTED, f"{PLACE}/image.squashfs")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", default="nfs", help="the pair's name; it is removed in the end")
    options = parser.parse_args(argv)
    machines.recover()
    with machines.hold(options.vms):
        vms = Vms(options.vms, "debian12")
        try:
            vms.up(common.say)
            vms.apply(served, format_=DATA_DISK)
            plain, packed = compare(vms)
        finally:
            vms.down()
    ratios = compared("NFS calls of kernel starts", plain, packed)
    common.finish("kernel-nfs", packed, plain, ratios)


if __name__ == "__main__":
    main()
