"""One virtual machine: QEMU with software emulation, found again by the name it was given."""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import signal
import socket
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from provisioning.lab.system import Process, arguments, find_process, run
from vmkit.image import ROOT_LABEL

# The clock is the ACPI timer, which QEMU keeps: on a busy host Linux measured the speed of the
# emulated processor's counter so wrongly that one machine's clock ran at 2.6 times the other's.
# Not `max`: it hung. These are x86-64-v2, which today's wheels of numpy are built for.
CPU = "qemu64,-svm,+ssse3,+sse4.1,+sse4.2,+popcnt,+lahf-lm"
# Both processors on one thread of this host. With one each, QEMU before 8.1.1 lets one use a map of
# devices that the other is replacing (qemu-project/qemu#1864): once in some 300 boots on a busy host
# a write to a device went to none, and QEMU crashed or the machine stood still.
ACCEL = "tcg,thread=single,tb-size=256"
# no_timer_check: on a busy host the kernel counts too few ticks of a timer that is fine ("8254 timer
# not connected to IO-APIC", seen), tries others, and panics if those are late too.
KERNEL_LINE = (
    f"root=LABEL={ROOT_LABEL} rw console=ttyS0 quiet loglevel=4 mitigations=off nowatchdog "
    "rcupdate.rcu_cpu_stall_suppress=1 no_timer_check clocksource=acpi_pm systemd.show_status=1"
)
# systemd's first line is on the console after 10 s on a quiet machine.
SILENT_SECONDS = 120
TEXT = re.compile(rb"[\x20-\x7e]{8,}")


@dataclass(frozen=True)
class Disk:
    """A further disk; ``serial`` is what the guest sees (at most 20 characters)."""

    path: Path
    serial: str


