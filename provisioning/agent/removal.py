"""What is no longer declared: taken away if practicum made it and it holds nobody's data,
otherwise named, so that somebody decides."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

from provisioning.agent.accounts import close, is_closed
from provisioning.agent.files import UNIT_FOLDERS, edit, unified
from provisioning.agent.host import AgentError, Seen
from provisioning.agent.mounts import FSTAB, unmount
from provisioning.agent.packages import installed_on
from provisioning.agent.record import REMOVED, digest, kept
from provisioning.agent.services import NOT_DISABLED, Units, control, reload_units, unit_name
from provisioning.agent.work import Change, Run, Work

# What uses something goes before what it uses.
ORDER = ("service", "mount", "line", "link", "file", "directory", "package", "user", "group")
Entry = dict[str, Any]
FIRST_PERSON = 1000  # uids below are the system's (Debian policy 9.2)


def removals(
    run: Run,
    declared: Iterable[str],
    paths: Iterable[str],
    lines: Collection[tuple[str, str]],
    units: Units,
    when: Callable[[Entry], bool],
) -> list[Work]:
    """Work for every entry of the manifest that nothing declares, of those that ``when``
    chooses. ``paths`` are those that Files and Lines still claim, ``lines`` are (path, line)
    that are wanted still, though under another key."""
    wanted, claimed = set(declared), set(paths)
    gone = [(key, entry) for key, entry in run.manifest.entries.items() if key not in wanted]
    gone = [item for item in gone if when(item[1])]
    # what was mounted last is unmounted first: it may lie on what was mounted before
    gone = [item for item in gone if not item[0].startswith("mount:")] + [
        item for item in reversed(gone) if item[0].startswith("mount:")
    ]
    gone.sort(key=lambda item: (_rank(item[0]), _depth(item[1])))
    works = []
    for key, entry in gone:
        kind = key.partition(":")[0]
        if kind == "file" and entry.get("path") in claimed:
            continue
        if kind == "line" and (entry.get("path"), entry.get("line")) in lines:
            continue
        if kind == "user" and entry.get("adopted") and not wanted:
            continue  # the node leaves the cluster: accounts that it had before are its own
        examine = _EXAMINERS.get(kind)
        work = examine(run, key, entry, units) if examine else None
        if work is not None:
            work.foresee()
            if work.changes[0].action == "remove":
                work.notify = tuple(entry.get("notify", ()))
            works.append(work)
    return works


def forgettable(run: Run, declared: Iterable[str], works: Iterable[Work]) -> list[str]:
    """Keys of entries that nothing declares and nothing is to be done or said about."""
    busy = {change.key for work in works for change in work.changes}
    wanted = set(declared)
    return [key for key in run.manifest.entries if key not in wanted and key not in busy]


def _rank(key: str) -> int:
    kind = key.partition(":")[0]
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


def _depth(entry: Entry) -> int:
    return -str(entry.get("path", "")).count("/")


def _listed(key: str, summary: str) -> Work:
    return Work([Change(key, "list", f"left in place: {summary}")], lambda: None)


def _removed(
    run: Run,
    key: str,
    summary: str,
    do: Callable[[], None],
    foresee: Callable[[], None] = lambda: None,
    diff: str = "",
) -> Work:
    def act() -> None:
        do()
        run.manifest.forget(key)
        run.manifest.save()

    return Work([Change(key, "remove", summary, diff)], act, foresee)


def _service(run: Run, key: str, entry: Entry, units: Units) -> Work | None:
    name = unit_name(entry["service"])
    state = units.get(name)
    enabled = state.enabled in NOT_DISABLED
    running = state.active not in ("inactive", "failed") and not run.host.image
    if entry.get("adopted") or state.load == "not-found" or not (enabled or running):
        return None

    def act() -> None:
        if running:
            control(run, "stop", name)
        if enabled:
            control(run, "disable", name)
        units.forget()

    return _removed(run, key, f"stop and disable {entry['service']}", act)


def _mount(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    target = entry["target"]
    if entry.get("adopted") or target not in run.host.text(FSTAB):
        return None
    return _removed(run, key, f"unmount {target}", lambda: unmount(run, target))


def _line(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    path, line = entry["path"], entry["line"]
    seen = run.see(path, follow=True)
    if entry.get("adopted") or not entry["present"] or seen.kind != "file":
        return None
    if "digest" in run.manifest.get(f"file:{path}"):
        return None  # the file goes, and its lines with it
    old = seen.content.decode("utf-8", "surrogateescape")
    if line not in old.split("\n"):
        return None
    if "was" in entry:  # put back what stood there before
        lines = old.split("\n")
        lines[lines.index(line)] = entry["was"]
        new = "\n".join(lines)
    else:
        new = edit(old, line, present=False)
    content = new.encode("utf-8", "surrogateescape")

    made_empty = not content and entry.get("created")

    def act() -> None:
        if made_empty:
            run.host.remove(path)
        else:
            run.host.write(path, content, seen.mode, seen.uid, seen.gid, follow=True)

    after = Seen("missing") if made_empty else seen._replace(content=content)
    return _removed(
        run,
        key,
        f"take a line out of {path}" if "was" not in entry else f"restore a line of {path}",
        act,
        lambda: run.expect(path, after, follow=True),
        unified(path, old, new),
    )


def _link(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    path = entry["path"]
    seen = run.see(path)
    if entry.get("adopted") or seen.kind != "link" or seen.target != entry["target"]:
        return None
    return _path_removed(run, key, path, "link", seen)


def _file(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    path = entry["path"]
    seen = run.see(path)
    if seen.kind != "file" or (entry.get("adopted") and not entry.get("digest")):
        return None
    if entry.get("once"):
        return _listed(key, f"{path}, which is the admin's since it was first written")
    edited = digest(run.key, seen.content) != entry.get("digest")
    return _path_removed(run, key, path, "file", seen, edited and not entry.get("secret"))


def _path_removed(run: Run, key: str, path: str, kind: str, seen: Seen, keep: bool = False) -> Work:
    copy = kept(run.host, path)
    summary = f"remove {kind} {path}"
    if copy:
        summary = f"restore {path} as it was before practicum"
    elif keep:
        summary += f" (changed by hand: kept as {REMOVED}{path})"

    def act() -> None:
        if keep:
            folder = os.path.dirname(REMOVED + path)
            run.host.makedirs(folder, 0o700)
            run.host.write(REMOVED + path, seen.content, seen.mode, seen.uid, seen.gid)
        if copy:
            # A rename moves file or link with its owner and mode, at once.
            os.rename(run.host.at(copy), run.host.at(path))
        else:
            run.host.remove(path)
        if path.startswith(UNIT_FOLDERS):
            run.notes.add(["daemon-reload"], key)
            reload_units(run)

    after = run.host.look(copy) if copy else Seen("missing")
    return _removed(run, key, summary, act, lambda: run.expect(path, after))


def _directory(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    path = entry["path"]
    seen = run.see(path, follow=True, read=False)
    if entry.get("adopted") or seen.kind != "directory":
        return None
    real = run.host.at(path, follow=True)
    left = [
        name
        for name in os.listdir(real)
        if run.see(f"{path.rstrip('/')}/{name}", read=False).kind != "missing"
    ]
    if left:
        return _listed(key, f"directory {path}, which is not empty ({len(left)} entries)")

    def foresee() -> None:
        run.ahead.files[real] = Seen("missing")
        run.ahead.files[run.host.at(path)] = Seen("missing")

    def act() -> None:
        with contextlib.suppress(FileNotFoundError):  # what it was on is unmounted by now
            os.rmdir(real)

    return _removed(run, key, f"remove empty directory {path}", act, foresee)


def _package(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    if entry.get("adopted") or not installed_on(run.host).has(entry["package"]):
        return None
    return _listed(key, f"package {entry['package']} (apt-get remove it if nobody needs it)")


def _user(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    """People's accounts are closed, also those that were there before practicum; those of services
    are left. Files stay in either case."""
    name, uid = entry["user"], entry["uid"]
    if run.table("/etc/passwd").get(name) is None:
        return None
    files = f"and their files in {entry['home']}" if entry.get("home") else "and their files"
    if uid < FIRST_PERSON:
        left = f"user {name} (uid {uid}) and their files"
        return None if entry.get("adopted") else _listed(key, left)
    if is_closed(run, name):
        return _listed(key, f"user {name} (uid {uid}), closed, {files}")
    if name == os.environ.get("SUDO_USER") and not run.host.root:
        raise AgentError(
            f"user {name} is no longer declared and would be closed, but you log in as {name}: "
            "declare it again, or set ssh.user to another account"
        )

    def act() -> None:
        run.manifest.intend(key, closed=True)
        run.manifest.save()
        close(run, name)
        run.manifest.done(key)

    return Work([Change(key, "remove", f"close user {name} (uid {uid}); {files} stay")], act)


def _group(run: Run, key: str, entry: Entry, _units: Units) -> Work | None:
    if entry.get("adopted") or run.table("/etc/group").get(entry["group"]) is None:
        return None
    return _listed(key, f"group {entry['group']} (gid {entry['gid']})")


_EXAMINERS: dict[str, Callable[[Run, str, Entry, Units], Work | None]] = {
    "service": _service,
    "mount": _mount,
    "line": _line,
    "link": _link,
    "file": _file,
    "directory": _directory,
    "package": _package,
    "user": _user,
    "group": _group,
}
