#!/usr/bin/env python3
"""The one writer of a gradebook while a course is graded. Needs nbgrader 0.9.6.

    grade_book.py COURSE_FOLDER STATE_FOLDER [NBGRADER_CONFIG]

Reads requests on stdin, one JSON object a line, answers each with one on stdout:

{"do": "sanitize", "assignment": A, "student": S}
    nbgrader's own first half of autograding, into STATE_FOLDER/sanitized/S/A.
    -> {"notebooks": {NAME: {INDEX: {"grade_id", "points", "code", "grade", "solution"}}},
        "broken": [sentence], "score", "max_score", "manual"}
    with the code as the gradebook has it, never as the student handed it in. What is broken was
    not handed in or is no notebook, is not among "notebooks", and has no points.
{"do": "merge", "assignment": A, "student": S, "outputs": {NAME: {INDEX: [output, ...]}}}
    the second half without executing anything: these outputs into the sanitized notebook, points,
    penalties, and autograded/S/A, safe for a browser.  -> {"score", "max_score", "manual"}
{"do": "void", "assignment": A, "student": S}
    takes back what an earlier grading gave: no score, no autograded/S/A, no feedback/S/A that
    could be released for a later submission; to be graded. Points given by hand stay for the same
    submission; of an earlier one they become a remark.  -> {}
{"do": "students", "assignment": A}
    -> {"students": [those with a submission], "notebooks": [NAME, ...]}

What fails is answered with {"error": sentence}.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps.baseapp import NbGrader
from nbgrader.converters.autograde import Autograde
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    IgnorePattern,
    LimitOutput,
    SaveAutoGrades,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from traitlets import List
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

# what this folder has is root's, and may hide nothing of Python's
sys.path.append(str(Path(__file__).resolve().parent))
from grade_cells import Insert, Restore, Safe  # type: ignore[import-not-found]

ATTEMPTS, PAUSE = 4, 3.0  # for a gradebook that formgrader is writing to; SQLite itself waits 5 s


class Sanitize(Autograde):
    """nbgrader's autograding up to where it would execute. One notebook that cannot be read keeps
    no other from being graded."""

    target = ""
    broken: dict[str, str] = {}  # noqa: RUF012  set for each use: why, by the notebook's name
    sanitize_preprocessors = List([Restore, *Autograde.sanitize_preprocessors.default_args[0]])

    @property
    def _output_directory(self) -> str:
        return self.target

    def convert_single_notebook(self, notebook_filename: str) -> None:
        self._sanitizing = True
        self._init_preprocessors()
        try:
            BaseConverter.convert_single_notebook(self, notebook_filename)
        except (OSError, MemoryError, SQLAlchemyError, NbGraderException):
            raise
        except Exception as error:  # noqa: BLE001  whatever a student's file makes of nbconvert
            name = Path(notebook_filename).stem
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.broken[name] = f"{name}.ipynb is no notebook that can be read: {first}"[:300]


class Merge(Autograde):
    """nbgrader's autograding from where it would have executed."""

    source = ""
    insert: Insert | None = None

    @property
    def _input_directory(self) -> str:
        return self.source

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        BaseConverter.init_assignment(self, assignment_id, student_id)

    def convert_single_notebook(self, notebook_filename: str) -> None:
        self.exporter._preprocessors = []
        for one in (
            self.insert, IgnorePattern, ClearMetadataPreprocessor, LimitOutput, SaveAutoGrades,
            AssignLatePenalties, Safe, CheckCellMetadata,
        ):  # fmt: skip
            self.exporter.register_preprocessor(one)
        BaseConverter.convert_single_notebook(self, notebook_filename)


