"""One submission with what the cluster saw of it, in one file: tests are tried on it anywhere.

A recording is JSON: ``student``, ``assignment``, ``accounting`` (:mod:`coursework.snapshot`) and
``files``, those that were handed in, as text. What is no text, or larger than ``LARGEST`` bytes, is
left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import files as disk
from cluster.errors import PracticumError
from coursework import snapshot
from coursework.clustercells import is_cluster_test, source, verdict_of
from coursework.clustertests import Verdict, Work

LARGEST = 300_000


@dataclass(frozen=True)
class Graded:
    """A test, what it gives, and why."""

    cell: str
    points: float
    earned: float
    verdict: Verdict


def dump(work: Work) -> str:
    value = {
        "student": work.student,
        "assignment": work.assignment,
        "accounting": json.loads(snapshot.dump(work.accounting)),
        "files": {name: content.decode() for name, content in sorted(work.files.items())},
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def parse(text: str, where: str) -> Work:
    """PracticumError names the file when it is no recording."""
    try:
        value = json.loads(text)
        files = {str(name): str(content).encode() for name, content in value["files"].items()}
        student, assignment = str(value["student"]), str(value["assignment"])
        accounting = json.dumps(value["accounting"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PracticumError(
            f"{where} is no recording: make one with `practicum assignment record`"
        ) from None
    return Work(student, assignment, snapshot.parse(accounting, where), files)


def load(path: Path) -> Work:
    return parse(disk.read(path), str(path))


def texts(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those that a recording keeps."""
    return {name: content for name, content in files.items() if _is_text(content)}


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return len(content) <= LARGEST


def grade(notebook: Mapping[str, Any], work: Work) -> tuple[Graded, ...]:
    """Every cluster test of an instructor's notebook, on a recording.

    BrokenTestError when a test fails by itself.
    """
    found = []
    for cell in notebook.get("cells", ()):
        if not is_cluster_test(cell):
            continue
        about = cell["metadata"]["nbgrader"]
        name, points = str(about["grade_id"]), float(about["points"])
        verdict = verdict_of(source(cell), work, where=f"the test {name}")
        found.append(Graded(name, points, round(points * verdict.share, 2), verdict))
    return tuple(found)


def read_notebook(path: Path) -> Mapping[str, Any]:
    """:func:`notebook` of a file."""
    return notebook(disk.read(path), str(path))


def notebook(text: str, path: str) -> Mapping[str, Any]:
    """A notebook's JSON. PracticumError when it is none, or holds no cluster test."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    cells = value.get("cells") if isinstance(value, dict) else None
    if not isinstance(cells, list):
        raise PracticumError(f"{path} is no notebook: name the .ipynb of the source folder")
    if not any(is_cluster_test(cell) for cell in cells if isinstance(cell, dict)):
        raise PracticumError(
            f"{path} has no cluster test: a test's first line is `# practicum: cluster test`"
        )
    return dict(value)
