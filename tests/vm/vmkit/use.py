"""What tests do with the machines: run commands, apply, reboot, pull the plug."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cluster.errors import PracticumError
from cluster.load import load
from cluster.model import Cluster
from cluster.secrets import load_secrets, secrets_path
from practicum import formatting
from practicum.report import Plain
from practicum.rooms import ROLES
from provisioning import engine
from provisioning.lab import access, tree
from provisioning.lab.system import write
from provisioning.planning import Plan, Result
from provisioning.role import Role
from vmkit import described, environments
from vmkit import image as images
from vmkit.cluster import BOOT_SECONDS, Hardware
from vmkit.described import BUILT_DISK, BY_SERIAL, DATA_DEVICE, HEAD
from vmkit.machine import wait_for_ssh

# Everything up to running jobs. The rooms above (kernels, hub) build Python environments,
# which takes minutes on an emulated processor.
CORE: tuple[Role, ...] = tuple(role for role in ROLES if role.stage not in ("software", "hub"))
PRACTICUM = Path(sys.executable).with_name("practicum")
# Of what the roles bring, and what lies below it.
UNITS = (
    "systemd-networkd", "chrony", "munge", "mariadb", "slurmdbd", "slurmctld", "slurmd",
    "nfs-server", "nfs-mountd", "nftables", "practicum-hub",
)  # fmt: skip
# Homes out of the way and back again; `homes_away` does both.
AWAY = "mkdir -p /root/away && find /home -mindepth 1 -maxdepth 1 -exec mv -t /root/away {} +"
BACK = "cp -a /root/away/. /home/ && rm -r /root/away"
# Processes until one is refused
MANY = """
import subprocess
held = []
try:
    while len(held) < 300:
        held.append(subprocess.Popen(["sleep", "120"]))
except BlockingIOError:
    print("stopped at", len(held))
finally:
    for one in held:
        one.kill()
"""
# Lines into a file, each on the disk before the next: words are the file and how many
WRITER = """
import os, sys, time
with open(sys.argv[1], "w") as stream:
    for number in range(int(sys.argv[2])):
        stream.write(f"{number}\\n")
        stream.flush()
        os.fsync(stream.fileno())
        time.sleep(0.1)
