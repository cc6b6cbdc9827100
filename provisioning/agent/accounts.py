"""Groups and users of the system itself (/etc/passwd and its like), with fixed ids."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from provisioning.agent.host import AgentError
from provisioning.agent.record import digest
from provisioning.agent.work import Change, Run, Wire, Work

LOCKED = ("*", "!", "!!", "!*", "")
LOCK_TRIES = 10  # of half a second, while another program holds /etc/.pwd.lock


def tool(run: Run, argv: Sequence[str], stdin: bytes | None = None) -> None:
    """One of shadow's programs; waits while somebody else edits the tables."""
    for _ in range(LOCK_TRIES):
        outcome = run.host.run(argv, stdin=stdin, timeout=60)
        if outcome.code == 0:
            return
        if "cannot lock" not in outcome.output:
            break
        time.sleep(0.5)
    raise AgentError(f"{argv[0]} failed: {outcome.tail(4)}")


class GroupUnit:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.members = [wire]

    def examine(self, run: Run) -> Work | None:
        name, gid = self.wire["group"], self.wire["gid"]
        row = run.table("/etc/group").get(name)
        if row is None:
            _free(run, "/etc/group", gid, f"group {name}")
            text = f"add group {name} (gid {gid})"
            change = Change(self.wire["key"], "create", text)
        else:
            if int(row[2]) != gid:
                raise AgentError(
                    f"group {name} has gid {row[2]} here and should have {gid}: its files carry "
                    f"the old number: change it by hand (groupmod and chgrp), or declare {row[2]}"
                )
            news = self._members_differ(row)
            if not news:
                return None
            change = Change(self.wire["key"], "update", f"group {name}: {news}")
        return Work(
            [change],
            lambda: self._make(run, row is None),
            lambda: run.ahead.groups.update({name: gid}),
            self.wire["notify"],
        )

    def _members_differ(self, row: list[str]) -> str:
        if self.wire["members"] is None:
            return ""
        have = {member for member in row[3].split(",") if member}
        want = set(self.wire["members"])
        return _plus_minus(have, want)

    def _make(self, run: Run, new: bool) -> None:
        name = self.wire["group"]
        run.manifest.intend(self.wire["key"], **self.entry(run, self.wire))
        run.manifest.save()
        if new:
            tool(run, ["groupadd", "--gid", str(self.wire["gid"]), name])
        if self.wire["members"] is not None:
            tool(run, ["gpasswd", "--members", ",".join(self.wire["members"]), name])

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"group": wire["group"], "gid": wire["gid"]}


