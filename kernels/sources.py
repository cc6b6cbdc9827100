"""What a kernel should hold, read from the files that people have: requirements.txt,
pyproject.toml, environment.yml. Pure functions of their texts; UsageError names file and line."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.errors import UsageError
from cluster.values import CHANNEL, REQUIREMENT


@dataclass(frozen=True)
class Wanted:
    """Packages for ``language``."""

    packages: tuple[str, ...]
    language: str = "python"
    channels: tuple[str, ...] = ()


def package(word: str, where: str) -> str:
    """One requirement, without its blanks. UsageError says what is not taken."""
    text = word.strip()
    if ";" in text:
        raise UsageError(
            f"{where}: {text}: conditions after ; are not taken: name what the cluster needs"
        )
    if "@" in text or "://" in text or text.startswith((".", "/")):
        raise UsageError(
            f"{where}: {text}: only packages of the registry are taken, no addresses or folders"
        )
    plain = re.sub(r"\s*([<>=!~,\[\]])\s*", r"\1", text)
    if not re.fullmatch(REQUIREMENT.strip("^$"), plain) or len(plain) > 200:
        raise UsageError(f"{where}: {text!r} is not a package like numpy or numpy>=1.26")
    return plain


def project(requirement: str) -> str:
    """The package's name in the one spelling that counts (PEP 503)."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def merged(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """``old`` with those of ``new`` in the places of the same packages, and further ones added."""
    fresh = {project(one): one for one in new}
    kept = [fresh.pop(project(one), one) for one in old]
    return (*kept, *fresh.values())


def requirements(text: str, name: str) -> Wanted:
    """requirements.txt: one package a line; options are not taken."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not bare:
            continue
        where = f"{name}:{number}"
        if bare.startswith("-") or "--hash" in bare or bare.endswith("\\"):
            raise UsageError(
                f"{where}: options are not taken ({bare.split()[0]}); a file with hashes is a "
                "lock: --from-lock"
            )
        found.append(package(bare, where))
    if not found:
        raise UsageError(f"{name} names no packages")
    return Wanted(tuple(found))


def pyproject(text: str, name: str) -> Wanted:
    """The dependencies of pyproject.toml's [project]."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not TOML: {error}") from None
    words = data.get("project", {}).get("dependencies")
    if not isinstance(words, list) or not words:
        raise UsageError(f"{name} has no dependencies in [project]")
    return Wanted(tuple(package(str(word), f"{name}: dependencies") for word in words))


def environment(text: str, name: str) -> Wanted:
    """conda's environment.yml: channels and dependencies; no pip section."""
    try:
        data: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(data, dict) or not isinstance(data.get("dependencies"), list):
        raise UsageError(f"{name} has no list of dependencies: is it conda's environment.yml?")
    packages = []
    for item in data["dependencies"]:
        if isinstance(item, dict):
            raise UsageError(
                f"{name} has a pip section, which no lock of conda's covers: name conda's packages "
                "of the same names, or make a kernel of pip's packages (--requirements)"
            )
        # "numpy 1.26.*" is conda's older spelling of numpy=1.26.*
        joined = re.sub(r"\s+(?=[0-9*])", "=", str(item).strip())
        packages.append(package(joined, f"{name}: dependencies"))
    channels = [str(one) for one in data.get("channels") or []]
    for one in channels:
        if not re.fullmatch(CHANNEL.strip("^$"), one):
            raise UsageError(f"{name}: channels: {one!r} is no channel like conda-forge")
    kept = tuple(one for one in channels if one not in ("nodefaults", "defaults"))
    return Wanted(tuple(packages), "conda", kept)


def lock(text: str, name: str) -> str:
    """A lock file of uv's, pip's or ours: every package pinned, with hashes. The language."""
    if not text.strip():
        raise UsageError(f"{name} is empty")
    bare = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if all(re.fullmatch(r"[a-z0-9._-]+ ==\S+ [^\s\[]+(\[sha256=\"[0-9a-f]{64}\"\])?", line)
           for line in bare):  # fmt: skip
        return "conda"
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip().removesuffix("\\").strip()
        if not word or word.startswith("#") or word.startswith("--hash="):
            continue
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\[\],-]*==[A-Za-z0-9.!+_-]+( ;.*)?", word):
            raise UsageError(
                f"{name}:{number}: {word[:80]!r} is no pinned package: a lock has name==version "
                "and hashes (practicum kernel show NAME --lock)"
            )
    if "--hash=" not in text:
        raise UsageError(f"{name} has no hashes: it is no lock; use --requirements")
    return "python"
