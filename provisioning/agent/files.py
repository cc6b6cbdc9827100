"""Files and lines in files, links, directories.

All that is declared for one path is one unit: a File with the Lines on it has one content and
one diff, and the second run finds it as the first left it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from provisioning.agent.host import AgentError, Seen, TooSlowError
from provisioning.agent.record import backup, digest
from provisioning.agent.work import Change, Run, Wire, Work

MAX_DIFF_BYTES = 200_000
VALIDATE_SECONDS = 180  # a trial of slurm.conf on a slow board, whose controller is busy
LOST_FOUND = "lost+found"  # mkfs makes it at the top of a file system
UNIT_FOLDERS = ("/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/")


def edit(text: str, line: str, match: str = "", present: bool = True) -> str:
    """``text`` with one line put in, replaced or taken out. Editing twice changes nothing.

    With ``match``, the first line that matches (or is the line already) becomes ``line`` and
    other matches go: which of several settings holds must not depend on who reads the file.
    """
    ended = text.endswith("\n") or not text
    lines = text.split("\n")
    if ended:
        lines.pop()
    pattern = re.compile(match) if match else None
    hits = [i for i, old in enumerate(lines) if (pattern.search(old) if pattern else old == line)]
    if not present:
        dropped = set(hits)
        lines = [old for i, old in enumerate(lines) if i not in dropped]
    elif pattern:
        hits = sorted({*hits, *(i for i, old in enumerate(lines) if old == line)})
        if hits:
            lines[hits[0]] = line
            dropped = set(hits[1:])
            lines = [old for i, old in enumerate(lines) if i not in dropped]
        else:
            lines.append(line)
            ended = True
    elif not hits:
        lines.append(line)
        ended = True
    if lines and not lines[-1]:
        ended = True  # an empty last line is only there if it is ended
    return "\n".join(lines) + ("\n" if ended and lines else "")


def unified(path: str, old: str, new: str) -> str:
    """A unified diff, without line ends that a terminal would double."""
    import difflib  # noqa: PLC0415  slow to import, and most runs have no diff

    pieces = difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="", n=3)
    return "\n".join(pieces)


def difference(run: Run, path: str, old: bytes, new: bytes, secret: bool) -> str:
    """What a plan shows of a content: a diff, hashes of a secret, sizes of anything else."""
    if old == new:
        return ""
    if secret:
        before = digest(run.key, old)[:12] if old else "nothing"
        return f"secret {before} → {digest(run.key, new)[:12]}"
    try:
        texts = old.decode(), new.decode()
    except UnicodeDecodeError:
        texts = None
    if texts is None or b"\0" in old + new or len(old) + len(new) > MAX_DIFF_BYTES:
        return f"{len(old)} bytes → {len(new)} bytes"
    return unified(path, *texts)


class PathUnit:
    """A File, the Lines on it, or both."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file: Wire | None = None
        self.lines: list[Wire] = []

    @property
    def members(self) -> list[Wire]:
        return ([self.file] if self.file else []) + self.lines

    def examine(self, run: Run) -> Work | None:
        follow = self.file is None  # lines go where a link leads; a file replaces the link
        seen = run.see(self.path, follow)
        if seen.kind in ("directory", "other"):
            raise AgentError(f"{self.path} should be a file, but is a {seen.kind}: move it away")
        if self.file and self.file["once"] and seen.kind == "file" and not self.lines:
            return None
        content, changed = self._content(seen)
        if content is None:
            return None
        if seen.kind == "file" and any(wire.get("keep") for wire in self.members):
            return self._kept(run, seen, content)
        mode, uid, gid = self._attributes(run, seen)
        news = _news(seen, content, mode, uid, gid)
        if not news:
            return None
        return Work(
            [self._change(run, seen, content, mode, news)],
            lambda: self._write(run, seen, content, mode, uid, gid, follow),
            lambda: run.expect(self.path, Seen("file", content, mode, _or(uid), _or(gid)), follow),
            self._notify(changed),
        )

    def _kept(self, run: Run, seen: Seen, content: bytes) -> Work | None:
        """The admin has taken it over: told, not done."""
        if seen.content == content:
            return None
        text = f"keep {self.path} as it is ([[keep]] in cluster.toml)"
        diff = difference(run, self.path, seen.content, content, self._secret(run))
        return Work([Change(f"file:{self.path}", "list", text, diff)], lambda: None)

    def _edited(self, run: Run, seen: Seen) -> bool:
        """Whether somebody changed what we wrote: the manifest has a hash of that."""
        known = run.manifest.get(f"file:{self.path}")
        return bool(
            self.file
            and seen.kind == "file"
            and known.get("done")
            and known.get("digest", "") not in ("", digest(run.key, seen.content))
        )

    def _content(self, seen: Seen) -> tuple[bytes | None, list[Wire]]:
        """The content that should be, and the Lines that change something."""
        old = seen.content if seen.kind == "file" else b""
        if self.file and not (self.file["once"] and seen.kind == "file"):
            old = base64.b64decode(self.file["content"])
        elif seen.kind == "missing" and not any(line["present"] for line in self.lines):
            return None, []
        text = old.decode("utf-8", "surrogateescape")
        changed = []
        for line in self.lines:
            if "\n" in line["line"]:
                raise AgentError(f"a line for {self.path} has a line break in it")
            edited = edit(text, line["line"], line["match"], line["present"])
            if edited != text:
                changed.append(line)
            text = edited
        return text.encode("utf-8", "surrogateescape"), changed

    def _attributes(self, run: Run, seen: Seen) -> tuple[int, int | None, int | None]:
        if self.file and not (self.file["once"] and seen.kind == "file"):
            return (self.file["mode"], *run.owner(self.file))
        if seen.kind == "file":
            return seen.mode, seen.uid, seen.gid
        return 0o644, 0, 0

    def _notify(self, changed: list[Wire]) -> list[str]:
        sources = self.members if self.file else changed
        names = [name for wire in sources for name in wire["notify"]]
        if self.path.startswith(UNIT_FOLDERS):
            names.insert(0, "daemon-reload")
        return names

    def _secret(self, run: Run) -> bool:
        """Also while a file that was secret becomes an open one: the old content is in the diff."""
        was = run.manifest.get(f"file:{self.path}").get("secret", False)
        return bool(was or (self.file and self.file["secret"]))

    def _change(self, run: Run, seen: Seen, content: bytes, mode: int, news: list[str]) -> Change:
        key = f"file:{self.path}" if self.file else f"line:{self.path}"
        new = seen.kind == "missing"
        if new and self.file:
            owner = f"{self.file['owner']}:{self.file['group']}"
            summary = f"write {self.path} ({len(content)} bytes, {mode:04o} {owner})"
        else:
            if self._edited(run, seen):
                news = [*news, "edited on the node since the last apply: see [[keep]]"]
            summary = f"{'write' if new else 'edit'} {self.path} ({', '.join(news)})"
        diff = difference(run, self.path, seen.content, content, self._secret(run))
        return Change(key, "create" if new else "update", summary, diff)

    def _write(
        self,
        run: Run,
        seen: Seen,
        content: bytes,
        mode: int,
        uid: int | None,
        gid: int | None,
        follow: bool,
    ) -> None:
        folder = os.path.dirname(self.path) or "/"
        if run.see(folder, follow=True, read=False).kind != "directory":
            raise AgentError(f"{folder} is not there, so {self.path} cannot be: declare it first")
        if self.file and not run.manifest.get(f"file:{self.path}").get("digest"):
            backup(run.host, self.path)
        elif self._edited(run, seen):
            backup(run.host, self.path, ".edited")
        self._intend(run, seen, content)
        check = None
        if self.file and self.file["validate"]:
            check = _validator(run, self.path, self.file["validate"])
        run.host.write(self.path, content, mode, _or(uid), _or(gid), follow, check)

    def _intend(self, run: Run, seen: Seen, content: bytes) -> None:
        known = {line["key"]: run.manifest.get(line["key"]) for line in self.lines}
        # of these there was none before ours, and what stands there now is ours of the last time
        ours = {key for key, entry in known.items() if entry and not entry.get("adopted")}
        for wire in self.members:
            run.manifest.intend(wire["key"], **self.entry(run, wire))
        if self.file:
            mark = {"digest": digest(run.key, content)}
            run.manifest.intend(self.file["key"], **mark)
        old = seen.content.decode("utf-8", "surrogateescape")
        for line in self.lines:
            if line["line"] not in old.split("\n"):
                run.manifest.intend(line["key"], adopted=False)
            if seen.kind == "missing":
                run.manifest.intend(line["key"], created=True)
            if line["match"] and line["present"] and line["key"] not in ours:
                found = [one for one in old.split("\n") if re.search(line["match"], one)]
                if found and found[0] != line["line"]:
                    run.manifest.intend(line["key"], was=found[0])
        run.manifest.save()

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        """What removal will need to know."""
        if wire["kind"] == "file":
            return {"path": wire["path"], "secret": wire["secret"], "once": wire["once"]}
        return {"path": wire["path"], "line": wire["line"], "present": wire["present"]}


