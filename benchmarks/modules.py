"""`module avail`, `spider` and `load` with 2,000 modulefiles, with practicum's cache and without,
cold and warm, and what modules cost a shell that starts.

On the login node of a lab, as a student. The tree is one of its own beside the site's: a compiler
and an MPI open branches, a third of the modules in each and at the top, two versions of each; the
compiler and the MPI are loaded, so that `avail` shows all of them. Peer: the same tree without a
cache, as Lmod is before anybody makes one. `load` reads no cache (LMOD_CACHED_LOADS is no), so it
should be equal.

Cold: the pages of modulefiles, cache, Lua and Lmod are dropped before (posix_fadvise; names of
files stay known to the kernel). Each figure is the median of several runs, in seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path

import common
from common import on_node, say

from lmod import shells
from lmod.role import TOOL
from practicum.rooms import ROLES
from provisioning.lab import LabInfo

USER = "ada"
ROOT = "/nfs/apps/benchmark-modules"
SCRIPT = Path(__file__).with_name("modules_on_node.py")


def run(info: LabInfo, count: int, runs: int) -> None:
    login = info.nodes[0].name
    common.quiet_wait()
    say(f"{count} modulefiles on {login}, {runs} runs of each")
    wanted = {
        "root": ROOT, "count": count, "runs": runs, "user": USER, "init": shells.INIT, "tool": TOOL,
        "lmod": f"{shells.LMOD}/libexec/lmod",
        "cold": ["/usr/share/lmod", "/usr/share/lua", "/usr/lib/x86_64-linux-gnu/lua"],
        "profile": [shells.PROFILE, "/etc/profile.d/lmod.sh", shells.UPDATE],
    }  # fmt: skip
    try:
        words = ["python3", "-I", "-", json.dumps(wanted)]
        text = on_node(info, login, words, stdin=SCRIPT.read_text(), timeout=1800)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the benchmark failed on {login}") from error
    told = json.loads(text.splitlines()[-1])
    figures = {key: statistics.median(values) for key, values in told["figures"].items()}
    report(figures, told["made"], count, runs)


def report(figures: dict[str, float], made: float, count: int, runs: int) -> None:
    names = [key.removesuffix(" cache") for key in figures if key.endswith(" cache")]
    ours = {name: round(figures[f"{name} cache"], 4) for name in names}
    peer = {name: round(figures[f"{name} none"], 4) for name in names}
    rows = [
        [name, f"{ours[name]:.3f}", f"{peer[name]:.3f}", f"{peer[name] / ours[name]:.1f}"]
        for name in names
    ]
    common.show(
        f"{count} modulefiles: seconds, medians of {runs}",
        rows,
        ["", "with the cache", "without", "without / with"],
    )
    starts = {key: round(value, 4) for key, value in figures.items() if key.startswith("bash")}
    common.show(
        "a shell's start: milliseconds",
        [[name, f"{value * 1000:.1f}"] for name, value in starts.items()],
        ["", "ms"],
    )
    common.console.print(f"making the cache: {made:.1f} s")
    good = ours["avail warm"] <= max(0.2, peer["avail warm"] / 4)
    common.console.print(
        f"warm avail {'meets' if good else 'misses'} 0.2 s or a quarter of the uncached"
    )
    common.finish(
        "modules", ours, peer, {name: common.ratio(peer[name], ours[name]) for name in names},
        shells=starts, make_cache_seconds=round(made, 2), modulefiles=count, runs=runs,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--lab", help="a lab that is up already, left as it is")
    options = parser.parse_args()
    if options.lab:
        run(common.labs.info(options.lab), options.count, options.runs)
        return
    with common.own_lab(ROLES, provision=True) as info:
        run(info, options.count, options.runs)


if __name__ == "__main__":
    main()
