"""Lua text of modulefiles. Every value is quoted for Lua, so nothing in cluster.toml is code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"
# What is looked for below a prefix, and which variable it belongs to.
FOLDERS = (
    ("PATH", "bin"),
    ("LD_LIBRARY_PATH", "lib"), ("LD_LIBRARY_PATH", "lib64"),
    ("LIBRARY_PATH", "lib"), ("LIBRARY_PATH", "lib64"),
    ("CPATH", "include"),
    ("MANPATH", "share/man"),
    ("PKG_CONFIG_PATH", "lib/pkgconfig"), ("PKG_CONFIG_PATH", "lib64/pkgconfig"),
)  # fmt: skip
SYSTEM_PREFIXES = ("/", "/usr", "/usr/local")  # on every path already


@dataclass(frozen=True)
class Text:
    """What a modulefile says; see :class:`cluster.software.Module` for the words.

    ``branch`` is the folder of modulefiles that it opens. ``only_bin``: of its folders nothing but
    the programs. ``by_arch``: the prefix has a folder for each kind of processor.
    ``prefix_variable`` is set to what the prefix is then.
    """

    name: str
    version: str
    description: str = ""
    keywords: str = ""
    help: str = ""
    family: str = ""
    conflict: tuple[str, ...] = ()
    prereq: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    prefix: str = ""
    only_bin: bool = False
    by_arch: bool = False
    prefix_variable: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    branch: str = ""

    def lua(self) -> str:
        """The modulefile."""
        prefix = "" if self.prefix in SYSTEM_PREFIXES and not self.paths else self.prefix
        folders = () if self.prefix in SYSTEM_PREFIXES else FOLDERS
        values = {
            **{key: getattr(self, key) for key in self.__dataclass_fields__},
            "prefix": prefix,
            "folders": folders[:1] if self.only_bin else folders,
            "help": self.help.strip() or f"{self.description or self.name}\n",
            "env": tuple(self.env.items()),
            "paths": tuple(self.paths.items()),
        }
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            undefined=StrictUndefined,
            finalize=lambda value: lua_string(str(value)),
            autoescape=False,  # noqa: S701 - Lua, not HTML; finalize quotes
            keep_trailing_newline=True,
            trim_blocks=True,
        )
        return environment.get_template("module.lua.j2").render(values)


def lua_string(text: str) -> str:
    """A Lua string literal for any text: nothing in it can end it early."""
    found = []
    for char in text:
        if char in '"\\':
            found.append(f"\\{char}")
        elif char < " " or char == "\x7f":
            found.append(f"\\{ord(char):03d}")
        else:
            found.append(char)
    return '"' + "".join(found) + '"'
