"""A kernel's start from a plain tree and from a squashfs image of it, cold and warm.

On this machine, in two file systems of files: the same environment (ipykernel, numpy) at the same
path, as a tree on ext4, and as one image. Cold: the file system was mounted anew, so nothing of it
is remembered.

start_cold   s, from the process to the answer of a cell (kernels/node/trial.py), median
start_warm   s, the same once more
calls        system calls that name a path in the environment, of a cold start; over NFS each may
             be an operation of its own (LOOKUP, ACCESS, GETATTR, OPEN)
reads        what the cold start read from the disk below, in I/Os (sys block stat)

What this cannot show is NFS itself and its round trips: see kernel_nfs.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import common

PACKAGES = ("ipykernel", "numpy")
CODE = "import numpy; print(numpy.arange(4).sum())"
ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".venv/bin/uv"
TRIAL = ROOT / "kernels/node/trial.py"


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, env=env, check=False)
    if done.returncode:
        sys.exit(f"{words[0]} failed: {done.stderr[-800:]}")
    return done.stdout


@contextmanager
def mounted(image: Path, target: Path, kind: str) -> Iterator[str]:
    """``image`` at ``target``; the name of its block device. Unmounted, it forgets."""
    run("mount", "-t", kind, "-o", "loop,ro", image, target)
    try:
        yield Path(run("findmnt", "-no", "SOURCE", target).strip()).name
    finally:
        run("umount", target)


def environment(place: Path, image: Path) -> None:
    """One with PACKAGES at ``place``, and a squashfs image of it."""
    run(UV, "venv", "--quiet", "--clear", "--python", "/usr/bin/python3", place)
    python = place / "bin/python"
    run(UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *PACKAGES)
    run("mksquashfs", place, image, "-quiet", "-no-progress", "-comp", "zstd")


def compared(title: str, plain: dict[str, float], packed: dict[str, float]) -> dict[str, float]:
    """Show both as a table; what the plain tree takes for one of the image."""
    ratios = {key: common.ratio(plain[key], packed[key]) for key in plain}
    rows = [(key, f"{plain[key]:g}", f"{packed[key]:g}", f"{ratios[key]:g}") for key in plain]
    common.show(title, rows, ("", "plain tree", "image", "tree / image"))
    return ratios


def make(folder: Path, place: Path) -> tuple[Path, Path, int]:
    """(ext4 image, squashfs image, MB of files) of an environment that is at ``place``."""
    tree, image = folder / "tree.ext4", folder / "image.squashfs"
    environment(place, image)
    size = int(run("du", "-sm", place).split()[0])
    run("truncate", f"--size={size * 3 // 2 + 64}M", tree)
    run("mkfs.ext4", "-q", "-d", place, tree)
    shutil.rmtree(place)
    place.mkdir()
    return tree, image, size


def reads(device: str) -> int:
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[0])


def start(python: Path, env: dict[str, str], *before: str) -> float:
    told = json.loads(run(*before, python, "-I", TRIAL, "trial", CODE, env=env))
    if not told["ok"] or told["output"] != "6":
        sys.exit(f"the kernel does not work: {told['output']}")
    return float(told["seconds"])


def calls(log: Path, place: Path) -> int:
    return sum(str(place) in line for line in log.read_text(errors="replace").splitlines())


def measure(
    image: Path, kind: str, place: Path, env: dict[str, str], runs: int
) -> dict[str, float]:
    cold, warm, disk = [], [], []
    python = place / "bin/python"
    for _ in range(runs):
        with mounted(image, place, kind) as device:
            before = reads(device)
            cold.append(start(python, env))
            disk.append(float(reads(device) - before))
            warm.append(start(python, env))
    with mounted(image, place, kind), tempfile.NamedTemporaryFile() as log:
        start(python, env, "strace", "-f", "-qq", "-e", "trace=%file", "-o", log.name)
        named = calls(Path(log.name), place)
    return {
        "start_cold": common.median(cold),
        "start_warm": common.median(warm),
        "calls": named,
        "reads": common.median(disk),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="practicum-kernels-") as name:
        folder = Path(name)
        place, home = folder / "environment", folder / "home"
        spec = folder / "jupyter/kernels/trial"
        for path in (home, spec):
            path.mkdir(parents=True)
        words = [f"{place}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (spec / "kernel.json").write_text(
            json.dumps({"argv": words, "display_name": "trial", "language": "python"})
        )
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "JUPYTER_PATH": str(folder / "jupyter"),
        }
        common.say("making the environment and both file systems")
        tree, image, size = make(folder, place)
        common.quiet_wait()
        common.say("plain tree")
        plain = measure(tree, "ext4", place, env, options.runs)
        common.say("image")
        packed = measure(image, "squashfs", place, env, options.runs)
        sizes = {"tree_mb": size, "image_mb": image.stat().st_size >> 20}
    ratios = compared("A kernel's start", plain, packed)
    common.finish("kernels", packed, plain, ratios, sizes=sizes)


if __name__ == "__main__":
    main()
