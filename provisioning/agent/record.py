"""What practicum keeps on a node, under /var/lib/practicum: the manifest of what it declared,
notifications that are still to be carried out, and copies of what it replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from provisioning.agent.host import AgentError, Host

FOLDER = "/var/lib/practicum"
MANIFEST = f"{FOLDER}/manifest.json"
PENDING = f"{FOLDER}/pending.json"
DEFERRED = f"{FOLDER}/deferred.json"
BACKUP = f"{FOLDER}/backup"
REMOVED = f"{FOLDER}/removed"
VERSION = 1


def load(host: Host, path: str, part: str) -> dict[str, Any]:
    """The table ``part`` of a state file; empty when there is no file."""
    content = host.read(path)
    if not content:
        return {}
    try:
        data = json.loads(content)
        if data["version"] > VERSION:
            raise AgentError(f"{path} was written by a newer practicum: use that one")
        return dict(data[part])
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError(
            f"{path} is damaged ({error}): restore it, or remove it, and what is no longer "
            "declared will then not be removed"
        ) from error


def store(host: Host, path: str, part: str, data: Mapping[str, Any], sync: bool) -> None:
    host.makedirs(FOLDER, 0o700)
    text = json.dumps({"version": VERSION, part: data}, indent=0, sort_keys=True)
    host.write(path, text.encode(), 0o600, 0, 0, sync=sync)


class Manifest:
    """What was declared here, by resource key.

    An entry is written before its resource is made (``done`` false), so a killed run never
    leaves anything that the next run does not know as its own. ``adopted`` means that it was
    right before practicum came: then it isn't removed either.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.entries: dict[str, dict[str, Any]] = load(host, MANIFEST, "entries")
        self._dirty = False

    def get(self, key: str) -> dict[str, Any]:
        return self.entries.get(key, {})

    def intend(self, key: str, **fields: Any) -> None:
        """This is about to be made or changed; on disk before it is."""
        entry = dict(self.get(key))
        entry.update(fields)
        entry["done"] = False
        self.entries[key] = entry
        self._dirty = True

    def done(self, key: str, **fields: Any) -> None:
        entry = dict(self.get(key))
        entry.update(fields)
        entry["done"] = True
        if entry != self.entries.get(key):
            self.entries[key] = entry
            self._dirty = True

    def settle(self, key: str, **fields: Any) -> None:
        """It is as declared without our doing anything."""
        if key not in self.entries:
            fields = {**self._former(fields), **fields}
        self.done(key, **fields)

    def _former(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of the same line under another key (another pattern found it before);
        of anything else, that it is not ours."""
        if "line" in fields:
            for key, entry in self.entries.items():
                same = entry.get("path") == fields["path"] and entry.get("line") == fields["line"]
                if same and key.startswith("line:"):
                    return dict(entry)
        return {"adopted": True}

    def forget(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            self._dirty = True

    def save(self, sync: bool = False) -> None:
        """To disk if anything changed. Without ``sync`` it outlives this process, though not a
        power cut: a later run then finds things as declared and leaves them."""
        if self._dirty or sync:
            store(self.host, MANIFEST, "entries", self.entries, sync)
            self._dirty = False

    def stamp(self) -> tuple[int, int]:
        """Changes whenever somebody writes the manifest."""
        try:
            info = os.stat(self.host.at(MANIFEST))
        except FileNotFoundError:
            return (0, 0)
        return (info.st_mtime_ns, info.st_ino)


def managed(host: Host) -> bool:
    """Whether files of ours are here. What is only listed (accounts, packages) does not count:
    it stays when a machine is taken out of the cluster."""
    return any(key.startswith("file:") for key in load(host, MANIFEST, "entries"))


class Notes:
    """Notifications to be carried out, each with the resources that asked for it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.notes: dict[str, list[str]] = load(host, PENDING, "notes")

    def add(self, names: Iterable[str], source: str, save: bool = True) -> None:
        changed = False
        for name in names:
            sources = self.notes.setdefault(name, [])
            if source not in sources:
                sources.append(source)
                changed = True
        if changed and save:
            self.save()

    def drop(self, names: Iterable[str], save: bool = True) -> None:
        gone = [self.notes.pop(name, None) for name in names]
        if save and any(sources is not None for sources in gone):
            self.save()

    def save(self) -> None:
        if self.notes:
            store(self.host, PENDING, "notes", self.notes, sync=True)
        else:
            self.host.remove(PENDING)


def backup(host: Host, path: str, suffix: str = "") -> None:
    """Keep what is at ``path`` now, once: the state before practicum. A link is kept as a link.

    With a suffix (".edited") always the latest: what somebody had made of our file.
    """
    copy = BACKUP + path + suffix
    seen = host.look(path)
    taken = not suffix and host.look(copy, read=False).kind != "missing"
    if seen.kind not in ("file", "link") or taken:
        return
    host.makedirs(FOLDER, 0o700)
    host.makedirs(os.path.dirname(copy), 0o700)
    if seen.kind == "link":
        host.link(copy, seen.target)
    else:
        host.write(copy, seen.content, seen.mode, seen.uid, seen.gid)


def kept(host: Host, path: str) -> str | None:
    """The copy that :func:`backup` made of ``path``, if any."""
    copy = BACKUP + path
    return copy if host.look(copy, read=False).kind != "missing" else None


def digest(key: str, content: bytes) -> str:
    """A keyed hash: it tells that a secret changed, and nothing about it."""
    import hashlib  # noqa: PLC0415  slow to import, and a run without changes needs neither
    import hmac  # noqa: PLC0415

    return hmac.new(
        bytes.fromhex(key) if key else b"practicum", content, hashlib.sha256
    ).hexdigest()