class Book:
    """Requests for one course."""

    def __init__(self, course: Path, state: Path, config: Config) -> None:
        self.sanitized = str(state / "sanitized")
        self.config = config
        self.config.CourseDirectory.root = str(course)
        self.problems = Problems()
        log = logging.getLogger("grading")
        log.addHandler(self.problems)
        log.propagate = False
        self.app = NbGrader(config=self.config, log=log)
        self.dirs = CourseDirectory(parent=self.app)

    def gradebook(self) -> Gradebook:
        return Gradebook(self.dirs.db_url, self.dirs.course_id)

    def use(self, request: dict[str, Any]) -> tuple[str, str]:
        self.dirs.assignment_id = request["assignment"]
        self.dirs.student_id = request.get("student", "*")
        self.problems.lines.clear()
        return self.dirs.assignment_id, self.dirs.student_id

    def students(self, request: dict[str, Any]) -> dict[str, Any]:
        assignment, _ = self.use(request)
        found = Path(self.dirs.format_path(self.dirs.submitted_directory, "x", assignment))
        top = found.parent.parent
        with self.gradebook() as book:
            names = [one.name for one in book.find_assignment(assignment).notebooks]
        students = sorted(one.parent.name for one in top.glob(f"*/{assignment}"))
        return {"students": students, "notebooks": names}

    def sanitize(self, request: dict[str, Any]) -> dict[str, Any]:
        assignment, student = self.use(request)
        with self.gradebook() as book:
            names = [one.name for one in book.find_assignment(assignment).notebooks]
        broken = self._missing(names, assignment, student)
        if len(broken) < len(names):
            work = Sanitize(coursedir=self.dirs, parent=self.app)
            work.target, work.broken, work.force = self.sanitized, broken, True
            work.start()
        folder = Path(self.sanitized) / student / assignment
        found = {}
        with self.gradebook() as book:
            self._no_points(book, assignment, student, broken)
            for one in book.find_assignment(assignment).notebooks:
                path = folder / f"{one.name}.ipynb"
                if one.name not in broken and path.is_file():
                    found[one.name] = self._tests(book, one, path, assignment)
            told = _score(book, assignment, student)
        return {"notebooks": found, "broken": list(broken.values()), **told}

    def _missing(self, names: list[str], assignment: str, student: str) -> dict[str, str]:
        """Notebooks of the assignment that were not handed in."""
        folder = Path(self.dirs.format_path(self.dirs.submitted_directory, student, assignment))
        return {
            name: f"{name}.ipynb was not handed in"
            for name in names
            if not (folder / f"{name}.ipynb").is_file()
        }

    def _no_points(
        self, book: Gradebook, assignment: str, student: str, broken: dict[str, str]
    ) -> None:
        """As nbgrader has it for a notebook that is missing."""
        if not broken:
            return
        book.update_or_create_student(student)
        submission = book.update_or_create_submission(
            assignment, student, timestamp=self._handed_in(assignment, student)
        )
        for notebook in submission.notebooks:
            for grade in notebook.grades if notebook.name in broken else ():
                grade.auto_score = 0
                grade.needs_manual_grade = False
        book.db.commit()

    def _handed_in(self, assignment: str, student: str) -> Any:
        """When; None if there is no timestamp."""
        folder = self.dirs.format_path(self.dirs.submitted_directory, student, assignment)
        return self.dirs.get_existing_timestamp(folder)

    @staticmethod
    def _tests(book: Gradebook, one: Any, path: Path, assignment: str) -> dict[str, Any]:
        cells = {}
        for index, cell in enumerate(nbformat.read(path, as_version=4).cells):
            about = cell.metadata.get("nbgrader", {})
            name = about.get("grade_id")
            if cell.cell_type != "code" or not name:
                continue
            try:
                source = book.find_source_cell(name, one.name, assignment)
                points = (
                    book.find_grade_cell(name, one.name, assignment).max_score
                    if about.get("grade")
                    else 0
                )
            except MissingEntry:
                continue
            locked = bool(source.locked)
            cells[str(index)] = {
                "grade_id": name,
                "points": points,
                "code": source.source if locked else "",
                "grade": bool(about.get("grade")) and locked,
                "solution": bool(about.get("solution")),
            }
        return cells

    def merge(self, request: dict[str, Any]) -> dict[str, Any]:
        assignment, student = self.use(request)
        work = Merge(coursedir=self.dirs, parent=self.app)
        work.source = self.sanitized
        work.insert = Insert()
        work.insert.outputs = request["outputs"]
        work.force = True
        work.start()
        with self.gradebook() as book:
            return _score(book, assignment, student)

    def void(self, request: dict[str, Any]) -> dict[str, Any]:
        assignment, student = self.use(request)
        for step in (self.dirs.autograded_directory, self.dirs.feedback_directory):
            folder = Path(self.dirs.format_path(step, student, assignment))
            if folder.exists():
                utils.rmtree(str(folder))
        shutil.rmtree(Path(self.sanitized) / student / assignment, ignore_errors=True)
        with self.gradebook() as book:
            try:
                submission = book.find_submission(assignment, student)
            except MissingEntry:
                return {}
            earlier = submission.timestamp != self._handed_in(assignment, student)
            for notebook in submission.notebooks:
                if earlier:
                    _no_points_by_hand(notebook)
                for grade in notebook.grades:
                    grade.auto_score = None
                    grade.needs_manual_grade = True
            book.db.commit()
        return {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        work = {
            "students": self.students,
            "sanitize": self.sanitize,
            "merge": self.merge,
            "void": self.void,
        }[request["do"]]
        try:
            return patient(lambda: work(request))
        except OperationalError as error:
            return {"error": f"the gradebook cannot be used: {error.orig}: try again later"}
        except Exception as error:  # noqa: BLE001  one student's must not end the others' grading
            told = self.problems.lines[-1] if self.problems.lines else ""
            return {"error": (told or f"{type(error).__name__}: {error}")[:500]}
        except SystemExit as error:  # nbgrader's way out of some faults
            return {"error": (self.problems.lines or [f"nbgrader ended: {error}"])[-1][:500]}


def patient(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it; again, if the database was locked by another program. Each request may be repeated."""
    for left in reversed(range(ATTEMPTS)):
        try:
            return work()
        except OperationalError as error:
            if not left or "locked" not in str(error):
                raise
            time.sleep(PAUSE)
    raise AssertionError("not reached")


def _score(book: Gradebook, assignment: str, student: str) -> dict[str, Any]:
    try:
        found = book.find_submission(assignment, student)
    except MissingEntry:
        return {"score": 0.0, "max_score": 0.0, "manual": False}
    return {
        "score": found.score,
        "max_score": found.max_score,
        "manual": bool(found.needs_manual_grade),
    }


def _no_points_by_hand(notebook: Any) -> None:
    """What an instructor gave to an earlier submission is kept as a remark, and is no grade."""
    comments = {one.name: one for one in notebook.comments}
    for grade in notebook.grades:
        if grade.manual_score is None and not grade.extra_credit:
            continue
        points = (grade.manual_score or 0) + (grade.extra_credit or 0)
        grade.manual_score, grade.extra_credit = None, None
        if comment := comments.get(grade.name):
            before = f"An earlier submission had {points:g} points by hand."
            comment.manual_comment = f"{before} {comment.manual_comment or ''}".strip()


class Problems(logging.Handler):
    """The last line of each error that nbgrader logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        if text and "error processing assignment" not in text.lower():
            self.lines.append(text.splitlines()[-1])


def main(argv: list[str]) -> int:
    course, state = Path(argv[1]), Path(argv[2])
    # a gradebook is made by running "alembic", which lies beside this Python
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    config = Config()
    for path in (*map(Path, argv[3:]), course / "nbgrader_config.py"):
        if path.is_file():
            config.merge(PyFileConfigLoader(path.name, str(path.parent)).load_config())
    answers = sys.stdout
    sys.stdout = sys.stderr
    book = Book(course, state, config)
    for line in sys.stdin:
        print(json.dumps(book.answer(json.loads(line))), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