def _or(number: int | None) -> int:
    return -1 if number is None else number


def _news(seen: Seen, content: bytes, mode: int, uid: int | None, gid: int | None) -> list[str]:
    """What differs, in words."""
    if seen.kind == "missing":
        return ["new"]
    if seen.kind == "link":
        return [f"instead of the link to {seen.target}"]
    news = ["content"] if seen.content != content else []
    return news + attributes(seen, mode, uid, gid)


def attributes(seen: Seen, mode: int, uid: int | None, gid: int | None) -> list[str]:
    """How mode and owner differ, in words. Only root can give files away."""
    news = []
    if seen.mode != mode:
        news.append(f"mode {seen.mode:04o} → {mode:04o}")
    if _may_chown() and seen.uid != uid:
        news.append(f"owner {seen.uid} → {'a new account' if uid is None else uid}")
    if _may_chown() and seen.gid != gid:
        news.append(f"group {seen.gid} → {'a new group' if gid is None else gid}")
    return news


def _may_chown() -> bool:
    return os.geteuid() == 0


def _validator(run: Run, path: str, command: Sequence[str]) -> Callable[[str], None]:
    def check(temporary: str) -> None:
        argv = [part.replace("{}", temporary) for part in command]
        try:
            outcome = run.host.run(argv, timeout=VALIDATE_SECONDS)
        except TooSlowError as error:
            raise AgentError(
                f"the old {path} stays, for nobody knows whether the new one is right: see what "
                f"keeps this machine busy, and apply again ({error})"
            ) from error
        if outcome.code != 0:
            said = outcome.tail().replace(temporary, path)
            raise AgentError(f"{command[0]} refuses the new {path}, so the old one stays:\n{said}")

    return check


