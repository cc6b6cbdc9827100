"""What plan and apply share: one examination of each resource, whose outcome is shown by the
one and done by the other. So a plan cannot promise anything else than what apply does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from provisioning.agent.host import AgentError, Host, Seen
from provisioning.agent.record import Manifest, Notes

Wire = Mapping[str, Any]  # a resource as it travels


class Change:
    """One line of a plan. action: create, update, remove, run or list."""

    def __init__(self, key: str, action: str, summary: str, diff: str = "") -> None:
        self.key = key
        self.action = action
        self.summary = summary
        self.diff = diff
        self.stage = ""

    def to_wire(self) -> dict[str, str]:
        return dict(vars(self))


class Work:
    """What is to be done for one unit. ``foresee`` tells the rest of a plan about it."""

    def __init__(
        self,
        changes: Sequence[Change],
        do: Callable[[], None],
        foresee: Callable[[], None] = lambda: None,
        notify: Iterable[str] = (),
    ) -> None:
        self.changes = list(changes)
        self.do = do
        self.foresee = foresee
        self.notify = tuple(notify)


class Ahead:
    """What a plan already knows to come. Empty while applying: then the disk itself tells."""

    def __init__(self) -> None:
        self.files: dict[str, Seen] = {}  # by real path
        self.users: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self.paths: set[str] = set()  # declared paths that will change
        self.packages: set[str] = set()


class Run:
    """One plan or one apply on one system."""

    def __init__(self, host: Host, key: str = "") -> None:
        self.host = host
        self.key = key  # of the hashes that stand for secrets
        self.manifest = Manifest(host)
        self.notes = Notes(host)
        self.ahead = Ahead()
        self.planning = True
        self.moving = False  # the network is about to change: the client must come anew
        self.started: dict[str, float] = {}  # units, and when (monotonic seconds)
        self.tell: Callable[[str], None] = lambda _text: None
        self._tables: dict[str, tuple[bytes, dict[str, list[str]]]] = {}

    def see(self, path: str, follow: bool = False, read: bool = True) -> Seen:
        """What is, or by the plan will be, at ``path``."""
        if self.ahead.files:
            seen = self.ahead.files.get(self.host.at(path, follow))
            if seen is not None:
                return seen
        return self.host.look(path, follow, read)

    def expect(self, path: str, seen: Seen, follow: bool = False) -> None:
        self.ahead.files[self.host.at(path, follow)] = seen
        self.ahead.paths.add(path)

    def table(self, path: str) -> dict[str, list[str]]:
        """passwd, group or shadow by name; read again when the file changed."""
        content = self.host.read(path)
        known = self._tables.get(path)
        if known is None or known[0] != content:
            rows: dict[str, list[str]] = {}
            for line in content.decode("utf-8", "surrogateescape").splitlines():
                fields = line.split(":")
                if len(fields) >= 4:
                    rows.setdefault(fields[0], fields)
            known = (content, rows)
            self._tables[path] = known
        return known[1]

    def uid(self, name: str) -> int | None:
        """An account's id; None when it is not there yet."""
        return self._id(name, "/etc/passwd", self.ahead.users)

    def gid(self, name: str) -> int | None:
        return self._id(name, "/etc/group", self.ahead.groups)

    def _id(self, name: str, path: str, ahead: Mapping[str, int]) -> int | None:
        row = self.table(path).get(name)
        if row is not None:
            return int(row[2])
        if name in ahead:
            return ahead[name]
        if name == "root":  # by definition, also in a tree that has no tables yet
            return 0
        return int(name) if name.isdigit() else None

    def owner(self, wire: Wire) -> tuple[int | None, int | None]:
        """uid and gid of a File or Directory. While planning, None = an account still to come."""
        uid, gid = self.uid(wire["owner"]), self.gid(wire["group"])
        if not self.planning:
            for found, kind, name in ((uid, "user", wire["owner"]), (gid, "group", wire["group"])):
                if found is None:
                    raise AgentError(
                        f"{wire['path']} belongs to {kind} {name}, which does not exist: declare "
                        "it before, or name another"
                    )
        return uid, gid
