"""The commands of docs/admin.md, as a reader would type them.

In a block that begins with three backquotes and "console", a line with "$ " is a command. It must
exit 0, or as its comment says ("# exit 3: why"). Lines below it are parts of its output; "..."
stands for anything. A line that asks ("Type its name to agree: NAME", "Apply this? [y/N]: y") is
answered on a terminal by what stands behind it.

A word after "console" says where the block is run, and after a colon why not with the others: see
:data:`PLACES`.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "admin.md"
LAB = "lab"
PLACES = {
    LAB: "tests/lab/test_admin_page_lab.py, where the admin works",
    "login": "the same, on the login node",
    "slow": "tests/lab/test_admin_page_slow.py, on a lab of its own, outside make test",
    "vm": "tests/vm/test_admin_page_vm.py: it formats a disk or switches all off",
}
FENCE = re.compile(r"^```(\S*) ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"^(.*?)\s+# exit (\d+)\b.*$")
ASKED = re.compile(r"^(.*(?: to agree|\[y/N\])): (\S+)$")


@dataclass
class Typed:
    """One command: its line on the page, what is typed, how it ends, what it says and asks."""

    line: int
    text: str
    code: int = 0
    output: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def wrong(self, code: int, said: str) -> str:
        """What is not as the page says; "" when all is."""
        where = f"docs/admin.md:{self.line}: {self.text}"
        if code != self.code:
            return f"{where}: exit {code} instead of {self.code}\n{said[-3000:]}"
        for wanted in self.output:
            pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
            if not re.search(pattern, said):
                return f"{where}: does not say {wanted!r}\n{said[-3000:]}"
        return ""


def blocks(text: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, language, rest of the first line, content) of every fenced block."""
    for match in FENCE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2], match[3]


def places(text: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, place, why there, content) of every block of commands."""
    for line, language, note, content in blocks(text):
        if language == "console":
            place, _, reason = note.partition(": ")
            yield line, place or LAB, reason, content


def commands(text: str, *wanted: str) -> list[Typed]:
    """Those of the blocks of these places, in the page's order."""
    found: list[Typed] = []
    for start, place, _, content in places(text):
        if place not in (wanted or (LAB,)):
            continue
        for offset, line in enumerate(content.splitlines(), 1):
            asked = ASKED.match(line)
            if line.startswith("$ "):
                ended = EXIT.match(line[2:])
                typed, code = (ended[1], int(ended[2])) if ended else (line[2:], 0)
                found.append(Typed(start + offset, typed, code))
            elif asked and found:
                found[-1].output.append(asked[1].strip())
                found[-1].answers.append(asked[2])
            elif found and line.strip():
                found[-1].output.append(line.strip())
    return found


def run(
    command: Typed,
    folder: Path,
    env: Mapping[str, str],
    *,
    timeout: float = 900,
    through: Sequence[str] = ("bash", "-euo", "pipefail", "-c"),
) -> None:
    """Type it in that folder, by a shell or ``through`` another program; AssertionError says what
    is not as the page has it."""
    argv = [*through, command.text]
    if command.answers:
        code, said = _on_a_terminal(argv, command.answers, folder, env, timeout)
    else:
        done = subprocess.run(
            argv, cwd=folder, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        code, said = done.returncode, done.stdout + done.stderr
    assert not (wrong := command.wrong(code, said)), wrong


def _on_a_terminal(
    argv: Sequence[str],
    answers: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    timeout: float,
) -> tuple[int, str]:
    """(exit code, what it said); the answers are typed ahead."""
    mine, theirs = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the end of a terminal
            while some := os.read(mine, 65536):
                written.append(some)

    reader = threading.Thread(target=read)
    try:
        os.write(mine, "".join(f"{answer}\n" for answer in answers).encode())
        reader.start()
        done = subprocess.run(
            argv, cwd=folder, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
            text=True, timeout=timeout, check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
        reader.join(10)
        os.close(mine)
    return done.returncode, done.stdout + b"".join(written).decode(errors="replace")


def surroundings(home: Path) -> dict[str, str]:
    """The environment of somebody who has installed practicum, with an empty home."""
    (home / ".ssh").mkdir(parents=True)  # ssh-copy-id keeps drafts there
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(home)}