class DirectoryUnit:
    """One directory."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.path: str = wire["path"]
        self.members = [wire]

    def examine(self, run: Run) -> Work | None:
        seen = run.see(self.path, follow=True)
        if seen.kind not in ("missing", "directory"):
            raise AgentError(f"{self.path} should be a directory, but is a {seen.kind}")
        if self.wire["own"] and seen.kind == "directory" and not run.manifest.get(self.wire["key"]):
            self._refuse_others(run)
        mode = self.wire["mode"]
        uid, gid = run.owner(self.wire)
        new = seen.kind == "missing"
        news = [] if new else attributes(seen, mode, uid, gid)
        if not new and not news:
            return None
        owner = f"{self.wire['owner']}:{self.wire['group']}"
        text = f"{mode:04o} {owner}" if new else ", ".join(news)
        summary = f"{'make' if new else 'change'} directory {self.path} ({text})"
        return Work(
            [Change(self.wire["key"], "create" if new else "update", summary)],
            lambda: self._make(run, new, mode, _or(uid), _or(gid)),
            lambda: run.expect(
                self.path, Seen("directory", b"", mode, _or(uid), _or(gid)), follow=True
            ),
            self.wire["notify"],
        )

    def _refuse_others(self, run: Run) -> None:
        """What is there is somebody's, who would be shut out of it."""
        try:
            inside = os.listdir(run.host.at(self.path, follow=True))
        except FileNotFoundError:  # only planned so far
            return
        found = sorted(name for name in inside if name != LOST_FOUND)
        if found:
            more = ", ..." if len(found) > 3 else ""
            raise AgentError(
                f"{self.path} is to be practicum's own and has other things in it "
                f"({', '.join(found[:3])}{more}): move them away, or name another folder in "
                "cluster.toml"
            )

    def _make(self, run: Run, new: bool, mode: int, uid: int, gid: int) -> None:
        entry = self.entry(run, self.wire)
        if not new and not run.manifest.get(self.wire["key"]):
            entry["adopted"] = True  # its attributes change, but it was there before
        run.manifest.intend(self.wire["key"], **entry)
        run.manifest.save()
        real = run.host.at(self.path, follow=True)
        if new:
            try:
                os.mkdir(real, 0o700)
            except FileNotFoundError:
                parent = os.path.dirname(self.path)
                raise AgentError(
                    f"{parent} is not there, so {self.path} cannot be made: declare it first"
                ) from None
        if _may_chown():
            os.chown(real, uid, gid)
        os.chmod(real, mode)

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"path": wire["path"]}


class LinkUnit:
    """One symbolic link."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.path: str = wire["path"]
        self.members = [wire]

    def examine(self, run: Run) -> Work | None:
        seen = run.see(self.path)
        target = self.wire["target"]
        if seen.kind == "link" and seen.target == target:
            return None
        if seen.kind in ("directory", "other"):
            raise AgentError(f"{self.path} should be a link, but is a {seen.kind}: move it away")
        before = {"link": f" (was {seen.target})", "file": " (instead of a file)"}
        action = "create" if seen.kind == "missing" else "update"
        summary = f"link {self.path} → {target}{before.get(seen.kind, '')}"
        notify = list(self.wire["notify"])
        if self.path.startswith(UNIT_FOLDERS):
            notify.insert(0, "daemon-reload")
        return Work(
            [Change(self.wire["key"], action, summary)],
            lambda: self._make(run, target),
            lambda: run.expect(self.path, Seen("link", target=target)),
            notify,
        )

    def _make(self, run: Run, target: str) -> None:
        if not run.manifest.get(self.wire["key"]).get("made"):
            backup(run.host, self.path)
        run.manifest.intend(
            self.wire["key"], made=True, adopted=False, **self.entry(run, self.wire)
        )
        run.manifest.save()
        try:
            run.host.link(self.path, target)
        except FileNotFoundError:
            parent = os.path.dirname(self.path)
            raise AgentError(
                f"{parent} is not there, so {self.path} cannot be made: declare it first"
            ) from None

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"path": wire["path"], "target": wire["target"]}
