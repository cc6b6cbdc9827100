"""What a node should have, as values. Roles return these; the agent makes them true.

A resource is frozen data and knows nothing of SSH or of the node. ``to_wire`` is the form in
which it travels to the agent (JSON); the agent's modules read exactly these keys.

``image`` says what a resource means while a disk image is being prepared instead of a running
machine: APPLY it there, DEFER it to the first boot, or NEVER put it there (secrets).

``notify`` names what must happen once when this resource changed: ``"restart:slurmd"``,
``"reload:nginx"``, ``"run:ID"`` for a :class:`Command` with ``on_notify=True``. Notifications
are kept on the node until they were carried out, so a failed run does not lose them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar


class Image(StrEnum):
    """What a resource means in a disk image."""

    APPLY = "apply"
    DEFER = "defer"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Base. ``key`` is unique on a node; two roles may declare the same resource equally."""

    kind: ClassVar[str] = ""
    image: Image = Image.APPLY
    notify: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready: ``kind``, ``key`` and the fields; bytes as base64."""
        wire: dict[str, Any] = {"kind": self.kind, "key": self.key}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bytes):
                value = base64.b64encode(value).decode("ascii")
            elif isinstance(value, tuple):
                value = list(value)
            wire[item.name] = value
        return wire


@dataclass(frozen=True, kw_only=True)
class File(Resource):
    """A regular file, written whole: temporary file beside it, mode and owner, fsync, rename.

    ``content`` is text or bytes. A ``secret`` file's content never shows in a diff (a keyed
    hash does), and its image meaning is NEVER unless said otherwise. With ``owner`` or ``group``
    made by an earlier resource of the same run, the id is looked up when it is applied.

    ``validate`` is a command that must exit 0 before the file goes live; ``{}`` among its
    arguments stands for the temporary file (``("visudo", "-cf", "{}")``). If it fails, the
    old file stays and its message is the error.
    """

    kind: ClassVar[str] = "file"
    path: str
    content: bytes
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    secret: bool = False
    once: bool = False  # only if missing: what is there is the admin's
    keep: bool = False  # cluster.toml's [[keep]]: as once, and the plan says so
    validate: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path


def file(path: str, content: str | bytes, **options: Any) -> File:
    """A :class:`File` from text or bytes; secret ones stay out of images."""
    data = content.encode() if isinstance(content, str) else content
    if options.get("secret"):
        options.setdefault("image", Image.NEVER)
        options.setdefault("mode", 0o600)
    return File(path=path, content=data, **options)


@dataclass(frozen=True, kw_only=True)
class Directory(Resource):
    """A directory; its parents must exist or be declared. Removed only when empty.

    ``own``: for our things alone. One that was there before us with anything in it is refused
    (lost+found, of a disk that is mounted there, does not count).
    """

    kind: ClassVar[str] = "directory"
    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755
    own: bool = False

    @property
    def name(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True)
class Link(Resource):
    """A symbolic link, replaced atomically; never over a directory."""

    kind: ClassVar[str] = "link"
    path: str
    target: str

    @property
    def name(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True)
class Line(Resource):
    """One line in a file that others own too. ``match`` (a regular expression) finds the line
    it replaces; without it, the line itself. Many edits of one file make one diff.
    """

    kind: ClassVar[str] = "line"
    path: str
    line: str
    match: str = ""
    present: bool = True
    keep: bool = False  # cluster.toml's [[keep]]: the file stays as it is

    @property
    def name(self) -> str:
        return f"{self.path}#{self.match or self.line}"


@dataclass(frozen=True, kw_only=True)
class Package(Resource):
    """One distribution package (apt). All of a stage are installed in one call.

    ``before`` names packages that must be configured first (PMIx before slurmd starts).
    """

    kind: ClassVar[str] = "package"
    package: str

    @property
    def name(self) -> str:
        return self.package


@dataclass(frozen=True, kw_only=True)
class Group(Resource):
    """A local group with a fixed id. Never removed by itself, only listed."""

    kind: ClassVar[str] = "group"
    group: str
    gid: int
    members: tuple[str, ...] | None = None  # None: members are the users' own matter

    @property
    def name(self) -> str:
        return self.group


@dataclass(frozen=True, kw_only=True)
class User(Resource):
    """A local account with a fixed id. Its data are never removed, the account only listed.

    ``password_hash`` (crypt) is a secret: "" leaves what is there, "*" locks.
    ``create_home`` copies /etc/skel there with mode 0700.
    """

    kind: ClassVar[str] = "user"
    user: str
    uid: int
    group: str
    groups: tuple[str, ...] = ()
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    full_name: str = ""
    password_hash: str = ""
    create_home: bool = False

    @property
    def name(self) -> str:
        return self.user


@dataclass(frozen=True, kw_only=True)
class Service(Resource):
    """A systemd unit. In an image it is enabled or disabled, not started.

    ``wait_port`` = after a start, wait until something listens there (TCP, this machine), at
    most ``timeout`` seconds; what the unit logged last is in the error.
    """

    kind: ClassVar[str] = "service"
    service: str
    enabled: bool = True
    running: bool = True
    wait_port: int = 0
    timeout: int = 60

    @property
    def name(self) -> str:
        return self.service


@dataclass(frozen=True, kw_only=True)
class Network(Resource):
    """An interface's settings, as ``files`` (path, text, mode) of what manages it: networkd,
    NetworkManager, netplan or ifupdown. Only at the end of a stage of its own: the agent ends
    there, and the engine has ``seconds`` to reach the node anew and confirm, or the old files
    come back. Not taken away when it is no longer declared.
    """

    kind: ClassVar[str] = "network"
    interface: str
    manager: str
    address: str  # with its prefix length
    gateway: str = ""
    files: tuple[tuple[str, str, int], ...] = ()
    seconds: int = 60

    @property
    def name(self) -> str:
        return self.interface


@dataclass(frozen=True, kw_only=True)
class Mount(Resource):
    """A line of /etc/fstab, mounted (unless the options say noauto). In an image: the line only."""

    kind: ClassVar[str] = "mount"
    source: str
    target: str
    fstype: str
    options: str = "defaults"

    @property
    def name(self) -> str:
        return self.target


@dataclass(frozen=True, kw_only=True)
class Command(Resource):
    """A command that knows whether it is needed. Argument lists, never a shell.

    ``check`` exits 0 when there is nothing to do (run while planning too, so it must not
    change anything; it may fail to start: then the command is needed). ``stdin`` is a secret.
    Without ``check`` it runs only when notified (``on_notify``). ``summary`` is what the plan
    says ("add 12 associations"). ``prepare`` = packages or files of the same run must be there
    first, so while planning a missing ``check`` program counts as needed.
    """

    kind: ClassVar[str] = "command"
    id: str
    run: tuple[str, ...]
    check: tuple[str, ...] = ()
    summary: str = ""
    stdin: str = ""
    user: str = ""
    timeout: int = 300
    check_timeout: int = 30
    on_notify: bool = False
    env: tuple[tuple[str, str], ...] = ()
    image: Image = Image.DEFER

    @property
    def name(self) -> str:
        return self.id


@dataclass(frozen=True, kw_only=True)
class WaitPort(Resource):
    """Wait until another machine answers on a TCP port: a stage's foothold on the one before."""

    kind: ClassVar[str] = "wait"
    host: str
    port: int
    timeout: int = 120
    image: Image = Image.NEVER

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Declared:
    """All that one node should have: resources by stage, in order."""

    node: str
    stages: tuple[tuple[str, tuple[Resource, ...]], ...] = field(default=())
