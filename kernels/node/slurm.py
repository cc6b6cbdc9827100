"""Build and test jobs in Slurm, as an account of their own. Standard library only."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels.build_env import BuildError

BUILDER = "practicum-build"
SMALL = frozenset({"armv6l", "armv7l", "armhf", "i386", "i486", "i586", "i686"})
CALL_LIMIT = 60
POLL_SECONDS = 0.5
WAITING = ("PENDING", "CONFIGURING")
OVER = re.compile(
    r"COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY|BOOT_FAIL|DEADLINE|PREEMPTED"
)
ENDS = {
    "OUT_OF_MEMORY": "ran out of memory",
    "TIMEOUT": "took longer than it may",
    "CANCELLED": "was cancelled",
    "NODE_FAIL": "lost its node",
}
SITE = re.compile(r"""^\s*(?:export\s+)?([A-Za-z_]\w*)=(["']?)(.*?)\2\s*$""", re.MULTILINE)
PASSED = re.compile(r"(?i).*_proxy$|^SSL_CERT_FILE$|^REQUESTS_CA_BUNDLE$|^UV_")


@dataclass(frozen=True)
class Machine:
    """A node as slurmctld knows it. ``arch`` is "" until it has registered once."""

    name: str
    arch: str
    state: str

    @property
    def usable(self) -> bool:
        return bool(self.arch) and not re.search(r"DOWN|DRAIN|FAIL|UNKNOWN|\*|POWER", self.state)


def _run(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=CALL_LIMIT, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise BuildError(f"Slurm's {argv[0]} is not on this node") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"Slurm does not answer {argv[0]} within {CALL_LIMIT} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise BuildError(f"{argv[0]} failed: {said}")
    return done.stdout


def fields(line: str) -> dict[str, str]:
    """``scontrol show -o``'s KEY=VALUE words. Of a job the name and comment may hold anything;
    nothing of those is read here."""
    found: dict[str, str] = {}
    for word in line.split():
        key, equals, value = word.partition("=")
        if equals:
            found.setdefault(key, value)
    return found


def machines() -> list[Machine]:
    """All nodes. BuildError when Slurm does not answer."""
    rows = (fields(line) for line in _run(["scontrol", "show", "node", "-o"]).splitlines())
    return [Machine(row["NodeName"], row.get("Arch", ""), row.get("State", ""))
            for row in rows if "NodeName" in row]  # fmt: skip


def kinds(known: Sequence[Machine]) -> dict[str, list[Machine]]:
    """The kinds of processor to build for, with their nodes. BuildError for a 32-bit node, and
    where one kind has no node that takes jobs."""
    small = [node for node in known if node.arch in SMALL]
    if small:
        raise BuildError(
            f"{small[0].name} is 32-bit ({small[0].arch}): kernels need 64-bit systems; install "
            "one there, or take the node out of cluster.toml"
        )
    found: dict[str, list[Machine]] = {}
    for node in known:
        if node.arch:
            found.setdefault(node.arch, []).append(node)
    if not found:
        raise BuildError("no compute node has registered with Slurm yet: see practicum status")
    for arch, nodes in found.items():
        if not any(node.usable for node in nodes):
            names = ", ".join(node.name for node in nodes[:4])
            raise BuildError(
                f"no node with a processor {arch} takes jobs ({names}): see practicum status"
            )
    return found


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """For sbatch, and so for the job: a path, a language, the site's proxies and certificates."""
    try:
        site = Path("/etc/environment").read_text(encoding="utf-8", errors="replace")
    except OSError:
        site = ""
    given = {**{name: value for name, _, value in SITE.findall(site)}, **os.environ}
    kept = {key: value for key, value in given.items() if PASSED.match(key)}
    kept.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", LANG="C.UTF-8", **(more or {}))
    if server := os.environ.get("SLURM_CONF_SERVER"):
        kept["SLURM_CONF_SERVER"] = server
    return kept


@dataclass(frozen=True)
class Order:
    """What to ask Slurm for. ``command`` is quoted by the caller."""

    name: str
    command: str
    output: Path
    partition: str
    minutes: int
    exclude: Sequence[str] = ()
    group: str = ""  # for what only this group may read


def submit(order: Order, more: Mapping[str, str] | None = None) -> int:
    """The job's number. Two cores and a GB if the nodes have that, else what they have."""
    words = [
        "sbatch", "--parsable", f"--job-name={order.name}", f"--output={order.output}",
        f"--time={order.minutes}", "--nodes=1", "--ntasks=1", "--chdir=/", "--no-requeue",
        "--export=ALL",
    ]  # fmt: skip
    if order.partition:
        words.append(f"--partition={order.partition}")
    if order.exclude:
        words.append(f"--exclude={','.join(order.exclude)}")
    account = _as_builder()
    if order.group and account:  # root's sbatch sets both
        words += [f"--uid={BUILDER}", f"--gid={order.group}"]
        account = {}
    script = f"#!/bin/sh\nexec {order.command}\n"
    said = ""
    for size in (["--cpus-per-task=2", "--mem=1000M"], ["--cpus-per-task=1"]):
        done = subprocess.run(
            [*words, *size], input=script, env=environment(more), capture_output=True, text=True,
            timeout=CALL_LIMIT, check=False, cwd="/", **account,
        )  # fmt: skip
        number = done.stdout.strip().partition(";")[0]
        if done.returncode == 0 and number.isdecimal():
            return int(number)
        said = " ".join(done.stderr.split())[-300:]
    raise BuildError(f"Slurm does not take the job: {said}")


def _as_builder() -> dict[str, Any]:
    account = builder()
    if os.geteuid() != 0:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def builder() -> pwd.struct_passwd:
    """The account that builds. BuildError before an apply has made it."""
    try:
        return pwd.getpwnam(BUILDER)
    except KeyError:
        raise BuildError(
            f"there is no account {BUILDER} on this node: practicum apply makes it"
        ) from None


def cancel(job: int) -> None:
    subprocess.run(["scancel", str(job)], check=False, timeout=CALL_LIMIT, capture_output=True)


def cancel_named(name: str) -> None:
    """Jobs of a build that was killed before it could do so itself."""
    subprocess.run(
        ["scancel", f"--name={name}", f"--user={BUILDER}"],
        check=False, timeout=CALL_LIMIT, capture_output=True,
    )  # fmt: skip


def wait(job: int, seconds: float, beat: Callable[[str], None]) -> tuple[str, str]:
    """Until the job is over: (state, node). ``beat`` hears what it waits for, every now and then.
    BuildError after ``seconds``."""
    end = time.monotonic() + seconds
    pause = POLL_SECONDS
    while time.monotonic() < end:
        try:
            row = fields(_run(["scontrol", "show", "job", "-o", str(job)]))
        except BuildError as error:
            if "Invalid job id" in str(error):  # forgotten: it is over for MinJobAge seconds
                return "UNKNOWN", ""
            row = {}  # a controller that restarts
        state = row.get("JobState", "")
        if OVER.match(state):
            return state, row.get("NodeList", "")
        if state in WAITING:
            reason = row.get("Reason", "None")  # None: Slurm has not looked at it yet
            beat("waits for a node" + (f" ({reason})" if reason != "None" else ""))
        else:
            beat("")
        time.sleep(pause)
        pause = min(pause * 1.1, 3)
    raise BuildError(f"job {job} did not end within {seconds / 60:.0f} minutes")


def ended(state: str, node: str, job: int) -> str:
    """What to say of a job that left no word of its own."""
    what = ENDS.get(state, f"ended as {state.lower()}")
    return f"job {job} on {node or 'no node'} {what}"