@dataclass(frozen=True)
class Machine:
    """A virtual machine, whether it runs or not. ``folder`` has its disks, console and sockets."""

    cluster: str
    name: str
    folder: Path
    address: str
    mac: str
    tap: str
    memory_mb: int
    cpus: int
    machine_id: str
    disks: tuple[Disk, ...] = ()

    @property
    def title(self) -> str:
        return f"practicum-vm.{self.cluster}.{self.name}"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def pidfile(self) -> Path:
        return self.folder / "qemu.pid"

    @property
    def monitor(self) -> Path:
        return self.folder / "qmp.sock"

    def process(self) -> Process | None:
        """Its QEMU, if that runs: the number in the pidfile, and the name to make sure."""
        try:
            pid = int(self.pidfile.read_text())
        except (FileNotFoundError, ValueError):
            return None
        process = find_process(pid)
        named = f"guest={self.title}".encode() in arguments(pid)
        return process if process and named else None

    def command(self) -> list[str]:
        """QEMU's command line."""
        drives = [
            f"file={self.folder}/root.qcow2,format=qcow2,if=none,id=root,cache=unsafe",
            f"file={self.folder}/seed.tar,format=raw,if=none,id=seed,readonly=on",
        ]
        devices = [
            "virtio-blk-pci,drive=root,serial=ROOT",
            "virtio-blk-pci,drive=seed,serial=SEED",
            "virtio-rng-pci",
        ]
        for index, disk in enumerate(self.disks):
            # written through to this host: what a machine that loses its power has synced is there
            drives.append(f"file={disk.path},format=raw,if=none,id=disk{index},cache=writeback")
            devices.append(f"virtio-blk-pci,drive=disk{index},serial={disk.serial}")
        devices.append(f"virtio-net-pci,netdev=lan,mac={self.mac},romfile=")
        return [
            "qemu-system-x86_64", "-name", f"guest={self.title}", "-nodefaults", "-no-user-config",
            "-machine", "q35", "-accel", ACCEL, "-cpu", CPU,
            "-smp", str(self.cpus), "-m", str(self.memory_mb), "-display", "none", "-rtc", "base=utc",
            "-kernel", f"{self.folder}/vmlinuz", "-initrd", f"{self.folder}/initrd",
            "-append", f"{KERNEL_LINE} systemd.machine_id={self.machine_id}",
            *(word for drive in drives for word in ("-drive", drive)),
            "-netdev", f"tap,id=lan,ifname={self.tap},script=no,downscript=no",
            *(word for device in devices for word in ("-device", device)),
            "-chardev", f"file,id=console,path={self.console},append=on",
            "-serial", "chardev:console",
            "-qmp", f"unix:{self.monitor},server=on,wait=off",
            "-pidfile", str(self.pidfile), "-daemonize",
        ]  # fmt: skip

    def start(self) -> None:
        """Power on; nothing to do if it runs. Does not wait for it to boot."""
        if self.process():
            return
        self.pidfile.unlink(missing_ok=True)
        self.monitor.unlink(missing_ok=True)
        if self.console.exists():
            self.console.replace(self.folder / "console-before.log")
        run(self.command(), timeout=60)

    def silent(self) -> bool:
        """Has nothing on it spoken for long since it was powered on? Then it stands still below
        all that tests are about: in the emulator, or in the kernel's first steps."""
        with contextlib.suppress(FileNotFoundError):
            begun = self.pidfile.stat().st_mtime
            return time.time() > begun + SILENT_SECONDS and not self.console.stat().st_size
        return False

    def kernel_log(self, lines: int = 15) -> str:
        """The kernel's last lines, read from the machine's memory: it tells them to no console."""
        memory = self.folder / "memory"
        try:
            self.ask("pmemsave", val=0, size=self.memory_mb << 20, filename=str(memory))
            with (
                memory.open("rb") as file,
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as all_,
            ):
                begin = all_.rfind(b"Linux version ")
                told = TEXT.findall(all_[begin : begin + (128 << 10)]) if begin >= 0 else []
        finally:
            memory.unlink(missing_ok=True)
        return b"\n".join(told[-lines:]).decode("ascii") or "no kernel has begun"

    def wake(self) -> None:
        """Power a silent machine off and on again; a warning says so, and where it stood."""
        try:
            registers = self.ask("human-monitor-command", command_line="info registers -a")
            at = [line for line in registers.splitlines() if line.startswith(("CPU", "RIP"))]
            where = f"the kernel's last lines:\n{self.kernel_log()}\n{' '.join(at)}"
        except OSError as error:
            where = f"its monitor does not answer: {error}"
        warnings.warn(
            f"{self.title} was silent for {SILENT_SECONDS} s and is powered on again; {where}",
            stacklevel=1,
        )
        self.power_off()
        self.start()

    def ask(self, command: str, **arguments: Any) -> Any:
        """A command of QEMU's monitor (QMP): system_reset, stop, cont, quit, ..."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): v for key, v in arguments.items()}
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(20)
            link.connect(str(self.monitor))
            stream = link.makefile("rw")
            json.loads(stream.readline())  # its greeting
            for message in ({"execute": "qmp_capabilities"}, request):
                stream.write(json.dumps(message) + "\n")
                stream.flush()
                while True:
                    answer = json.loads(stream.readline() or '{"return": "gone"}')
                    if "error" in answer:
                        raise PracticumError(f"{self.title}: {answer['error']['desc']}")
                    if "return" in answer:
                        break
            return answer["return"]

    def power_off(self, patience: float = 20) -> None:
        """As when the plug is pulled. Nothing to do if it does not run."""
        process = self.process()
        if process is None:
            return
        began = time.monotonic()
        process.kill(signal.SIGTERM)  # QEMU writes its disks' metadata and ends
        while process.alive():
            if time.monotonic() > began + patience:
                process.kill(signal.SIGKILL)
            if time.monotonic() > began + patience + 20:
                raise PracticumError(f"QEMU of {self.title} (process {process.pid}) does not end")
            time.sleep(0.05)
        self.pidfile.unlink(missing_ok=True)
        self.monitor.unlink(missing_ok=True)

    def banner(self) -> bool:
        """Does an SSH server answer there?"""
        try:
            # a busy one takes its time, and each new attempt would take some of that
            with socket.create_connection((self.address, 22), timeout=60) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def console_tail(self, lines: int = 60) -> str:
        if not self.console.exists():
            return "it wrote nothing"
        text = self.console.read_text(errors="replace").replace("\r", "")
        return "\n".join(text.splitlines()[-lines:])


def wait_for_ssh(machines: Sequence[Machine], timeout: float) -> None:
    """Until every machine's SSH server answers; PracticumError quotes the console of one that
    does not, or that has ended. One that is silent from the start is powered on again."""
    deadline = time.monotonic() + timeout
    for machine in machines:
        while not machine.banner():
            if machine.process() is None:
                raise PracticumError(f"{machine.title} has ended:\n{machine.console_tail()}")
            if machine.silent():
                machine.wake()
            if time.monotonic() > deadline:
                raise PracticumError(
                    f"{machine.title} did not answer at {machine.address}:22 within {timeout:.0f} s"
                    f":\n{machine.console_tail()}"
                )
            time.sleep(0.2)
