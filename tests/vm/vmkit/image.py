"""A disk that boots: the lab's bare tree with a kernel and the roles' packages, as one ext4 image.

The tree it is made of stays in the cache and grows by what roles ask for since, so that a new
package costs seconds; the image is made from it without loop devices (mke2fs -d).
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from provisioning.lab import fill, tree
from provisioning.lab.system import CACHE, locked, remove_tree, run, run_logged, write
from provisioning.resources import Package

Say = Callable[[str], None]

PLACE = CACHE / "vm"
RECIPE = 3  # changes whenever what is done to the tree changes
DISK_MB = 12288  # sparse
ROOT_LABEL = "practicum-root"
# The lab masks these for containers; a machine of its own needs them.
NEEDED_UNITS = (
    "systemd-udevd.service", "systemd-remount-fs.service", "systemd-networkd-wait-online.service",
)  # fmt: skip
# None of these tells us anything, and each start of a process costs an emulated machine.
SPARED_UNITS = (
    "modprobe@.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
    "sys-kernel-config.mount", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
    "systemd-update-utmp-runlevel.service", "systemd-network-generator.service",
)  # fmt: skip
# Small and quick to unpack under emulation: what finds the disk, nothing else.
INITRAMFS = {
    "conf.d/practicum-vm": "MODULES=list\nRESUME=none\n",
    "modules": "virtio_pci\nvirtio_blk\next4\n",
}
# What makes a machine itself is on a small disk of its own: name, address, keys.
SEED_UNIT = r"""[Unit]
Description=What makes this machine itself
DefaultDependencies=no
ConditionPathExists=!/etc/practicum-vm-seeded
Requires=dev-disk-by\x2did-virtio\x2dSEED.device
After=dev-disk-by\x2did-virtio\x2dSEED.device systemd-remount-fs.service
Before=network-pre.target systemd-networkd.service ssh.service sysinit.target
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/usr/bin/tar --extract --file=/dev/disk/by-id/virtio-SEED --directory=/ --no-same-owner --preserve-permissions
ExecStart=/usr/bin/hostname -F /etc/hostname
ExecStart=/usr/bin/touch /etc/practicum-vm-seeded

[Install]
WantedBy=sysinit.target
"""
# Everything takes longer when it is emulated, on a machine that does other things besides.
SYSTEMD = "[Manager]\nDefaultTimeoutStartSec=300\nDefaultDeviceTimeoutSec=300\n"


@dataclass(frozen=True)
class Image:
    """One bootable system: files in the cache, never written to."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"


def kernel_package(guest: tree.Guest) -> str:
    """Debian's for virtual machines; it has no drivers of real network cards, nor needs them."""
    if guest.family == "ubuntu":
        return "linux-image-virtual"
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    return f"linux-image-cloud-{architecture}"


def image(guest_name: str, resources: Sequence[Mapping[str, Any]], say: Say) -> Image:
    """The image of that guest with these resources in it (wire forms of packages and system
    accounts), made if it is not there. PracticumError says what could not be had."""
    guest = tree.GUESTS[guest_name]
    base = tree.base_tree(guest, say)
    wanted = {one["key"]: dict(one) for one in resources}
    kernel = Package(package=kernel_package(guest)).to_wire()
    wanted[kernel["key"]] = kernel
    busy = f"the VMs' image of {guest.name} is being made by someone else"
    with locked(f"vm-image-{guest.name}", wait=1800, busy=busy):
        PLACE.mkdir(parents=True, exist_ok=True)
        root, whole = _grown(guest, base, wanted, say)
        place = PLACE / f"{guest.name}-{tree.digest(RECIPE, base.name, whole)}"
        if not place.is_dir():
            say("making a disk of it")
            tree.build(place, lambda folder: _make(root, folder))
            _prune(guest, place)
        return Image(place)


def grown_tree(guest: tree.Guest) -> Path:
    """The tree below the image; it is there once an image was made."""
    base = tree.base_tree(guest, lambda _text: None)
    return PLACE / f"tree-{base.name}-{RECIPE}"


def _grown(
    guest: tree.Guest, base: Path, wanted: Mapping[str, Mapping[str, Any]], say: Say
) -> tuple[Path, list[str]]:
    """The tree with all that is wanted, and the keys of everything in it. Its list is beside it
    while it is whole, and away while it is worked on."""
    root = grown_tree(guest)
    stamp = PLACE / f"{root.name}.json"
    known: dict[str, Any] = json.loads(stamp.read_text()) if stamp.is_file() else {}
    if not known and root.exists():
        remove_tree(root)
    missing = {key: value for key, value in wanted.items() if known.get(key) != value}
    if missing:
        stamp.unlink(missing_ok=True)
        if not root.exists():
            say("copying the bare system")
            tree.build(root, lambda place: _copy(base, place))
        say(f"installing {len(missing)} packages and accounts that roles ask for")
        _fill(guest, base, root, list(missing.values()), say)
        known |= missing
        write(stamp, json.dumps(known))
    return root, sorted(known)


