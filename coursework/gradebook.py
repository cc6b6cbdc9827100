"""The gradebook, by the one process that writes it while a course is graded (grade_book.py)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from cluster.errors import PracticumError
from coursework.grade_state import Places


class Book:
    """The gradebook's writer, a process in nbgrader's environment."""

    def __init__(self, places: Places) -> None:
        self._process = subprocess.Popen(
            [places.python, "-I", places.book, places.root, places.state, places.config],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, do: str, assignment: str, **more: Any) -> dict[str, Any]:
        """PracticumError with the writer's sentence."""
        assert self._process.stdin and self._process.stdout  # noqa: S101
        try:
            self._process.stdin.write(json.dumps({"do": do, "assignment": assignment, **more}))
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PracticumError("the gradebook's writer ended: is nbgrader's environment whole?")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise PracticumError(f"the gradebook's writer said {line[:100]!r}") from None
        if "error" in answer:
            raise PracticumError(answer["error"])
        return answer

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
