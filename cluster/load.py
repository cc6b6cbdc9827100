"""cluster.toml → :class:`cluster.model.Cluster`, with errors for the person who wrote the file.

Every error names the file, the line, the key, and what would be right. All that is wrong is told
at once, one line each.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cluster import courses, people, software, values
from cluster.checks import check
from cluster.errors import ConfigError
from cluster.model import Cluster
from cluster.toml_lines import Lines, Place
from cluster.values import slurm_time

__all__ = ["dotted", "load", "load_public", "public_json", "slurm_time"]

SHOWN = 12  # problems told at once; a wrong file can have hundreds
LARGEST = 4_000_000  # bytes; a cluster.toml of a thousand nodes has some 200,000
_PATTERNS = {
    values.NAME: "a name: a lower-case letter, then up to 30 of a-z 0-9 _ -",
    values.HOST: "a host name: a-z, 0-9 and - (not at the ends), at most 63",
    values.DURATION: "a time like 04:00:00 (hours:minutes:seconds) or 1-00:00:00 (days first)",
    values.TEXT: "one line of text without control characters",
    values.PATH: "an absolute path of a-z A-Z 0-9 . _ - and /",
    r"^[A-Za-z0-9_+/-]+$": "a time zone like Europe/Berlin",
    values.FULL_NAME: "a full name in one line without : or ,",
    values.EMAIL: "a mail address",
    courses.COURSE_NAME: "a course's name: a lower-case letter, then up to 18 of a-z 0-9 _ -",
    values.MODULE_WORD: "one part of a module's name: a letter or digit, then A-Z a-z 0-9 . _ + -, "
    "without /, .. or a . at the end",
    values.MODULE: "a name like gcc or gcc/12.2.0, without ..",
    software.PACKAGE: "the name of a package of the distribution",
    software.VARIABLE: "the name of an environment variable",
    values.REQUIREMENT: "a package like numpy or numpy>=1.26, without blanks",
    values.CHANNEL: "a conda channel: conda-forge, an https:// or file:// address, or a folder",
    values.PYTHON_VERSION: "a version of Python like 3.12",
    values.LOCK_FILE: "the name of a file beside this one",
}
_WORDS = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list in [ ]",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
}
_BOUNDS = {
    "missing": "this key is missing",
    "greater_than_equal": "must be at least {ge}{shown}",
    "less_than_equal": "must be at most {le}{shown}",
    "less_than": "must be less than {lt}{shown}",
    "multiple_of": "must be a multiple of {multiple_of}{shown}",
    "too_short": "needs at least {min_length} of them",
    "too_long": "may have at most {max_length} of them",
    "string_too_long": "may have at most {max_length} characters",
}


def load(path: Path, trial: Mapping[Path, str] | None = None) -> Cluster:
    """The cluster that ``path`` and the accounts' files beside it (:mod:`cluster.people`)
    describe. ConfigError says what is wrong with it, and where.

    ``trial``: accounts' files that a command is about to write, as their new texts.
    """
    sources = _Sources(path, trial or {})
    try:
        # By way of JSON, since only there strict means: lists are tuples, but "4" is no number.
        text = json.dumps(sources.data, default=_date)
        cluster = Cluster.model_validate_json(text, strict=True)
    except ValidationError as error:
        problems = [(tuple(item["loc"]), _sentence(item)) for item in error.errors()]
        raise ConfigError(_report(sources, problems)) from None
    found = [(problem.place, problem.text) for problem in check(cluster)]
    if found:
        raise ConfigError(_report(sources, found))
    return cluster


def _parse(path: Path, text: str | None = None) -> tuple[dict[str, Any], Lines]:
    text = _read(path) if text is None else text
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(path, text, str(error))) from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or tables are nested too deeply") from None
    return data, Lines(text)


def _tables(value: Any) -> list[dict[str, Any]]:
    """The tables of a list; what else is in it, the model tells."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _lock(path: Path, name: str) -> str:
    """The text of a kernel's lock file."""
    place = path.parent / name
    if ".." in place.parts or not place.is_file():
        raise ConfigError(
            f"{path}: kernels: there is no lock file {place}: correct lock, or write the file "
            "(practicum kernel show NAME --lock)"
        )
    return _read(place)


