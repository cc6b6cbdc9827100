"""docs/commands.md, from the commands themselves: `make commands` writes it, a test compares."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import typer

from practicum.cli import app

HEAD = """# Commands

Written by `make commands` from the help texts; do not edit.

Exit codes: 0 done, 1 failed, 2 called or configured wrongly, 3 changes are pending (`plan`),
130 interrupted. Errors are sentences on standard error.
"""


def manual() -> str:
    """The whole page."""
    return HEAD + "".join(_command(typer.main.get_command(app), "practicum"))


def _command(command: Any, path: str) -> Iterator[str]:
    """A section for each command; groups only bring their commands."""
    inner = getattr(command, "commands", None)
    if inner is not None:
        for name, sub in inner.items():
            yield from _command(sub, f"{path} {name}")
        return
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    words = " ".join(_usage(item) for item in arguments)
    yield f"\n## {path}\n\n"
    yield f"    {' '.join(filter(None, [path, '[OPTIONS]' if options else '', words]))}\n\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    if command.params:
        yield "\n| | |\n|---|---|\n"
    for item in arguments:
        yield f"| `{item.metavar}` | {item.help} |\n"
    for item in options:
        yield f"| `{_names(item)}` | {item.help}{_default(item)} |\n"


def _usage(argument: Any) -> str:
    name = f"[{argument.metavar}]" if not argument.required else str(argument.metavar)
    return f"{name}..." if argument.nargs == -1 else name


def _names(option: Any) -> str:
    names = ", ".join(option.opts)
    if option.is_flag:
        return names
    return f"{names} {option.metavar}"


def _default(option: Any) -> str:
    if option.is_flag or option.default in (None, [], ()):
        return ""
    return f" Default: `{option.default}`."


if __name__ == "__main__":
    sys.stdout.write(manual())
