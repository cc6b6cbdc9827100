"""The commands of docs/admin.md, as a reader would type them.

In a block that begins with three backquotes and "console", a line with "$ " is a command. It must
exit 0, or as its comment says ("# exit 3: why"). Lines below it are parts of its output; "..."
stands for anything. A block marked "console example: why" is not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "admin.md"
FENCE = re.compile(r"^```(\S*) ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"^(.*?)\s+# exit (\d+)\b.*$")


@dataclass
class Typed:
    """One command: its line on the page, what is typed, how it ends, what it says."""

    line: int
    text: str
    code: int = 0
    output: list[str] = field(default_factory=list)

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


def commands(text: str) -> list[Typed]:
    found: list[Typed] = []
    for start, language, note, content in blocks(text):
        if language != "console" or note.startswith("example"):
            continue
        for offset, line in enumerate(content.splitlines(), 1):
            if line.startswith("$ "):
                ended = EXIT.match(line[2:])
                typed, code = (ended[1], int(ended[2])) if ended else (line[2:], 0)
                found.append(Typed(start + offset, typed, code))
            elif found and line.strip():
                found[-1].output.append(line.strip())
    return found


def examples(text: str) -> list[tuple[int, str]]:
    """(line, reason) of blocks that are not run."""
    return [
        (line, note.removeprefix("example").lstrip(": "))
        for line, language, note, _ in blocks(text)
        if language == "console" and note.startswith("example")
    ]