def _copy(base: Path, root: Path) -> None:
    run(["cp", "-a", "--reflink=auto", f"{base}/.", str(root)], timeout=600)
    units = root / "etc/systemd/system"
    for name in NEEDED_UNITS:
        (units / name).unlink(missing_ok=True)
    for name in SPARED_UNITS:
        (units / name).symlink_to("/dev/null")
    for name, text in INITRAMFS.items():
        path = root / "etc/initramfs-tools" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text)
    write(units / "practicum-vm-seed.service", SEED_UNIT)
    (units / "sysinit.target.wants").mkdir(exist_ok=True)
    (units / "sysinit.target.wants/practicum-vm-seed.service").symlink_to(
        "../practicum-vm-seed.service"
    )
    (root / "etc/systemd/system.conf.d").mkdir(exist_ok=True)
    write(root / "etc/systemd/system.conf.d/practicum-vm.conf", SYSTEMD)
    write(root / "etc/fstab", f"LABEL={ROOT_LABEL} / ext4 errors=remount-ro,noinit_itable 0 1\n")
    # One of its own comes on the kernel's command line. Empty, it would mean a first boot, on
    # which systemd enables every service that there is.
    write(root / "etc/machine-id", f"{'5' * 32}\n", 0o444)


def _fill(
    guest: tree.Guest, base: Path, root: Path, resources: Sequence[Mapping[str, Any]], say: Say
) -> None:
    log = tree._log(guest)
    before = root / "etc/initramfs-tools"
    with tree._can_install(root):
        kept = {name: (before / name).read_text() for name in INITRAMFS}
        run_logged(
            [sys.executable, "-P", fill.__file__, str(root)], log,
            stdin=json.dumps(list(resources)), timeout=1800,
            env={**tree._apt_environment(), "PYTHONPATH": str(tree.ROOT)}, watch=say,
        )  # fmt: skip
        if kept != {name: (before / name).read_text() for name in INITRAMFS}:
            raise PracticumError("initramfs-tools' own files replaced the VMs' settings")
        run_logged(["chroot", str(root), "apt-get", "clean"], log, timeout=60)
    tree.leave_stopped(base, root)
    for name in tree.FORGOTTEN:
        remove_tree(root / name)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _make(root: Path, folder: Path) -> None:
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise PracticumError(f"no kernel was installed in {root}")
    version = kernels[-1].name.removeprefix("vmlinuz-")
    shutil.copyfile(kernels[-1], folder / "vmlinuz")
    shutil.copyfile(root / f"boot/initrd.img-{version}", folder / "initrd")
    make_filesystem(folder / "disk.img", DISK_MB, ROOT_LABEL, root)


def make_filesystem(disk: Path, megabytes: int, label: str, root: Path | None = None) -> None:
    """A sparse file with an ext4 file system in it, filled from a folder. A small journal, for
    machines whose plug is pulled."""
    content = ["-d", str(root)] if root else []
    run(
        ["mke2fs", "-q", "-t", "ext4", "-J", "size=16", "-m", "0", "-L", label, *content,
         str(disk), f"{megabytes}M"],
        timeout=600, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MKE2FS_SYNC": "0"},
    )  # fmt: skip


def _prune(guest: tree.Guest, place: Path) -> None:
    """Images of earlier package lists; machines that run have links of their own to them."""
    for other in PLACE.glob(f"{guest.name}-*"):
        if other != place:
            remove_tree(other)
    for stamp in PLACE.glob(f"tree-{guest.name}-*"):
        if not stamp.name.startswith(grown_tree(guest).name):
            remove_tree(stamp)


def seed(files: Mapping[str, tuple[str, int]], disk: Path) -> None:
    """A machine's own files (path → text, mode) as the archive that it unpacks on first boot.
    A path with a slash at its end is a folder."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as scratch:
        for name, (text, mode) in files.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(mode=mode)
            else:
                write(path, text, mode)
        for folder in ("root", "root/.ssh"):
            if (Path(scratch) / folder).is_dir():
                (Path(scratch) / folder).chmod(0o700)
        (Path(scratch)).chmod(0o755)
        names = sorted(path.name for path in Path(scratch).iterdir())
        run(["tar", "--create", f"--file={disk}", "--owner=0", "--group=0",
             f"--directory={scratch}", *names], timeout=60)  # fmt: skip
