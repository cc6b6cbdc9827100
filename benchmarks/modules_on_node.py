"""Runs on a node, as root, for modules.py: makes the tree, times commands as the student.

Its one argument is JSON (see modules.py), and so is what it prints: {"figures": {name: [seconds]},
"made": seconds of making the cache}.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LUA = """whatis("Name: {name}")
whatis("Version: {version}")
whatis("Description: a library for a benchmark")
help([[Nothing]])
local prefix = "/nfs/apps/{name}/{version}"
prepend_path("PATH", pathJoin(prefix, "bin"))
prepend_path("LD_LIBRARY_PATH", pathJoin(prefix, "lib"))
setenv("{name}_DIR", prefix)
"""
BRANCHES = ("Core", "Compiler/gcc/12", "MPI/gcc/12/openmpi/4")
OPENERS = (("Core", "gcc", "12", 1), (BRANCHES[1], "openmpi", "4", 2))
SETTINGS = Path("/run/benchmark-modules.json")
# Where Lmod keeps a cache of one's own; it differs by version (8.6 of Debian 12 has the first)
OWN_CACHES = (".lmod.d/.cache", ".lmod.d/__cache__", ".cache/lmod")
COMMANDS = {
    "avail": ["avail"],
    "spider": ["spider"],
    "spider one": ["spider", "lib0002"],
    "load": ["load", "lib0001", "lib0002", "lib0003"],
}


def make_tree(root: Path, count: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for name in ("Site", "etc", *BRANCHES):
        (root / name).mkdir(parents=True)
    for number in range(count):
        name, version = f"lib{number // 2:04d}", f"{number % 2 + 1}.0"
        folder = root / BRANCHES[number // 2 % 3] / name
        folder.mkdir(exist_ok=True)
        (folder / f"{version}.lua").write_text(LUA.format(name=name, version=version))
    for place, name, version, opened in OPENERS:
        (root / place / name).mkdir(exist_ok=True)
        text = f'family("{name}")\nprepend_path("MODULEPATH", "{root / BRANCHES[opened]}")\n'
        (root / place / name / f"{version}.lua").write_text(text)
    cache = f'dir = "{root}/cache/current", timestamp = "{root}/cache/timestamp"'
    (root / "etc/lmodrc.lua").write_text(f"scDescriptT = {{ {{ {cache} }} }}\n")


class Bench:
    def __init__(self, want: dict[str, Any]) -> None:
        self.want = want
        self.root = Path(want["root"])
        self.home = f"/home/{want['user']}"
        tops = (self.root, *map(Path, want["cold"]))
        self.files = [path for top in tops for path in top.rglob("*") if path.is_file()]
        self.env = self.loaded()

    def loaded(self) -> dict[str, str]:
        """The shell's state once gcc and openmpi are loaded, so that one command alone is timed."""
        env = {"PATH": "/usr/bin:/bin", "HOME": self.home, "LMOD_PAGER": "none", "TERM": "dumb",
               "MODULEPATH": f"{self.root}/Core:{self.root}/Site"}  # fmt: skip
        script = f". {self.want['init']}; module load gcc openmpi; env -0"
        done = subprocess.run(["bash", "-c", script], env=env, user=self.want["user"], cwd="/",
                              capture_output=True, text=True, check=True)  # fmt: skip
        pairs = [line.partition("=") for line in done.stdout.split("\0") if "=" in line]
        return {name: value for name, _, value in pairs if "%" not in name}

    def drop(self) -> None:
        for path in self.files:
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)

    def timed(self, words: list[str], env: dict[str, str]) -> tuple[float, str]:
        began = time.monotonic()
        done = subprocess.run(words, env=env, capture_output=True, text=True, errors="replace",
                              user=self.want["user"], cwd="/", check=False)  # fmt: skip
        return time.monotonic() - began, done.stdout + done.stderr

    def command(self, words: list[str], *, cached: bool, cold: bool) -> list[float]:
        env = dict(self.env)
        if cached:
            env["LMOD_RC"] = str(self.root / "etc/lmodrc.lua")
        words = [self.want["lmod"], "bash", *words]
        taken = []
        for number in range(self.want["runs"] + 1):
            # without a cache Lmod would keep one of its own at home: each run is the first
            for place in OWN_CACHES:
                shutil.rmtree(f"{self.home}/{place}", ignore_errors=True)
            if cold:
                self.drop()
            seconds, said = self.timed(words, env)
            if "lib0002" not in said:
                raise SystemExit(f"{' '.join(words)} does not show the modules: {said[:500]}")
            if number:  # the first one warms up
                taken.append(seconds)
        return taken

    def start(self, words: list[str]) -> list[float]:
        env = {"PATH": "/usr/bin:/bin", "HOME": self.home}
        return [self.timed(words, env)[0] for _ in range(self.want["runs"] * 3)]


def main() -> None:
    want = json.loads(sys.argv[1])
    root = Path(want["root"])
    make_tree(root, want["count"])
    paths = [str(root / "Core"), str(root / "Site")]
    SETTINGS.write_text(json.dumps({"root": str(root), "paths": paths, "init": want["init"]}))
    try:
        began = time.monotonic()
        words = ["python3", "-I", want["tool"], "--settings", str(SETTINGS), "refresh"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        made = time.monotonic() - began
        bench = Bench(want)
        figures = {}
        for cold in (False, True):
            for name, words in COMMANDS.items():
                for cached in (True, False):
                    key = f"{name} {'cold' if cold else 'warm'} {'cache' if cached else 'none'}"
                    figures[key] = bench.command(words, cached=cached, cold=cold)
        sources = " && ".join(f". {path}" for path in want["profile"])
        plain = ["bash", "--noprofile", "--norc", "-c"]
        script = ["env", f"BASH_ENV={want['init']}", "bash", "-c", "true"]
        figures["bash alone"] = bench.start([*plain, "true"])
        figures["bash, modules' log-in files alone"] = bench.start([*plain, sources])
        figures["bash, log-in"] = bench.start(["bash", "-lc", "true"])
        figures["bash script (BASH_ENV)"] = bench.start(script)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        SETTINGS.unlink(missing_ok=True)
    print(json.dumps({"figures": figures, "made": made}))


if __name__ == "__main__":
    main()
