"""How fast a cluster becomes, and is seen to be, what it should be: practicum and ansible-core on
the same three nodes, with the same resources.

All of it with the ground floor's roles (names, accounts, munge, MariaDB, slurmdbd, Slurm, MPI);
``--roles all`` takes every role of the product for the first part.

1. ``no change``: everything is there already. One apply against one ``ansible-playbook``.
2. ``first``: new nodes that have the packages and nothing else. One apply (facts, plan, changes)
   against ``ansible-playbook --check --diff`` and the run itself.
3. ``first, no daemons``: the same without services and commands, whose own time is nobody's merit.

4. ``targets``: no change again, with every role of the product, over 3, 15 and 60 targets: the
   lab's nodes and twins of them (many.py). No apply has anything to do, so it ends with its plan.

Wall seconds, CPU seconds of the machine that steers, CPU seconds of the nodes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import many
from apply_some import roles
from common import Group, Timed, say
from playbook import write

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.rooms import ROLES
from provisioning import engine
from provisioning.facts import Facts
from provisioning.lab import LabInfo
from provisioning.remembered import remembered
from provisioning.report import Silent

ANSIBLE = "ansible-core==2.19.14"
HERE = Path(__file__).resolve().parent
Figures = dict[str, float]
WAITED = ("service:", "command:")
NODES = common.NODES
PARTS = ["no-change", "targets", "first", "plain"]


def ansible() -> Path:
    """ansible-core in an environment of its own under the user's cache; its folder of commands."""
    home = common.CACHE / ANSIBLE.replace("==", "-")
    stamp = home / "complete"
    if not stamp.exists():
        say(f"installing {ANSIBLE} into {home}")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "pip"), "--disable-pip-version-check", "install", "-q", ANSIBLE]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        stamp.touch()
    return home / "bin"


class Peer:
    """The playbook for one lab and one choice of roles, and Ansible to run it."""

    def __init__(self, info: LabInfo, choice: str, folder: Path, targets: int = NODES) -> None:
        self.folder = folder
        self.info = info
        self.targets = targets
        cluster = load(info.cluster_toml)
        secrets = load_secrets(secrets_path(info.cluster_toml), cluster)
        base = info.cluster_toml.parent
        facts = gathered(info)
        declared, addresses = many.declared(cluster, roles(choice), facts, secrets, targets)
        self.resources = sum(len(items) for one in declared for _, items in one.stages)
        self.tasks = write(folder, cluster, base, declared, "/usr/bin/python3", addresses)

    def run(self, *options: str) -> tuple[Timed, dict[str, Any]]:
        spans = self.folder / "spans.json"
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "SPANS": str(spans),
            "LC_ALL": "C.UTF-8",
        }
        done = common.timed(
            [str(ansible() / "ansible-playbook"), *options, str(self.folder / "site.yml")],
            env=env, cwd=self.folder, timeout=600 + 60 * self.targets,
        )  # fmt: skip
        return done, json.loads(spans.read_text())

    def close(self) -> None:
        """End the connections that Ansible keeps."""
        for path in (self.folder / "cp").glob("*"):
            subprocess.run(["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", "x"],
                           check=False, capture_output=True)  # fmt: skip


def gathered(info: LabInfo) -> dict[str, Facts]:
    """Facts as the last plan left them beside cluster.toml; asked for if there was none."""
    base = info.cluster_toml.parent
    known = remembered(base)
    if not known:
        cluster = load(info.cluster_toml)
        engine.plan(cluster, (), {}, base=base, reporter=Silent())
        known = remembered(base)
    return {name: Facts.from_wire(wire) for name, wire in known.items()}


class Nodes:
    """CPU seconds of all nodes together."""

    def __init__(self, info: LabInfo) -> None:
        self.groups = [Group.of_node(info.name, node.name) for node in info.nodes]

    @property
    def seconds(self) -> float:
        return sum(group.seconds for group in self.groups)


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans was going on."""
    total, until = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def ours(info: LabInfo, choice: str, targets: int = 0) -> Figures:
    """One apply by practicum: the whole process, Python's start and imports too."""
    argv = [sys.executable, str(HERE / "apply_some.py"), str(info.cluster_toml), choice]
    if targets:
        argv += ["--targets", str(targets)]
    nodes = Nodes(info)
    before = nodes.seconds
    done = common.timed(argv)
    told = json.loads(done.output.strip().splitlines()[-1])
    return {
        "wall": done.wall,
        "cpu": done.cpu,
        "cpu_nodes": nodes.seconds - before,
        "changed": told["changed"],
        "daemons": waited(told),
    }