"""

Edit = Callable[[str], str]


class Vms(Hardware):
    """The machines, running."""

    # -- commands

    def ssh_command(self, node: str, argv: Sequence[str], *, user: str = "root") -> list[str]:
        """The command line that runs ``argv`` on a machine as ``user``: root comes in by key and
        changes to that user (a login session of runuser's). Connections are shared, for a
        handshake costs an emulated processor a second."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.key.with_name("known_hosts")),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": "60",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "18",
            "LogLevel": "ERROR",
            "ControlMaster": "auto",
            "ControlPath": f"{self.folder}/{node}.ssh",
            "ControlPersist": "300",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        address = self.machines[node].address
        return ["ssh", "-F", "none", "-T", "-i", str(self.key), *words, f"root@{address}",
                *access.remote(argv, user)]  # fmt: skip

    def run_on(
        self,
        node: str,
        argv: Sequence[str],
        *,
        user: str = "root",
        input: str | None = None,
        timeout: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        """Output as text, status not checked. TimeoutExpired after ``timeout`` seconds."""
        return subprocess.run(
            self.ssh_command(node, argv, user=user), input=input or "", text=True,
            capture_output=True, timeout=timeout, check=False,
        )  # fmt: skip

    def check_on(self, node: str, argv: Sequence[str], **options: object) -> str:
        """The same for what must go well: its standard output, or AssertionError."""
        done = self.run_on(node, argv, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, f"{node}: {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def on_login(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As ada, by a log-in to head that ends in her slice."""
        line = ["ssh", "-o", "BatchMode=yes", HEAD, shlex.join(words)]
        return self.run_on("node01", line, user="ada", timeout=300)

    def fill(self, node: str, user: str, path: str, megabytes: int) -> str:
        """Write a file as that user, onto the disk; what dd says when it is refused, else ""."""
        words = ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={megabytes}", "conv=fsync",
                 "status=none"]  # fmt: skip
        done = self.run_on(node, words, user=user)
        assert (done.returncode != 0) == bool(done.stderr), done
        return done.stderr

    def until(
        self,
        node: str,
        argv: Sequence[str],
        wanted: Callable[[str], bool],
        timeout: float = 120,
        *,
        user: str = "root",
    ) -> str:
        """Run it again and again until its output is as wanted; AssertionError shows the last."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.run_on(node, argv, user=user)
            if wanted(done.stdout):
                return done.stdout
            assert time.monotonic() < deadline, (
                f"{node}: {' '.join(argv)}: {done.stdout}{done.stderr}"
            )
            time.sleep(1)

    def until_idle(self, timeout: float = 300) -> None:
        """Until every compute node takes jobs and has none. The epilog of the last one is over then,
        which ends whatever else its user runs there, a test's commands too."""
        ask = ["sinfo", "-h", "-N", "-p", "batch", "-o", "%T"]
        wanted = ["idle"] * self.compute
        self.until(HEAD, ask, lambda text: text.split() == wanted, timeout)

    # -- apply

    def apply(
        self, edit: Edit | None = None, *, roles: Sequence[Role] = CORE, format_: str = ""
    ) -> Result:
        """Change cluster.toml by ``edit`` (text → text), then plan and apply as the command does.
        ``format_`` is the name of a disk, as typed by the admin (the command's ``--format``).
        AssertionError with the nodes' own sentences when one fails."""
        if edit:
            write(self.toml, edit(self.toml.read_text()))
        result = self.try_apply(roles=roles, format_=format_)
        assert result.ok, result.errors
        return result

    def try_apply(self, *limit: str, roles: Sequence[Role] = CORE, format_: str = "") -> Result:
        """The same, to the nodes named or to all; what went wrong is in the result."""
        described, known = self.described()
        return engine.apply(
            described, roles, {**known, **formatting.confirmed(described, format_)},
            base=self.toml.parent, limit=limit, confirm=lambda _plan: True, reporter=Plain(),
        )  # fmt: skip

    def plan(self, *, roles: Sequence[Role] = CORE) -> Plan:
        described, known = self.described()
        return engine.plan(described, roles, known, base=self.toml.parent, reporter=Plain())

    def described(self) -> tuple[Cluster, dict[str, str]]:
        """The cluster as cluster.toml has it now, and its secrets."""
        return load(self.toml), load_secrets(secrets_path(self.toml))

    def place_environments(self, say: Callable[[str], None]) -> None:
        """Put the environments of hub, sessions and kernels, built by this host, where the roles
        would build them on head: on an emulated processor that takes a quarter of an hour. The
        shared folder must be there already."""
        described_, known = self.described()
        guest = tree.GUESTS[self.guest]
        context = described.context(guest, described_, known, HEAD)
        disk = self.machines[HEAD].folder / "built.img"
        root = images.grown_tree(guest)
        environments.make(guest, root, environments.wanted(context, ROLES), disk, say)
        device = f"{BY_SERIAL}{BUILT_DISK}"
        self.check_on(HEAD, ["mount", "-m", "-o", "ro", device, "/run/practicum-built"])
        try:
            for name in environments.FOLDERS:
                self.check_on(HEAD, ["mkdir", "-p", f"/{name}"])
                # without what an earlier test left on the disk
                copy = ["cp", "-au", f"/run/practicum-built/{name}/.", f"/{name}/"]
                self.check_on(HEAD, copy, timeout=900)
        finally:
            self.check_on(HEAD, ["umount", "/run/practicum-built"])

    def _environments(self) -> set[str]:
        """Each virtual environment on head, with its file's inode: built again it has another.
        Apply runs its commands all the same, which then find what they would build."""
        folders = [f"/{name}" for name in environments.FOLDERS]
        seen = ["find", *folders, "-maxdepth", "4", "-name", "pyvenv.cfg", "-printf", "%p %i\n"]
        return set(self.check_on(HEAD, seen).splitlines())

    @contextlib.contextmanager
    def homes_away(self, *nodes: str) -> Iterator[None]:
        """Meanwhile these machines (all, if none is named) have no homes: a file server's /home is
        not put over homes that are in use."""
        for name in nodes or self.machines:
            self.check_on(name, ["sh", "-c", AWAY])
        put_back = self.run_on  # after a failure as far as it goes: that is what is to be told
        try:
            yield
            put_back = self.check_on
        finally:
            for name in nodes or self.machines:
                put_back(name, ["sh", "-c", BACK])

    def empty_disk(self) -> None:
        """Take everything off the disk that head is to serve."""
        self.check_on(HEAD, ["wipefs", "--all", DATA_DEVICE])

    @contextlib.contextmanager
    def whole(self, edit: Edit, *, format_: str = "") -> Iterator[None]:
        """Every role applied, with cluster.toml changed by ``edit`` so that head serves the files;
        afterwards all is as before. AssertionError when an environment is built on head."""
        before = self.toml.read_text()
        with self.homes_away():
            self.empty_disk()  # of other tests' kernels, which are not declared here
            self._apply_whole(edit, format_)
            yield
            self.apply(lambda _text: before)

    def _apply_whole(self, edit: Edit, format_: str) -> None:
        times = [time.monotonic()]
        self.apply(edit, format_=format_)
        times.append(time.monotonic())
        self.place_environments(print)
        times.append(time.monotonic())
        placed = self._environments()
        self.apply(roles=ROLES)
        times.append(time.monotonic())
        took = [f"{late - early:.0f} s" for early, late in pairwise(times)]
        print(f"core {took[0]}, environments {took[1]}, whole set {took[2]}")
        assert placed, "no environment was placed"
        assert self._environments() == placed, "an emulated processor built environments"

    def practicum(self, *words: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """The command itself, in the folder of cluster.toml (so `--file` is not needed)."""
        return subprocess.run(
            [str(PRACTICUM), *words], cwd=self.toml.parent, text=True, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=timeout, check=False,
        )  # fmt: skip

    # -- power

    def boot_id(self, node: str) -> str:
        return self.check_on(node, ["cat", "/proc/sys/kernel/random/boot_id"]).strip()

    def reboot(self, node: str, *, wait: bool = True) -> None:
        """An orderly restart from inside."""
        before = self.boot_id(node)
        self.run_on(node, ["systemctl", "--no-block", "reboot"])
        if wait:
            self.wait_booted(node, before)

    def wait_booted(self, node: str, before: str, timeout: float = BOOT_SECONDS) -> None:
        """Until SSH answers in another boot than ``before`` (boot_id)."""
        deadline = time.monotonic() + timeout
        machine = self.machines[node]
        while True:
            self.close(node)
            with contextlib.suppress(subprocess.TimeoutExpired):
                wait_for_ssh([machine], max(1, deadline - time.monotonic()))
                now = self.run_on(node, ["cat", "/proc/sys/kernel/random/boot_id"], timeout=60)
                if now.returncode == 0 and now.stdout.strip() not in ("", before):
                    return
            if time.monotonic() > deadline:
                raise PracticumError(f"{node} did not boot again:\n{machine.console_tail()}")
            time.sleep(1)

    def power_off(self, node: str) -> None:
        """Pull the plug."""
        self.close(node)
        self.machines[node].power_off()

    def power_on(self, node: str, *, wait: bool = True) -> None:
        self.machines[node].start()
        if wait:
            wait_for_ssh([self.machines[node]], BOOT_SECONDS)

    def reset(self, node: str, *, wait: bool = True) -> None:
        """The reset button: nothing is written to the disks any more."""
        before = self.boot_id(node)
        self.close(node)
        self.machines[node].ask("system_reset")
        if wait:
            self.wait_booted(node, before)

    def set_clock(self, node: str, seconds: float) -> None:
        """Put a machine's clock ahead by so many seconds (behind, if negative), its time service
        stopped; :meth:`mend_clock` undoes it."""
        self.run_on(node, ["systemctl", "stop", "chrony"])
        self.check_on(node, ["date", "--set", f"@{time.time() + seconds:.0f}"])

    def mend_clock(self, node: str) -> None:
        self.check_on(node, ["date", "--set", f"@{time.time():.0f}"])
        self.run_on(node, ["systemctl", "start", "chrony"])

    # -- looking

    def close(self, node: str) -> None:
        """End the shared connection: after a reboot it leads nowhere."""
        control = self.folder / f"{node}.ssh"
        if control.exists():
            subprocess.run(
                ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "x"],
                capture_output=True, timeout=20, check=False,
            )  # fmt: skip
        control.unlink(missing_ok=True)

    def down(self) -> None:
        for node in self.machines:
            self.close(node)
        super().down()

    def evidence(self, lines: int = 40) -> Iterator[tuple[str, str]]:
        """(title, text) of each console's end, and of what each service logged last."""
        for name, machine in self.machines.items():
            yield f"{name}: console", machine.console_tail()
            if machine.process() is None:
                yield f"{name}: journals", "the machine is off"
                continue
            words = ["journalctl", "--no-pager", "--quiet", f"--lines={lines}"]
            try:
                failed = self.run_on(name, ["systemctl", "--no-legend", "--failed"], timeout=60)
                yield f"{name}: failed units", failed.stdout + failed.stderr
                for unit in UNITS:
                    done = self.run_on(name, [*words, f"--unit={unit}"], timeout=60)
                    if done.stdout.strip():
                        yield f"{name}: {unit}", done.stdout
            except subprocess.TimeoutExpired:
                yield f"{name}: journals", "the machine does not answer"


def changes(result: Result | Plan) -> list[str]:
    """What was (or would be) done, as text for a failing test."""
    plan = result.plan if isinstance(result, Result) else result
    return [f"{node}: {change.action} {change.key}" for node, change in plan.changes()
            if change.action != "list"]  # fmt: skip


def as_json(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The one JSON object that a command printed."""
    return dict(json.loads(done.stdout))