class UserUnit:
    """An account. Its password is set when it is new or when the declared one changes: one
    that its owner has set since with passwd stays."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.members = [wire]

    def examine(self, run: Run) -> Work | None:
        wire = self.wire
        name = wire["user"]
        row = run.table("/etc/passwd").get(name)
        closed = bool(run.manifest.get(wire["key"]).get("closed")) and is_closed(run, name)
        password = self._password(run, name)
        home = wire["create_home"] and run.see(wire["home"], True, False).kind == "missing"
        if row is None:
            _free(run, "/etc/passwd", wire["uid"], f"user {name}")
            text = f"add user {name} (uid {wire['uid']}, group {wire['group']})"
            change = Change(wire["key"], "create", text)
            options = ["group", "groups", "home", "shell", "comment"]
        else:
            options, news = self._differ(run, row)
            news += ["set password" if wire["password_hash"] != "*" else "lock"] * bool(password)
            news += [f"make {wire['home']}"] * bool(home)
            if closed:
                options.append("open")
                news.append("open again")
            if not news:
                return None
            change = Change(wire["key"], "update", f"user {name}: {', '.join(news)}")
        return Work(
            [change],
            lambda: self._make(run, row is None, options, password, home),
            lambda: run.ahead.users.update({name: wire["uid"]}),
            wire["notify"],
        )

    def _groups(self, run: Run) -> tuple[set[str], set[str]]:
        """Supplementary groups: those it has, and those it should have. What others gave it
        stays; what practicum gave it before, and no longer declares, goes."""
        name = self.wire["user"]
        table = run.table("/etc/group")
        have = {group for group, row in table.items() if name in row[3].split(",")}
        before = set(run.manifest.get(self.wire["key"]).get("groups", ()))
        return have, (have - before) | set(self.wire["groups"])

    def _differ(self, run: Run, row: list[str]) -> tuple[list[str], list[str]]:
        wire = self.wire
        if int(row[2]) != wire["uid"]:
            raise AgentError(
                f"user {wire['user']} has uid {row[2]} here and should have {wire['uid']}: files "
                f"belong to the old number, so change it by hand (usermod and chown), or declare "
                f"{row[2]}"
            )
        options, news = [], []
        gid = run.gid(wire["group"])
        if gid is None or int(row[3]) != gid:
            options.append("group")
            news.append(f"group {wire['group']}")
        have, want = self._groups(run)
        if have != want:
            options.append("groups")
            news.append(f"groups {_plus_minus(have, want)}")
        for option, index, key in (("comment", 4, "full_name"), ("home", 5, "home")):
            if row[index] != wire[key]:
                options.append(option)
                news.append(f"{key.replace('_', ' ')} {row[index] or '-'} → {wire[key] or '-'}")
        if row[6] != wire["shell"]:
            options.append("shell")
            news.append(f"shell {row[6] or '-'} → {wire['shell']}")
        return options, news

    def _password(self, run: Run, name: str) -> str:
        """The hash (or "*") to be set; "" when nothing is."""
        want = self.wire["password_hash"]
        if run.host.image and want != "*":
            return ""  # no secrets in images
        row = run.table("/etc/shadow").get(name)
        have = row[1] if row else ""
        if not want or have == want or (want == "*" and have in LOCKED):
            return ""
        declared = run.manifest.get(self.wire["key"]).get("password", "")
        if declared == digest(run.key, want.encode()) and have not in LOCKED and want != "*":
            return ""
        return str(want)

    def _make(self, run: Run, new: bool, options: Sequence[str], password: str, home: bool) -> None:
        wire = self.wire
        name = wire["user"]
        _have, want = self._groups(run)
        values = {
            "group": ["--gid", wire["group"]],
            "groups": ["--groups", ",".join(sorted(want))],
            "home": ["--home-dir" if new else "--home", wire["home"]],
            "shell": ["--shell", wire["shell"]],
            "comment": ["--comment", wire["full_name"]],
            "open": ["--expiredate", ""],
        }
        if run.gid(wire["group"]) is None:
            raise AgentError(f"user {name} should be in group {wire['group']}: declare it before")
        run.manifest.intend(wire["key"], user=name, uid=wire["uid"])
        run.manifest.save()
        arguments = [part for option in options for part in values[option]]
        if new:
            fixed = ["--uid", str(wire["uid"]), "--no-user-group", "--no-create-home"]
            tool(run, ["useradd", *fixed, *arguments, name])
        elif arguments:
            tool(run, ["usermod", *arguments, name])
        if password == "*":
            tool(run, ["usermod", "--password", "*", name])
        elif password:
            tool(run, ["chpasswd", "--encrypted"], f"{name}:{password}\n".encode())
        if home:
            make_home(run, wire)

    @staticmethod
    def entry(run: Run, wire: Wire) -> dict[str, Any]:
        entry = {"user": wire["user"], "uid": wire["uid"], "groups": list(wire["groups"])}
        entry["home"], entry["closed"] = wire["home"], False
        if wire["password_hash"] and not run.host.image:
            entry["password"] = digest(run.key, wire["password_hash"].encode())
        return entry


EXPIRED = "1"  # days since 1970 (shadow(5)); 0 means never to some programs


def is_closed(run: Run, name: str) -> bool:
    """Whether an account has expired as :func:`close` makes it: PAM then lets nobody in, by
    password, by key or by su, and what the account's password was stays for when it comes back."""
    row = run.table("/etc/shadow").get(name, [])
    return len(row) > 7 and row[7] == EXPIRED


def close(run: Run, name: str) -> None:
    tool(run, ["usermod", "--expiredate", EXPIRED, name])


def make_home(run: Run, wire: Wire) -> None:
    """A home with /etc/skel's files, mode 0700. It appears whole: made beside, then renamed."""
    import shutil  # noqa: PLC0415  slow to import, and homes are made once

    host = run.host
    uid, gid = wire["uid"], run.gid(wire["group"])
    host.makedirs(os.path.dirname(wire["home"]))
    final = host.at(wire["home"], follow=True)
    made = f"{os.path.dirname(final)}/.{os.path.basename(final)}.practicum-new"
    if os.path.isdir(made):
        shutil.rmtree(made)
    os.mkdir(made, 0o700)
    skel = host.at("/etc/skel", follow=True)
    if os.path.isdir(skel):
        shutil.copytree(skel, made, symlinks=True, dirs_exist_ok=True)
    for folder, folders, names in os.walk(made):
        for name in folders + names:
            os.lchown(os.path.join(folder, name), uid, -1 if gid is None else gid)
    os.chown(made, uid, -1 if gid is None else gid)
    os.chmod(made, 0o700)
    os.rename(made, final)


def _free(run: Run, table: str, number: int, what: str) -> None:
    for name, row in run.table(table).items():
        if row[2] == str(number):
            raise AgentError(
                f"{what} should have the number {number}, but {name} has it on this node: "
                "declare another number, or change that account by hand"
            )


def _plus_minus(have: set[str], want: set[str]) -> str:
    plus = [f"+{name}" for name in sorted(want - have)]
    return " ".join(plus + [f"-{name}" for name in sorted(have - want)])
