"""Lines of /etc/fstab and what they mount."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from provisioning.agent.files import unified
from provisioning.agent.host import AgentError, Host, Seen, TooSlowError
from provisioning.agent.work import Change, Run, Wire, Work

FSTAB = "/etc/fstab"
MOUNT_SECONDS = 120
OVER_NETWORK = ("nfs", "nfs4")
NFS_PORT = 2049
# A file server that starts again meanwhile is waited for; one that is away is not.
ANSWER_TRIES, ANSWER_SECONDS, PAUSE_SECONDS = 5, 4, 2


def escape(text: str) -> str:
    """fstab(5): blanks as octal."""
    return re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", text)


def unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def fstab_line(wire: Wire) -> str:
    fields = [wire["source"], wire["target"], wire["fstype"], wire["options"]]
    return "\t".join([*map(escape, fields), "0", "0"])


def edit_fstab(text: str, target: str, line: str | None) -> str:
    """The table with ``target``'s line replaced, added, or (None) taken out."""
    result, found = [], False
    for old in text.splitlines():
        fields = old.split()
        if len(fields) < 2 or old.lstrip().startswith("#") or fields[1] != escape(target):
            result.append(old)
        elif line is not None and not found:
            result.append(old if old.split() == [*line.split(), "0", "0"][:6] else line)
            found = True
    if line is not None and not found:
        result.append(line)
    return "".join(f"{one}\n" for one in result)


# Read by systemd when it reads the table: a mount that is there stays as it is
ONLY_AT_MOUNTING = (
    "_netdev", "nofail", "x-systemd.after=", "x-systemd.before=", "x-systemd.device-timeout=",
    "x-systemd.mount-timeout=", "x-systemd.requires=", "x-systemd.wanted-by=",
)  # fmt: skip


def fields_of(table: str, target: str) -> list[str] | None:
    """Of ``target``'s line: source, place, type, options; None where there is no whole one."""
    rows = (line.split() for line in table.splitlines() if not line.lstrip().startswith("#"))
    return next((row for row in rows if len(row) > 3 and row[1] == escape(target)), None)


def as_mounted(table: str, target: str) -> tuple[str, ...]:
    """What of ``target``'s line shows in the mount: source, type and options in order; () where
    there is no line."""
    if (row := fields_of(table, target)) is None:
        return ()
    options = [one for one in row[3].split(",") if not one.startswith(ONLY_AT_MOUNTING)]
    return (row[0], row[2], *options)


def mounted(host: Host, target: str) -> bool:
    """Whether something is mounted at ``target`` (an automount point counts)."""
    return any(place == escape(target) for place, *_ in what_is_mounted(host))


def what_is_mounted(host: Host) -> Iterator[tuple[str, str, str, str]]:
    """Place (escaped), type, source and options of the file system, the uppermost last
    (proc_pid_mountinfo(5))."""
    for row in host.text("/proc/self/mountinfo").splitlines():
        mount, _, system = row.partition(" - ")
        kind, source, options = [*system.split(" "), "", "", ""][:3]
        yield mount.split()[4], kind, source, options


class MountUnit:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.members = [wire]
        self.target: str = wire["target"].rstrip("/") or "/"

    def edited(self, table: str) -> str:
        """/etc/fstab with its line."""
        return edit_fstab(table, self.target, fstab_line(self.wire))

    def examine(self, run: Run) -> Work | None:
        seen = run.see(FSTAB, follow=True)
        old = seen.content.decode("utf-8", "surrogateescape")
        new = self.edited(old)
        options = self.wire["options"].split(",")
        wanted = not run.host.image and "noauto" not in options
        there = wanted and mounted(run.host, self.target)
        other = there and self._elsewhere(run.host)
        if old == new and (not wanted or (there and not other)):
            return None
        anew = there and (other or as_mounted(old, self.target) != as_mounted(new, self.target))
        action = "update" if there else "create"
        summary = f"mount {self.wire['source']} at {self.target}"
        if old == new and other:
            summary += " again: what is there is another folder"
        elif old == new:
            summary += " (it is not mounted)"
        elif anew:
            summary += " again, with what changed in /etc/fstab"
        elif there:
            summary += " as /etc/fstab says from the next start on"
        change = Change(self.wire["key"], action, summary, unified(FSTAB, old, new))
        content = new.encode("utf-8", "surrogateescape")
        return Work(
            [change],
            lambda: self._make(run, content, old != new, anew, wanted and (anew or not there)),
            lambda: run.expect(FSTAB, Seen("file", content, 0o644), follow=True),
            self.wire["notify"],
        )

    def _elsewhere(self, host: Host) -> bool:
        """Whether the folder that is seen here is another one now: the disk below it was exchanged,
        and a bind mount outlives that (mount(8))."""
        if "bind" not in self.wire["options"].split(","):
            return False
        try:
            return not os.path.samefile(host.at(self.wire["source"]), host.at(self.target))
        except OSError:
            return True

    def _make(self, run: Run, content: bytes, edited: bool, off: bool, on: bool) -> None:
        run.manifest.intend(self.wire["key"], adopted=False, **self.entry(run, self.wire))
        run.manifest.save()
        run.host.makedirs(self.target)
        if off:
            take_off(run, self.target, "end what uses it and apply again")
        if edited:
            run.host.write(FSTAB, content, 0o644, 0, 0, follow=True)
            if not run.host.root:
                run.host.run(["systemctl", "daemon-reload"], timeout=60)
        if not on:
            return
        if "x-systemd.automount" in self.wire["options"].split(","):
            self._run(run, ["systemctl", "restart", automount(run, self.target)], "see its status")
        else:
            self._run(run, ["mount", self.target], f"check {self.wire['source']}")

    def _run(self, run: Run, argv: list[str], advice: str) -> None:
        outcome = run.host.run(argv, timeout=MOUNT_SECONDS)
        if outcome.code != 0:
            raise AgentError(f"{' '.join(argv)} failed ({outcome.tail(3)}): {advice}")

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"target": wire["target"].rstrip("/") or "/"}


