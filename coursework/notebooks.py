"""The assignments that come with practicum: readable sources, and the notebooks made of them.

``assignments/NAME/notebook.md`` holds one assignment; what is in ``assignments/NAME/files`` and
``assignments/common`` is handed out beside the notebook; ``marking.md`` is for instructors. A
source is a head of ``key: value`` lines, a line ``---``, and cells, each after a line

    %% KIND ID [points=N]

KIND is ``text`` (Markdown), ``code``, ``number`` (the student's own number; no text follows),
``solution`` (a code cell in which students work: what they write stands between
``### BEGIN SOLUTION`` and ``### END SOLUTION``), ``test`` (:mod:`coursework.clustertests`: its
text becomes the hidden part), ``written`` (an answer in words, marked by hand; its text is the
model answer) or ``shared`` (no cell: put in front of every test's text). ``@COURSE@`` stands for
the course's name, which is its Slurm account too, and ``@ASSIGNMENT@`` for the assignment's.

:func:`parse` and :func:`build` are pure. Cells keep their ids, so two versions can be compared,
and the same source gives the same bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.courses import COURSE_NAME
from cluster.errors import PracticumError

HERE = Path(__file__).parent / "assignments"
COMMON = HERE / "common"
SOURCE = "notebook.md"
MARKING = "marking.md"
# The first line of a test cell, which students see (coursework.clustertests)
MARK = "# practicum: cluster test"
_CELL = re.compile(r"%% ([a-z]+) ([a-z0-9][a-z0-9-]{0,62})(?: points=([1-9][0-9]?))?")
_KINDS = ("text", "code", "number", "solution", "test", "written", "shared")
_GRADED = ("test", "written")
_HEAD = ("title", "goal", "minutes", "needs", "graded")
# as in coursework.clustertests.seed
NUMBER = """\
import getpass, hmac, pathlib

digest = hmac.digest(b"@ASSIGNMENT@", getpass.getuser().encode(), "sha256")
number = int.from_bytes(digest[:4], "big") % 90000 + 10000
pathlib.Path("number.txt").write_text(str(number))
print("Your number:", number)
"""


@dataclass(frozen=True)
class Cell:
    """One cell of a source, or with kind ``shared`` what all tests begin with."""

    kind: str
    name: str
    text: str
    points: int = 0


@dataclass(frozen=True)
class Source:
    """An assignment as it is written."""

    head: Mapping[str, str]
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        return self.head["title"]

    @property
    def points(self) -> int:
        """All that can be earned, by tests and by hand."""
        return sum(cell.points for cell in self.cells)

    @property
    def tests(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.kind == "test")

    @property
    def shared(self) -> str:
        return "".join(cell.text for cell in self.cells if cell.kind == "shared")


def parse(text: str) -> Source:
    """A source's text. ValueError says in which line what is wrong."""
    lines = text.split("\n")
    if "---" not in lines:
        raise ValueError("a head of `key: value` lines must end with the line ---")
    end = lines.index("---")
    head = _head(lines[:end])
    cells: list[Cell] = []
    body: list[str] = []
    for number, line in enumerate(lines[end + 1 :], start=end + 2):
        if not line.startswith("%% "):
            body.append(line)
            continue
        _close(cells, body, number)
        cells.append(_opened(line, number))
    _close(cells, body, len(lines) + 1)
    names = [cell.name for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two cells have the id {twice[0]!r}: ids tell cells apart")
    return Source(head, tuple(_checked(cell) for cell in cells))


def _head(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    last = ""
    for number, line in enumerate(lines, start=1):
        key, colon, value = line.partition(":")
        if line.startswith(" ") and last:
            found[last] += " " + line.strip()
        elif colon and key in _HEAD:
            last = key
            found[key] = value.strip()
        elif line.strip():
            raise ValueError(f"line {number} is none of {', '.join(_HEAD)}: {line[:40]!r}")
    missing = [key for key in _HEAD if not found.get(key)]
    if missing:
        raise ValueError(f"the head does not say: {', '.join(missing)}")
    return found


def _opened(line: str, number: int) -> Cell:
    match = _CELL.fullmatch(line)
    if not match or match[1] not in _KINDS:
        raise ValueError(f"line {number} is no `%% KIND ID`: {line[:60]!r}")
    kind, name, points = match[1], match[2], int(match[3] or 0)
    if bool(points) != (kind in _GRADED):
        raise ValueError(f"line {number}: points are for {' and '.join(_GRADED)} cells, and needed")
    return Cell(kind, name, "", points)


def _close(cells: list[Cell], body: list[str], number: int) -> None:
    """Gives the cell that was opened last its lines."""
    text = "\n".join(body).strip("\n")
    body.clear()
    if cells:
        last = cells[-1]
        cells[-1] = Cell(last.kind, last.name, text + "\n" if text else "", last.points)
    elif text:
        raise ValueError(f"text before the first cell, above line {number}")


def _checked(cell: Cell) -> Cell:
    regions = cell.text.count("### BEGIN SOLUTION"), cell.text.count("### END SOLUTION")
    if cell.kind == "solution" and (regions[0] != regions[1] or not regions[0]):
        raise ValueError(f"{cell.name} has no part between ### BEGIN SOLUTION and ### END SOLUTION")
    if cell.kind != "solution" and any(regions):
        raise ValueError(f"{cell.name} holds a solution, and is no solution cell")
    if bool(cell.text) == (cell.kind == "number"):
        raise ValueError(f"{cell.name} is empty" if not cell.text else f"{cell.name} has no text")
    return cell


def build(source: Source, assignment: str, course: str) -> str:
    """The notebook for instructors, as JSON (nbformat 4.5, nbgrader's metadata version 3)."""
    cells = [_page(source)]
    cells += [_cell(cell, source.shared) for cell in source.cells if cell.kind != "shared"]
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False)
    return text.replace("@COURSE@", course).replace("@ASSIGNMENT@", assignment) + "\n"


def page(source: Source) -> str:
    """What an assignment is: goal, time, what is graded. Markdown; the notebook's first cell."""
    return (
        f"# {source.title}\n\n**Goal.** {source.head['goal']}\n\n"
        f"**Time.** About {source.head['minutes']} minutes, waiting for jobs included.\n\n"
        f"**You need** {source.head['needs']}\n\n"
        f"**What is graded** ({source.points} points). {source.head['graded']}\n"
    )


def _page(source: Source) -> dict[str, Any]:
    return _markdown("page", page(source))


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": _lines(text)}


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").splitlines(keepends=True)


def _cell(cell: Cell, shared: str) -> dict[str, Any]:
    if cell.kind == "text":
        return _markdown(cell.name, cell.text)
    if cell.kind == "written":
        return _markdown(cell.name, cell.text) | {"metadata": _nbgrader(cell)}
    text = {"number": NUMBER, "test": hidden(cell, shared)}.get(cell.kind, cell.text)
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell.name,
        "metadata": _nbgrader(cell),
        "outputs": [],
        "source": _lines(text),
    }


