"""Accounts that came from rosters: ``users/GROUP.toml`` beside cluster.toml.

cluster.toml stays the one file that is edited by hand; these are written by ``practicum user``
and read by :func:`cluster.load.load` as if their ``[[users]]`` and ``[[groups]]`` stood at its
end. ``users/left.toml`` remembers the numbers of people who left: files may still carry them, so
nobody else gets them, and who comes back gets the old one.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.errors import ConfigError, PracticumError, UsageError
from cluster.model import Cluster
from cluster.roster import Person
from cluster.values import NAME

FOLDER = "users"
LEFT = "left.toml"
FIRST_UID = 10_000  # below are those that people choose in cluster.toml
LAST_UID = 49_999  # above are those of courses
_HEAD = "# Written by practicum user import and remove: run those rather than edit this.\n"


@dataclass(frozen=True)
class Account:
    """One ``[[users]]`` of such a file."""

    name: str
    uid: int
    groups: tuple[str, ...]
    full_name: str = ""
    email: str = ""


@dataclass(frozen=True)
class Book:
    """One file: its accounts, and the group that it declares if cluster.toml does not."""

    accounts: tuple[Account, ...] = ()
    gid: int | None = None


@dataclass(frozen=True)
class Import:
    """What an import changes: books by group (only changed ones), and whom it is about."""

    books: Mapping[str, Book] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()  # in the file, not on the roster: left as they are
    elsewhere: tuple[str, ...] = ()  # in cluster.toml: left as they are
    returning: tuple[str, ...] = ()  # of those added: who left before, and has the number again


def files(cluster_toml: Path) -> list[Path]:
    """The accounts' files of that cluster.toml, in the order in which they count."""
    folder = cluster_toml.parent / FOLDER
    return sorted(path for path in folder.glob("*.toml") if path.name != LEFT)


def book_path(cluster_toml: Path, group: str) -> Path:
    return cluster_toml.parent / FOLDER / f"{group}.toml"


def read_books(cluster_toml: Path) -> dict[str, Book]:
    """Every file by its group. Only after ``load`` has accepted them: then they have this form."""
    books = {}
    for path in files(cluster_toml):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        accounts = tuple(
            Account(
                item["name"],
                item["uid"],
                tuple(item["groups"]),
                item.get("full_name", ""),
                item.get("email", ""),
            )
            for item in data.get("users", ())
        )
        groups = data.get("groups", ())
        books[path.stem] = Book(accounts, groups[0]["gid"] if groups else None)
    return books


def read_left(cluster_toml: Path) -> dict[str, int]:
    """Uids of people who left, by name. ConfigError when the file is damaged."""
    path = cluster_toml.parent / FOLDER / LEFT
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(uid) for name, uid in data.get("left", {}).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): restore it from a backup") from None


def plan_import(
    cluster: Cluster,
    books: Mapping[str, Book],
    left: Mapping[str, int],
    people: Iterable[Person],
    group: str,
) -> Import:
    """What importing ``people`` into ``group`` changes. The same people again: nothing.

    UsageError for a group that cannot be, PracticumError when numbers have run out.
    """
    known = {one.name for one in cluster.groups}
    if not re.fullmatch(NAME, group) or group == LEFT.removesuffix(".toml"):
        raise UsageError(
            f"--group {group}: not a group's name: a lower-case letter, then up to 30 of "
            "a-z 0-9 _ -"
        )
    if group in cluster.groups_with("admin"):
        raise UsageError(
            f"--group {group}: its members are root on every node, and no class is: choose another "
            "group, or write admins into cluster.toml by hand"
        )
    own = books.get(group, Book())
    if group not in known and own.gid is None:
        own = replace(own, gid=_next({one.gid for one in cluster.groups}, "gid"))
    home = {one.name: name for name, book in books.items() for one in book.accounts}
    imported = set(home)
    by_hand = {user.name for user in cluster.users} - imported
    taken = {user.uid for user in cluster.users} | set(left.values())
    taken |= {one.uid for book in books.values() for one in book.accounts}
    result = {name: {one.name: one for one in book.accounts} for name, book in books.items()}
    result.setdefault(group, {})
    added, changed, elsewhere, returning = [], [], [], []
    names = set()
    for person in people:
        names.add(person.name)
        if person.name in by_hand:
            elsewhere.append(person.name)
            continue
        where = home.get(person.name, group)
        old = result[where].get(person.name)
        if old is None:
            uid = left.get(person.name) or _next(taken, "uid")
            taken.add(uid)
            new = Account(person.name, uid, (group,), person.full_name, person.email)
            added.append(person.name)
            if person.name in left:
                returning.append(person.name)
        else:
            new = _updated(old, person, group)
            if new != old:
                changed.append(person.name)
        result[where][person.name] = new
    made = {
        name: Book(tuple(accounts.values()), own.gid if name == group else books[name].gid)
        for name, accounts in result.items()
    }
    return Import(
        books={name: book for name, book in made.items() if book != books.get(name)},
        added=tuple(added),
        changed=tuple(changed),
        absent=tuple(one for one in result[group] if one not in names),
        elsewhere=tuple(elsewhere),
        returning=tuple(returning),
    )


def _updated(old: Account, person: Person, group: str) -> Account:
    """What a roster says anew; what it leaves out stays."""
    groups = old.groups if group in old.groups else (*old.groups, group)
    return replace(
        old,
        groups=groups,
        full_name=person.full_name or old.full_name,
        email=person.email or old.email,
    )


def _next(taken: set[int], what: str) -> int:
    """After the highest ever given, so that a number is never given twice."""
    number = max([FIRST_UID - 1, *(one for one in taken if FIRST_UID <= one <= LAST_UID)]) + 1
    if number > LAST_UID:
        free = sorted(set(range(FIRST_UID, LAST_UID + 1)) - taken)
        if not free:
            raise PracticumError(f"no {what} is free between {FIRST_UID} and {LAST_UID}")
        number = free[0]
    return number


def without(books: Mapping[str, Book], name: str) -> tuple[dict[str, Book], Account] | None:
    """The one book that changes when ``name`` leaves, and the account; None if it is in none."""
    for group, book in books.items():
        for account in book.accounts:
            if account.name == name:
                rest = tuple(one for one in book.accounts if one.name != name)
                return {group: replace(book, accounts=rest)}, account
    return None


def render(group: str, book: Book) -> str:
    """The file's text."""
    parts = [_HEAD]
    if book.gid is not None:
        parts.append(f'[[groups]]\nname = {_text(group)}\ngid = {book.gid}\nrole = "student"\n')
    for one in book.accounts:
        lines = [
            "[[users]]",
            f"name = {_text(one.name)}",
            f"uid = {one.uid}",
            f"groups = [{', '.join(map(_text, one.groups))}]",
        ]
        if one.full_name:
            lines.append(f"full_name = {_text(one.full_name)}")
        if one.email:
            lines.append(f"email = {_text(one.email)}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def render_left(left: Mapping[str, int]) -> str:
    rows = "".join(f"{_text(name)} = {uid}\n" for name, uid in sorted(left.items()))
    return f"{_HEAD}# Numbers that nobody else gets: files may still carry them.\n\n[left]\n{rows}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def strange(path: Path, data: Mapping[str, Any]) -> str:
    """What such a file holds that it may not; "" when nothing."""
    others = sorted(set(data) - {"users", "groups"})
    if others:
        return f"{path}:1: only [[users]] and [[groups]] may be here, not {', '.join(others)}"
    for key, value in data.items():
        if not isinstance(value, list):
            return f"{path}:1: {key} must be written as [[{key}]]"
    return ""