def waited(told: Mapping[str, Any]) -> float:
    """Seconds in which a node was starting a service or running a command, from what it told."""
    kinds = {(node, summary): key for node, key, summary in told["changes"]}
    spans: list[tuple[float, float]] = []
    current: dict[str, float] = {}
    for at, node, text in told["events"]:
        key = kinds.get((node, text))
        if key is None and not text.startswith("state "):
            continue  # a remark within a step
        if node in current:
            spans.append((current.pop(node), at))
        if key is not None and key.startswith(WAITED):
            current[node] = at
    end = told["events"][-1][0]
    return union([*spans, *((begin, end) for begin in current.values())])


def pending(info: LabInfo, choice: str) -> dict[str, Any]:
    """What practicum still finds to do: the proof that the peer did the same job."""
    argv = [sys.executable, str(HERE / "apply_some.py"), str(info.cluster_toml), choice, "--plan"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def theirs(peer: Peer, *options: str) -> Figures:
    """One run of the playbook."""
    nodes = Nodes(peer.info)
    before = nodes.seconds
    done, told = peer.run(*options)
    spans = [(begin, end) for name, _, begin, end in told["spans"] if name.startswith(WAITED)]
    return {
        "wall": done.wall,
        "cpu": done.cpu,
        "cpu_nodes": nodes.seconds - before,
        "changed": sum(host["changed"] for host in told["hosts"].values()),
        "daemons": union(spans),
    }


def no_change(info: LabInfo, folder: Path, choice: str, runs: tuple[int, int]) -> dict[str, Any]:
    """Ours and the peer in turn on nodes that are as they should be."""
    ours(info, choice)
    peer = Peer(info, choice, folder / "no-change")
    say(f"no change: {peer.resources} resources, {peer.tasks} Ansible tasks; warming up both")
    first, ready = theirs(peer), ours(info, choice)
    say(f"Ansible changed {first['changed']:.0f}, practicum then {ready['changed']:.0f}")
    common.quiet_wait()
    mine = [ours(info, choice) for _ in range(runs[0])]
    other = []
    for _ in range(runs[1]):
        other.append(theirs(peer))
        mine.append(ours(info, choice))
        say(f"ours {mine[-1]['wall']:.2f} s, Ansible {other[-1]['wall']:.1f} s")
    peer.close()
    if any(run["changed"] for run in (*mine, *other)):
        raise SystemExit("something was changed meanwhile (the source?): these are no figures")
    return {
        "resources": peer.resources,
        "tasks": peer.tasks,
        "ours": common.medians(mine),
        "peer": common.medians(other),
        "peer_changed_at_first": first["changed"],
        "runs": [len(mine), len(other)],
    }


def over_targets(
    info: LabInfo, folder: Path, counts: Sequence[int], most_of_peer: int
) -> dict[str, dict[str, Any]]:
    """Every role, no change, more and more targets. One run of the peer each, as long as there are
    not more than ``most_of_peer``: it takes minutes."""
    most = many.twins(load(info.cluster_toml), max(counts))
    many.lend_addresses(info, most)
    ours(info, "all")
    warm = Peer(info, "all", folder / "targets-warm")
    theirs(warm)
    warm.close()
    say(f"all roles: {warm.resources} resources on {NODES} nodes; Ansible has run once")
    found: dict[str, dict[str, Any]] = {}
    for count in counts:
        peer = Peer(info, "all", folder / f"targets-{count}", count)
        common.quiet_wait()
        mine = [ours(info, "all", count) for _ in range(3)]
        told = common.medians(mine)
        say(f"{count} targets, {peer.resources} resources: ours {told['wall']:.2f} s, "
            f"CPU here {told['cpu']:.2f} s, nodes {told['cpu_nodes']:.2f} s")  # fmt: skip
        other = [theirs(peer)] if count <= most_of_peer else []
        peer.close()
        if any(run["changed"] for run in (*mine, *other)):
            raise SystemExit(f"with {count} targets something was changed: these are no figures")
        if not other:
            continue
        say(f"{count} targets: Ansible {other[-1]['wall']:.1f} s, CPU here "
            f"{other[-1]['cpu']:.1f} s, nodes {other[-1]['cpu_nodes']:.1f} s")  # fmt: skip
        found[f"{count}_targets"] = {
            "resources": peer.resources,
            "tasks": peer.tasks,
            "ours": common.medians(mine),
            "peer": common.medians(other),
            "runs": [len(mine), len(other)],
        }
    return found


def first_time(name: str, folder: Path, choice: str, runs: int) -> dict[str, Any]:
    """New nodes for each run."""
    mine, other, left = [], [], 0
    peer = None
    for number in range(runs):
        info = common.fresh(name, ROLES)
        gathered(info)
        common.quiet_wait()
        mine.append(ours(info, choice))
        say(f"{choice}: ours {mine[-1]['wall']:.2f} s, {mine[-1]['changed']:.0f} changes")
        info = common.fresh(name, ROLES)
        peer = Peer(info, choice, folder / f"{choice}-{number}")
        common.quiet_wait()
        check, real = theirs(peer, "--check", "--diff"), theirs(peer)
        peer.close()
        other.append({key: check[key] + real[key] for key in check} | {
            "check_wall": check["wall"], "run_wall": real["wall"], "changed": real["changed"],
        })  # fmt: skip
        left = pending(info, choice)["pending"]
        say(f"{choice}: Ansible {check['wall']:.1f} + {real['wall']:.1f} s, "
            f"{real['changed']:.0f} changes; practicum then finds {left} to do")  # fmt: skip
    return {
        "resources": peer.resources if peer else 0,
        "tasks": peer.tasks if peer else 0,
        "ours": common.medians(mine),
        "peer": common.medians(other),
        "left_after_peer": left,
        "runs": [runs, runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--roles", choices=["all", "ground"], default="ground",
                        help="for the run without a change")  # fmt: skip
    parser.add_argument("--targets", type=int, nargs="+", default=[3, 15, 60])
    parser.add_argument("--peer-up-to", type=int, default=60,
                        help="beyond so many targets practicum runs alone")  # fmt: skip
    parser.add_argument("--runs", type=int, default=2, help="of each first time, for both")
    options = parser.parse_args()
    wanted = options.only or PARTS
    ansible()
    parts: dict[str, dict[str, Any]] = {}
    folder = Path(tempfile.mkdtemp(prefix="practicum-benchmark-"))
    try:
        with common.own_lab(ROLES, provision=False) as info:
            if "no-change" in wanted:
                parts["no_change"] = no_change(info, folder, options.roles, (3, 2))
            if "targets" in wanted:
                parts |= over_targets(info, folder, options.targets, options.peer_up_to)
            if "first" in wanted:
                parts["first"] = first_time(info.name, folder, "ground", options.runs)
            if "plain" in wanted:
                parts["first_no_daemons"] = first_time(info.name, folder, "plain", options.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        common.forget_group()
    report(parts)


def report(parts: Mapping[str, Mapping[str, Any]]) -> None:
    rows = []
    for name, part in parts.items():
        for who in ("ours", "peer"):
            run = part[who]
            rows.append([
                f"{name.replace('_', ' ')}: {'practicum' if who == 'ours' else 'Ansible'}",
                f"{run['wall']:.2f}", f"{run['cpu']:.2f}", f"{run['cpu_nodes']:.2f}",
                f"{run['daemons']:.2f}" if "daemons" in run else "",
                f"{part['peer']['wall'] / part['ours']['wall']:.1f}" if who == "ours" else "",
            ])  # fmt: skip
    common.show(
        "converge: three nodes, medians, seconds",
        rows,
        ["", "wall", "CPU here", "CPU nodes", "in daemons", "times faster"],
    )
    for name, part in parts.items():
        common.console.print(
            f"{name}: {part['resources']} resources, {part['tasks']} Ansible tasks, "
            f"runs {part['runs']}"
        )
    common.finish(
        "converge",
        {name: part["ours"] for name, part in parts.items()},
        {name: part["peer"] for name, part in parts.items()},
        {
            name: {
                key: common.ratio(part["peer"][key], part["ours"][key])
                for key in ("wall", "cpu", "cpu_nodes")
            }
            for name, part in parts.items()
        },
        details={
            name: {key: part[key] for key in part if key not in ("ours", "peer")}
            for name, part in parts.items()
        },
        seconds=round(time.monotonic() - common.STARTED),
    )


if __name__ == "__main__":
    main()