class _Sources:
    """The tables of cluster.toml with those of the accounts' files at their ends, and which
    line of which file each comes from."""

    def __init__(self, path: Path, trial: Mapping[Path, str]) -> None:
        self.data, lines = _parse(path)
        self._main = (path, lines)
        # (key, from this index on) -> file
        self._more: list[tuple[str, int, Path, Lines]] = []
        # one file may be named from here and from its root
        new = {other.resolve(): text for other, text in trial.items()}
        there = {other.resolve(): other for other in [*trial, *people.files(path)]}
        for place, other in sorted(there.items()):
            self._join(other, new.get(place))
        for entry in _tables(self.data.get("kernels")):
            if isinstance(entry.get("lock"), str) and entry["lock"]:
                entry["lock_text"] = _lock(path, entry["lock"])

    def _join(self, path: Path, text: str | None) -> None:
        data, lines = _parse(path, text)
        if wrong := people.strange(path, data):
            raise ConfigError(wrong)
        for key, rows in data.items():
            own = self.data.setdefault(key, [])
            if isinstance(own, list):  # if not, the model's own error says so
                self._more.append((key, len(own), path, lines))
                own += rows

    def find(self, place: Place) -> tuple[Path, int, Place]:
        """File, line, and the place within that file."""
        for key, first, path, lines in reversed(self._more):
            index = place[1] if place[:1] == (key,) and len(place) > 1 else -1
            if isinstance(index, int) and index >= first:
                inside = (key, index - first, *place[2:])
                return path, lines.find(inside), inside
        path, lines = self._main
        return path, lines.find(place), place


def public_json(cluster: Cluster) -> str:
    """The copy for everyone on the login node: no ``ssh`` table, no mail addresses; secrets are
    elsewhere anyway."""
    hidden: dict[str, Any] = {
        "ssh": True,
        "users": {"__all__": {"email", "ssh_keys"}},
        "kernels": {"__all__": {"lock_text"}},
    }
    return cluster.model_dump_json(exclude=hidden, indent=1) + "\n"


def load_public(path: Path) -> Cluster:
    """Read what public_json wrote. ConfigError when it is missing or not of this version."""
    try:
        return Cluster.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{path}: {dotted(first['loc'])}: {first['msg']}; "
            "it was written by another version: run practicum apply again"
        ) from None


def dotted(place: Sequence[str | int]) -> str:
    """``("nodes", 1, "address")`` → ``nodes[1].address``; the first of a list is [0]."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is larger than {LARGEST} bytes: is it the right file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path}: practicum init writes one, --file names another"
        ) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text: save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _syntax(path: Path, text: str, message: str) -> str:
    """tomllib says "... (at line 3, column 4)" or "(at end of document)"."""
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    said = message[: match.start()] if match else message
    line = int(match[1]) if match and match[1] else len(text.splitlines()) or 1
    rows = text.splitlines()
    shown = rows[line - 1].strip()[:80] if line <= len(rows) else ""
    return f"{path}:{line}: not TOML: {said[0].lower()}{said[1:]}; the line is: {shown}"


def _date(value: object) -> list[str]:
    """TOML's dates are nothing we want anywhere: a list fails with "text in quotes"."""
    return [str(value)]


def _report(sources: _Sources, problems: Sequence[tuple[Place, str]]) -> str:
    found = [(*sources.find(place), text) for place, text in problems]
    ordered = sorted({(path, line, dotted(place), text) for path, line, place, text in found})
    told = [f"{path}:{line}: {key}: {text}" for path, line, key, text in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        told.append(f"... and {len(ordered) - SHOWN} more")
    return "\n".join(told)


def _sentence(item: ErrorDetails) -> str:
    """What would be right, for one pydantic error."""
    kind, context, given = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "extra_forbidden":
        return _unknown(item["loc"])
    if kind in ("enum", "literal_error"):
        return _choice(item["loc"], given)
    if kind == "value_error":
        return str(context["error"])
    shown = "" if isinstance(given, dict | list) else f", not {_toml(given)}"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return f"must be {_PATTERNS.get(pattern, f'text that matches {pattern}')}{shown}"
    if kind in _WORDS:
        return f"must be {_WORDS[kind]}{shown}"
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context, shown=shown)
    return item["msg"]


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def _model_at(place: Iterable[str | int]) -> type[BaseModel]:
    """The table that a place is in."""
    here: type[BaseModel] = Cluster
    for part in place:
        field = here.model_fields.get(part) if isinstance(part, str) else None
        inner = _model_in(field.annotation) if field else None
        here = inner or here
    return here


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _unknown(place: tuple[str | int, ...]) -> str:
    valid = list(_model_at(place[:-1]).model_fields)
    return f"no such key{_nearest(str(place[-1]), valid)}; valid here: {', '.join(valid)}"


def _choice(place: tuple[str | int, ...], given: Any) -> str:
    name = next(part for part in reversed(place) if isinstance(part, str))
    valid = _values(_model_at(place[:-1]).model_fields[name].annotation)
    return f"no such value{_nearest(str(given), valid)}; valid here: {', '.join(valid)}"


def _values(annotation: Any) -> list[str]:
    """The words that an enum or a Literal, maybe inside a tuple, allows."""
    if isinstance(annotation, str):
        return [annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return [word for inner in get_args(annotation) for word in _values(inner)]


def _nearest(word: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.lower(), valid, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""
