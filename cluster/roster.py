"""A class list as CSV → people. Pure; every fault is one sentence with file and line.

The account's name is needed, the person's name and mail address are read if they are there.
Learning platforms and spreadsheets name their columns differently; ``COLUMNS`` lists the names
that are known. What is in other columns is left alone, and told.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.checks.people import reserved
from cluster.errors import ConfigError
from cluster.values import EMAIL, FULL_NAME, NAME

LARGEST = 1_000_000  # bytes; a class of a thousand has some 60,000
SHOWN = 12
SEPARATORS = ",;\t"
COLUMNS = {
    "name": ("username", "user_name", "login", "login_name", "account", "user", "user_id",
             "userid", "netid", "name"),
    "full_name": ("full_name", "fullname", "display_name", "real_name", "student", "person",
                  "name"),
    "first": ("first_name", "firstname", "given_name", "forename"),
    "last": ("last_name", "lastname", "surname", "family_name"),
    "email": ("email", "e_mail", "mail", "email_address", "e_mail_address"),
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One row of a roster."""

    name: str
    full_name: str = ""
    email: str = ""


@dataclass(frozen=True)
class Roster:
    """The people of a file, in its order, and the columns that were not read."""

    people: tuple[Person, ...]
    ignored: tuple[str, ...] = ()


def parse(data: bytes, source: str) -> Roster:
    """The people in ``data``, a CSV file that is called ``source`` in errors.

    Separated by commas, semicolons or tabs; UTF-8 with or without a byte order mark.
    ConfigError tells everything that is wrong with it, one line each.
    """
    text = _text(data, source)
    rows = _rows(text, source)
    if not rows:
        raise ConfigError(
            f"{source}:1: is empty: the first line names the columns (name,full_name,email), "
            "each line after it is one person"
        )
    line, header = rows[0]
    places, ignored = _columns(header, f"{source}:{line}")
    people: list[Person] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, fields in rows[1:]:
        try:
            person = _person(places, fields, len(header))
        except ValueError as error:
            problems.append(f"{source}:{number}: {error}")
            continue
        first = seen.setdefault(person.name, number)
        if first != number:
            problems.append(f"{source}:{number}: {person.name} is already in line {first}")
        people.append(person)
    if problems:
        more = len(problems) - SHOWN
        left = [f"{source}: and {more} more like these"] if more > 0 else []
        raise ConfigError("\n".join([*problems[:SHOWN], *left]))
    if not people:
        raise ConfigError(f"{source}:{line}: names the columns, and no person follows")
    return Roster(tuple(people), tuple(ignored))


def _text(data: bytes, source: str) -> str:
    if len(data) > LARGEST:
        raise ConfigError(f"{source} is larger than {LARGEST} bytes: is it a class list?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{source}:1: is UTF-16, not UTF-8: save it as CSV UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{source}:{line}: is not UTF-8 (byte 0x{data[error.start]:02x}): save it as CSV UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(f"{source}:{line}: holds a zero byte: is it a CSV file?")
    return text


def _rows(text: str, source: str) -> list[tuple[int, list[str]]]:
    """(line, fields) of every row that is not blank."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    line = 1
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                rows.append((line, stripped))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(
            f"{source}:{line}: is not CSV ({error}): look at the quotes in that line"
        ) from None
    return rows


def _columns(header: Sequence[str], where: str) -> tuple[dict[str, int], list[str]]:
    """Which column holds what. ``name`` is the account's, unless another column says it is:
    then it is the person's."""
    words = [re.sub(r"[\s_-]+", "_", word.casefold()).strip("_") for word in header]
    for word in words:
        if word and words.count(word) > 1:
            raise ConfigError(f"{where}: two columns are called {word}: rename one")
    places: dict[str, int] = {}
    for meaning, known in COLUMNS.items():
        for word in known:
            if word in words and words.index(word) not in places.values():
                places[meaning] = words.index(word)
                break
    if "name" not in places:
        shown = ", ".join(word for word in header if word)[:80]
        raise ConfigError(
            f"{where}: no column holds the accounts' names: call one name or username "
            f"(the columns are: {shown})"
        )
    return places, [
        word for index, word in enumerate(header) if word and index not in places.values()
    ]


def _person(places: dict[str, int], fields: Sequence[str], width: int) -> Person:
    """ValueError says what is wrong with this row."""
    if any(fields[width:]):
        raise ValueError(
            f"has {len(fields)} fields and the first line {width}: put quotes around a field that "
            "holds a separator"
        )

    def field(meaning: str) -> str:
        place = places.get(meaning)
        return fields[place] if place is not None and place < len(fields) else ""

    name = field("name")
    _check_name(name)
    full = field("full_name") or " ".join(filter(None, (field("first"), field("last"))))
    last, comma, first = full.partition(",")
    if comma and "," not in first:  # Lovelace, Ada
        full = f"{first.strip()} {last.strip()}".strip()
    if not re.fullmatch(FULL_NAME, full) or len(full) > 100:
        raise ValueError(
            f"the full name {full[:40]!r} must be one line of at most 100 characters without : or ,"
        )
    email = field("email")
    if not re.fullmatch(EMAIL, email):
        raise ValueError(f"{email[:60]!r} is not a mail address")
    return Person(name, full, email)


def _check_name(name: str) -> None:
    if not name:
        raise ValueError("the account's name is missing")
    if not re.fullmatch(NAME, name):
        lower = name.casefold()
        near = f" (did you mean {lower}?)" if re.fullmatch(NAME, lower) else ""
        raise ValueError(
            f"{name[:40]!r} cannot be an account's name{near}: a lower-case letter, then up to 30 "
            "of a-z 0-9 _ -"
        )
    if reserved(name):
        raise ValueError(f"{name} is an account of the system: choose another name")
