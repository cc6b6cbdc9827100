#!/usr/bin/python3 -I
"""Would Slurm's controller start with this slurm.conf, and would no job be lost by it?

Usage: check_slurm_conf.py NEW. Exit 0 when it may go live. Otherwise the last line says why not.

Slurm (22.05 to 24.11) has no such test. A controller that restarts ends, without a word, jobs
on nodes that are gone or have another shape, jobs in partitions that are gone, and waiting jobs
that asked for such a node. So the queue is compared with what changes; then a second controller is
started with the new file in a network of its own, with an empty state and no accounting, until it
says that it runs.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIVE = Path("/etc/slurm/slurm.conf")
CGROUP = Path("/etc/slurm/cgroup.conf")
SHAPE = ("CPUs", "Sockets", "CoresPerSocket", "ThreadsPerCore")
SECONDS = 25  # a controller that has said neither by then is given the benefit of the doubt
STARTED = b"Running as primary controller"
# Unlike ours, or of no concern: its state, its log, its process number, accounting, mail.
CHANGED = re.compile(r"^(StateSaveLocation|SlurmctldPidFile|SlurmctldLogFile|Accounting|JobAcct)")


def shapes(text: str) -> dict[str, tuple[str, ...]]:
    """Each node's hardware, as practicum writes it: one line a node."""
    found = {}
    for name, rest in re.findall(r"^NodeName=(\S+) (.*)$", text, re.MULTILINE):
        keys = dict(part.split("=", 1) for part in rest.split() if "=" in part)
        found[name] = tuple(keys.get(key, "") for key in SHAPE)
    return found


def partitions(text: str) -> set[str]:
    return set(re.findall(r"^PartitionName=(\S+)", text, re.MULTILINE))


def hosts(expression: str) -> set[str]:
    """node[01-02] as names; pure text, but Slurm's own rules."""
    if not expression or expression == "(null)":
        return set()
    if "[" not in expression:
        return set(expression.split(","))
    done = subprocess.run(
        ["scontrol", "show", "hostnames", expression],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def lost(old: str, new: str, queue: list[list[str]]) -> list[str]:
    """Sentences about jobs that the change would end. Rows: id, user, state, partition, nodes,
    nodes asked for."""
    before, after = shapes(old), shapes(new)
    gone = set(before) - set(after)
    changed = {name for name in set(before) & set(after) if before[name] != after[name]}
    dropped = partitions(old) - partitions(new)
    hit: dict[str, list[str]] = {}
    for job, user, state, parts, nodes, wanted in queue:
        who = f"{job} of {user}"
        for name in sorted(hosts(nodes) & (gone | changed)):
            how = "leaves the cluster" if name in gone else "has other cores than before"
            hit.setdefault(f"{name} {how}", []).append(who)
        if state == "PENDING":
            for name in sorted(hosts(wanted) & gone):
                hit.setdefault(f"{name} leaves the cluster", []).append(f"{who} (waits for it)")
        for name in sorted(set(parts.split(",")) & dropped):
            hit.setdefault(f"partition {name} goes", []).append(who)
    return [f"{what}, with jobs {', '.join(jobs[:6])}" for what, jobs in sorted(hit.items())]


def queue() -> list[list[str]]:
    active = subprocess.run(
        ["systemctl", "is-active", "--quiet", "slurmctld"], timeout=20, check=False
    )
    if active.returncode:
        return []  # nobody's jobs are known, and it has to be started anyhow
    done = subprocess.run(
        ["squeue", "-h", "-a", "-r", "-t", "PD,R,S,CF,ST", "-o", "%A|%u|%T|%P|%N|%n"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            "slurmctld runs and does not answer, so nobody knows which jobs this would end: "
            f"see journalctl -u slurmctld ({done.stderr.strip()[-200:]})"
        )
    return [line.split("|")[:6] for line in done.stdout.splitlines() if line.count("|") >= 5]


def trial(text: str, folder: str) -> str:
    """The text for the second controller."""
    lines = [line for line in text.splitlines() if not CHANGED.match(line)]
    # QOS are in the accounting database, which it has none of
    lines = [re.sub(r" QOS=\S+", "", line) for line in lines]
    lines += [f"StateSaveLocation={folder}", f"SlurmctldPidFile={folder}/pid"]
    return "\n".join(lines) + "\n"


def start(new: str) -> str:
    """What the second controller dies of, "" if it lives."""
    account = pwd.getpwnam("slurm")
    with tempfile.TemporaryDirectory(prefix="slurm-trial-") as folder:
        os.chown(folder, account.pw_uid, account.pw_gid)
        Path(folder, "slurm.conf").write_text(trial(new, folder), encoding="utf-8")
        if CGROUP.exists():
            shutil.copy(CGROUP, folder)
        command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--"]
        process = subprocess.Popen(
            [*command, sys.executable, "-I", __file__, "--inside", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            return watched(process)
        finally:
            process.kill()
            process.wait(10)


def watched(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None  # noqa: S101  it is a pipe
    source = process.stdout.fileno()
    end = time.monotonic() + SECONDS
    said = b""
    while select.select([source], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(source, 65536)
        said += piece
        if STARTED in said:
            return ""
        if not piece:
            return last_words(said.decode(errors="replace")) or f"status {process.wait(10)}"
    return ""


def last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or "fatal:" in line]
    return "; ".join(
        re.sub(r"^slurmctld: |(fatal|error): ", "", line) for line in (errors or lines)[-3:]
    )


def inside(folder: str) -> None:
    """In the new network: an address (Slurm looks addresses up, and without any of its own the C
    library finds none), then the controller as its own user."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        address = struct.pack("16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton("192.0.2.1"))
        fcntl.ioctl(device, 0x8916, address)  # SIOCSIFADDR
        fcntl.ioctl(device, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: up
    # A child: this process dies with unshare, and its namespace of processes with it.
    command = ["/usr/sbin/slurmctld", "-D", "-c", "-f", f"{folder}/slurm.conf"]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        command, env=path, user="slurm", group="slurm", extra_groups=[], check=False
    )
    sys.exit(abs(done.returncode))


def verdict(new: str) -> str:
    """Why it may not go live; "" when it may."""
    try:
        if LIVE.exists():
            jobs = lost(LIVE.read_text(encoding="utf-8"), new, queue())
            if jobs:
                return (
                    f"jobs would be lost: {'; '.join(jobs)}: wait for them (practicum node drain "
                    "keeps new ones away) or scancel them, and apply again"
                )
        reason = start(new)
    except (RuntimeError, subprocess.SubprocessError) as error:
        return str(error)
    return f"slurmctld would not start with it: {reason}" if reason else ""


def main(arguments: list[str]) -> int:
    if arguments[0] == "--inside":
        inside(arguments[1])
    said = verdict(Path(arguments[0]).read_text(encoding="utf-8"))
    if said:
        sys.stderr.write(f"{said}\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