def automount(run: Run, target: str) -> str:
    """The name of its systemd unit."""
    argv = ["systemd-escape", "--path", "--suffix=automount", target]
    return run.host.run(argv).output.strip()


def take_off(run: Run, target: str, advice: str) -> None:
    """Unmount ``target``, what an automount put there before the automount itself.

    AgentError when somebody uses it; then an automount is back as it was. A file server that
    does not answer is not waited for: its mount is taken off all the same, and that is told.
    """
    unit = automount(run, target)
    waiting = run.host.run(["systemctl", "is-active", "--quiet", unit], timeout=60).code == 0
    there = [row for row in layers(run.host, target) if row.kind != "autofs"]
    if there:
        _umount(run, target, there[-1].server, advice)
    if waiting:
        run.host.run(["systemctl", "stop", unit], timeout=MOUNT_SECONDS)


Server = tuple[str, int]


class Layer(NamedTuple):
    """One of the mounts at a place: its type, and where its file server listens."""

    kind: str
    server: Server | None


def layers(host: Host, target: str) -> list[Layer]:
    """What is mounted at ``target``, the uppermost last (nfs(5))."""
    found = []
    for place, kind, _, options in what_is_mounted(host):
        if place != escape(target):
            continue
        known = dict(option.partition("=")[::2] for option in options.split(","))
        remote = kind in OVER_NETWORK and "addr" in known
        port = int(known.get("port", "0")) or NFS_PORT
        found.append(Layer(kind, (known["addr"], port) if remote else None))
    return found


def answers(server: Server) -> bool:
    """Whether somebody listens there. Takes half a minute at most."""
    for attempt in range(ANSWER_TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            socket.create_connection(server, ANSWER_SECONDS).close()
        except OSError:
            continue
        return True
    return False


def _umount(run: Run, target: str, server: Server | None, advice: str) -> None:
    """The uppermost mount at ``target``."""
    if server is None or answers(server):
        try:
            _let_images_go(run, target)
            outcome = run.host.run(["umount", target], timeout=MOUNT_SECONDS)
        except TooSlowError:
            if server is None or answers(server):
                raise
        else:
            if outcome.code != 0:
                raise AgentError(f"umount {target} failed ({outcome.tail(3)}): {advice}")
            return
    _leave(run, target, server)


def _let_images_go(run: Run, target: str) -> None:
    """Unmount the images that are files below ``target``, as autofs mounts them: they hold it.
    One that is in use stays, and then ``target`` says so itself."""
    for place, _, device, _ in what_is_mounted(run.host):
        if not re.fullmatch(r"/dev/loop\d+", device):
            continue
        image = run.host.text(f"/sys/block/{device.removeprefix('/dev/')}/loop/backing_file")
        if image.startswith(f"{target}/"):
            run.host.run(["umount", unescape(place)], timeout=MOUNT_SECONDS)


def _leave(run: Run, target: str, server: Server) -> None:
    """Take a mount off without its file server: what waits for that gets an error (``--force``),
    and who has files open there keeps them (``--lazy``); nothing is looked up on the way."""
    run.tell(
        f"file server {server[0]} does not answer: {target} is taken off without it, and what "
        "was not written there yet is lost"
    )
    argv = ["umount", "--internal-only", "--no-canonicalize", "--force", "--lazy", target]
    try:
        said = run.host.run(argv, timeout=MOUNT_SECONDS).tail(3)
    except TooSlowError as error:  # it may be off all the same
        said = str(error)
    if any(row.server == server for row in layers(run.host, target)):
        raise AgentError(
            f"{target} cannot be taken off, and its file server {server[0]} does not answer "
            f"({said}): restart this node, or the server, and apply again"
        )


def leave_away(run: Run, targets: Iterable[str]) -> None:
    """Take those of the mounts at ``targets`` off whose file server does not answer: systemd, too,
    would wait for it when it next reads /etc/fstab (its generator looks at each place)."""
    there: dict[Server, bool] = {}  # asked once each
    for target in targets:
        for server in [row.server for row in layers(run.host, target) if row.server]:
            if server not in there:
                there[server] = answers(server)
            if not there[server]:
                _leave(run, target, server)


def over_network(table: str, target: str) -> bool:
    """Whether /etc/fstab has ``target`` from another machine."""
    row = fields_of(table, target)
    return row is not None and row[2] in OVER_NETWORK


def unmount(run: Run, target: str) -> None:
    """Undo a Mount that is no longer declared; the folder stays."""
    if not run.host.root and mounted(run.host, target):
        take_off(run, target, "end what uses it and apply again")
    text = run.host.text(FSTAB)
    new = edit_fstab(text, target, None)
    if new != text:
        run.host.write(FSTAB, new.encode("utf-8", "surrogateescape"), 0o644, 0, 0, follow=True)
    if not run.host.root:
        run.notes.add(["daemon-reload"], f"mount:{target}")  # once, when all are off