def hidden(cell: Cell, shared: str) -> str:
    """A test's cell: students see its first line alone."""
    return f"{MARK}\n### BEGIN HIDDEN TESTS\n{shared}{cell.text}### END HIDDEN TESTS\n"


def _nbgrader(cell: Cell) -> dict[str, Any]:
    if cell.kind in ("code", "number"):
        return {}
    found: dict[str, Any] = {
        "grade": cell.kind in _GRADED,
        "grade_id": cell.name,
        "locked": cell.kind == "test",
        "schema_version": 3,
        "solution": cell.kind != "test",
        "task": False,
    }
    if cell.points:
        found["points"] = cell.points
    return {"nbgrader": found}


def names() -> tuple[str, ...]:
    """Of the assignments that come with practicum, in the order in which they are taught."""
    return tuple(sorted(path.parent.name for path in HERE.glob(f"*/{SOURCE}")))


def load(name: str) -> Source:
    """PracticumError when there is no such assignment, or its source is wrong."""
    path = HERE / name / SOURCE
    if name not in names():
        raise PracticumError(f"there is no assignment {name!r}; there are {', '.join(names())}")
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PracticumError(f"{path}: {error}") from None


def handed_out(name: str) -> dict[str, bytes]:
    """The files beside the notebook, by name."""
    folders = (COMMON, HERE / name / "files")
    files = (path for folder in folders for path in sorted(folder.glob("*")) if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def write(name: str, folder: Path, course: str) -> bool:
    """Put an assignment into ``folder``/NAME, nbgrader's source folder; False if it is there.

    What is there is the instructor's own and stays. A folder half written by a run that was
    interrupted is no such folder: it gets its name last. PracticumError when ``course`` is no
    course's name (it enters job scripts); OSError when the folder cannot be written to.
    """
    if not re.fullmatch(COURSE_NAME, course):
        raise PracticumError(
            f"{course!r} is no course's name: small letters, digits, - and _, at most 19"
        )
    place = folder / name
    if place.exists():
        return False
    text = build(load(name), name, course)
    part = folder / f".{name}.part"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    (part / f"{name}.ipynb").write_text(text, encoding="utf-8")
    for file, content in handed_out(name).items():
        (part / file).write_bytes(content)
    part.rename(place)
    return True
