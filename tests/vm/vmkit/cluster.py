"""The machines, head and node01 and what more a test wants, from nothing to running, and back to
nothing.

All of it is in one folder under the cluster's name. Whoever uses a cluster holds its lock; a
folder that nobody holds and nobody asked to keep was left by a killed run, and the next one
removes it, with its processes and its network.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from cluster.errors import PracticumError
from cluster.load import load
from cluster.secrets import generate, load_secrets, save_secrets, secrets_path
from practicum.rooms import ROLES
from provisioning.lab import host, keys, settings, tree
from provisioning.lab.network import address, gateway
from provisioning.lab.system import locked, remove_tree, run, write
from vmkit import described, environments, network
from vmkit import image as images
from vmkit.described import BUILT_DISK, DATA_DISK, FULL_DISK, HEAD
from vmkit.machine import Disk, Machine, wait_for_ssh

STATE = Path(os.environ.get("PRACTICUM_VM_STATE", "/var/lib/practicum/vms"))
# A login node of 1 GB is to be enough.
HEAD_MB, COMPUTE_MB = 1024, 768
CPUS = 2
DATA_MB, FULL_MB = 2048, 64
# SSH answers after 25 s on a quiet machine with two cores; others may be using it.
BOOT_SECONDS = 600
NAME = re.compile(r"^[a-z][a-z0-9-]{0,8}[a-z0-9]$")
NOWHERE = ipaddress.IPv4Network("192.0.2.0/24")

Say = Callable[[str], None]


class Hardware:
    """The machines as such: folder, disks, network, power. ``compute`` of them besides head; those
    that are there already stay as many as they are."""

    def __init__(self, name: str, guest: str = "debian12", compute: int = 1) -> None:
        if not NAME.fullmatch(name):
            raise PracticumError(f"{name!r} cannot name VMs: 2 to 10 of a-z, 0-9 and dashes")
        self.name = name
        self.guest = guest
        self.compute = compute
        self.folder = STATE / name
        self.subnet = NOWHERE
        self._recall()
        self.machines = self._machines()

    @property
    def record(self) -> Path:
        return self.folder / "vms.json"

    @property
    def toml(self) -> Path:
        return self.folder / "cluster" / "cluster.toml"

    @property
    def key(self) -> Path:
        return self.toml.parent / "secrets" / "ssh_key"

    def up(self, say: Say) -> None:
        """Make what is missing, power on what is off, wait until SSH answers on all."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.subnet == NOWHERE:
            self.subnet = network.choose(self.name, 1 + self.compute)
            known = {"guest": self.guest, "compute": self.compute, "subnet": str(self.subnet)}
            write(self.record, json.dumps(known))
            self.machines = self._machines()
        network.make(self.name, self.subnet, 1 + self.compute)
        self._describe()
        if not (self.folder / "made").exists():
            self._make(say)
        begun = time.monotonic()
        for machine in self.machines.values():
            machine.start()
        wait_for_ssh(list(self.machines.values()), BOOT_SECONDS)
        say(f"SSH answers on all after {time.monotonic() - begun:.0f} s")

    def down(self) -> None:
        """Stop the machines and remove all that is theirs. Fine if nothing is there."""
        for machine in self.machines.values():
            machine.power_off()
        network.remove(self.name, 1 + self.compute)
        if self.folder.exists():
            remove_tree(self.folder)
        if not names():
            host.restore()

    def _describe(self) -> None:
        self.toml.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.toml.exists():
            compute = "".join(
                described.COMPUTE.format(name=one.name, address=one.address)
                for one in self.machines.values()
                if one.name != HEAD
            )
            text = described.TEMPLATE.format(
                subnet=self.subnet, gateway=gateway(self.subnet),
                head=address(self.subnet, 0), compute=compute,
            )  # fmt: skip
            write(self.toml, text)
        path = secrets_path(self.toml)
        known = load_secrets(path, complete=False) if path.exists() else {}
        if generate(known) != known:
            save_secrets(path, generate(known))

    def _recall(self) -> None:
        """What is there is as it was made."""
        if self.record.is_file():
            known = json.loads(self.record.read_text())
            self.guest, self.compute = known["guest"], known["compute"]
            self.subnet = ipaddress.IPv4Network(known["subnet"])

    def _machines(self) -> dict[str, Machine]:
        names = (HEAD, *(f"node{number:02}" for number in range(1, 1 + self.compute)))
        return {name: self._machine(index, name) for index, name in enumerate(names)}

    def _machine(self, index: int, name: str) -> Machine:
        folder = self.folder / name
        number = hashlib.sha256(f"{self.name} {name}".encode()).hexdigest()
        disks: tuple[Disk, ...] = ()
        if name == HEAD:
            disks = (
                Disk(folder / "data.img", DATA_DISK),
                Disk(folder / "full.img", FULL_DISK),
                Disk(folder / "built.img", BUILT_DISK),
            )
        return Machine(
            cluster=self.name, name=name, folder=folder, address=address(self.subnet, index),
            mac=f"52:54:00:{number[:2]}:{number[2:4]}:{index:02x}",
            tap=network.tap(self.name, index), cpus=CPUS,
            memory_mb=HEAD_MB if name == HEAD else COMPUTE_MB,
            machine_id=uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{self.name}").hex, disks=disks,
        )  # fmt: skip

    def _make(self, say: Say) -> None:
        """Disks, keys and seeds. The image below the disks gets a name of our own, so that a
        newer one in the cache takes nothing away."""
        wanted = described.packages(
            tree.GUESTS[self.guest], load(self.toml), load_secrets(secrets_path(self.toml)), ROLES
        )
        image = images.image(self.guest, wanted, say)
        base = self.folder / "base.img"
        base.unlink(missing_ok=True)
        os.link(image.disk, base)
        _, public = keys.ensure_key(self.key, f"practicum VMs {self.name}")
        known = ""
        for machine in self.machines.values():
            machine.folder.mkdir(exist_ok=True)
            own = keys.ensure_key(machine.folder / "host_key", machine.name)
            known += keys.known_host(machine.address, own[1])
            images.seed(self._seed(machine, public, own), machine.folder / "seed.tar")
            shutil.copyfile(image.kernel, machine.folder / "vmlinuz")
            shutil.copyfile(image.initrd, machine.folder / "initrd")
            run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base),
                 str(machine.folder / "root.qcow2")],
                timeout=30,
            )  # fmt: skip
        write(self.key.with_name("known_hosts"), known)
        head = self.machines[HEAD].folder
        for name, megabytes in (("data.img", DATA_MB), ("built.img", environments.DISK_MB)):
            with (head / name).open("wb") as disk:
                disk.truncate(megabytes << 20)
        images.make_filesystem(head / "full.img", FULL_MB, "somebodys")
        (self.folder / "made").touch()

    def _seed(
        self, machine: Machine, authorized: str, host_key: tuple[str, str]
    ) -> dict[str, tuple[str, int]]:
        """What an installer would have asked for: name, address, keys, and the site's proxies."""
        link = (
            f"[Match]\nMACAddress={machine.mac}\n\n[Network]\n"
            f"Address={machine.address}/{self.subnet.prefixlen}\n"
            f"Gateway={gateway(self.subnet)}\nDHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )
        env = settings.environment(os.environ, settings.has_own_certificates(), str(self.subnet))
        servers = "".join(f"nameserver {server}\n" for server in settings.nameservers())
        hosts = f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n"
        return {
            "etc/hostname": (f"{machine.name}\n", 0o644),
            "etc/hosts": (hosts, 0o644),
            "etc/environment": (env, 0o644),
            "etc/resolv.conf": (servers, 0o644),
            "etc/systemd/network/10-installed.network": (link, 0o644),
            "etc/ssh/ssh_host_ed25519_key": (host_key[0], 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (host_key[1], 0o644),
            "root/.ssh/authorized_keys": (authorized, 0o600),
            "nfs/": ("", 0o755),  # storage.provider = "external": the site's, and on every node
        }


def hold(name: str) -> AbstractContextManager[None]:
    """The right to use these VMs, for one test session at a time."""
    return locked(f"vms-{name}", wait=2, busy=f"the VMs {name} are in use by another test session")


def names() -> list[str]:
    """All that have begun to be."""
    return sorted(path.name for path in STATE.iterdir()) if STATE.is_dir() else []


def recover() -> None:
    """Remove what killed sessions left: what nobody holds, and was not to be kept."""
    for name in names():
        with contextlib.suppress(PracticumError), hold(name):
            if not (STATE / name / "keep").exists():
                Hardware(name).down()
