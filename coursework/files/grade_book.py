#!/usr/bin/env python3
"""The one writer of a gradebook while a course is graded. Needs nbgrader 0.9.6.

    grade_book.py COURSE_FOLDER STATE_FOLDER [NBGRADER_CONFIG]

Reads requests on stdin, one JSON object a line, answers each with one on stdout:

{"do": "sanitize", "assignment": A, "student": S}
    nbgrader's own first half of autograding, into STATE_FOLDER/sanitized/S/A.
    -> {"notebooks": {NAME: {INDEX: {"grade_id", "points", "code", "grade", "solution"}}}}
    with the code as the gradebook has it, never as the student handed it in.
{"do": "merge", "assignment": A, "student": S, "outputs": {NAME: {INDEX: [output, ...]}}}
    the second half without executing anything: these outputs into the sanitized notebook, points,
    penalties, and autograded/S/A, safe for a browser.  -> {"score", "max_score", "manual"}
{"do": "void", "assignment": A, "student": S}
    takes back what an earlier grading gave: no score, no autograded/S/A, no feedback/S/A that
    could be released for a later submission; to be graded.  -> {}
{"do": "students", "assignment": A}
    -> {"students": [those with a submission], "notebooks": [NAME, ...]}

What fails is answered with {"error": sentence}.
"""

from __future__ import annotations

import html
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbconvert.preprocessors.sanitize import SanitizeHTML
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
    NbGraderPreprocessor,
    SaveAutoGrades,
)
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

KINDS = {"stream", "display_data", "execute_result", "error"}
# Formgrader renders markdown with harmful protocols allowed (nbconvert's mistune renderer)
LINKS = re.compile(r"(javascript|vbscript|data):", re.IGNORECASE)
BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
TAGS = [
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl",
    "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p",
    "pre", "s", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr", "tt", "u", "ul",
]  # fmt: skip
ATTRIBUTES = {
    "*": ["class", "title"],
    "a": ["href"],
    "img": ["alt", "width", "height"],
    "td": ["colspan", "rowspan"],
    "th": ["colspan", "rowspan"],
}


class Sanitize(Autograde):
    """nbgrader's autograding up to where it would execute."""

    target = ""

    @property
    def _output_directory(self) -> str:
        return self.target

    def convert_single_notebook(self, notebook_filename: str) -> None:
        self._sanitizing = True
        self._init_preprocessors()
        BaseConverter.convert_single_notebook(self, notebook_filename)


class Insert(NbGraderPreprocessor):
    """Outputs from outside into the cells of a sanitized notebook, checked one by one."""

    outputs: dict[str, Any] = {}  # noqa: RUF012

    def preprocess(self, nb: Any, resources: Any) -> Any:
        given = self.outputs.get(resources["nbgrader"]["notebook"], {})
        for index, cell in enumerate(nb.cells):
            if cell.cell_type != "code":
                continue
            cell.execution_count = None
            cell.outputs = [
                one for one in map(checked, given.get(str(index), [])) if one is not None
            ]
        return nb, resources


class Safe(NbGraderPreprocessor):
    """Nothing in the notebook makes a browser run what a student wrote.

    Templates put image data, sizes, tags and titles into attributes as they are, so all metadata
    of a student's goes, and images are base64 or nothing.
    """

    def preprocess(self, nb: Any, resources: Any) -> Any:
        cleaner = SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES)
        spec = nb.metadata.get("kernelspec", {})
        language = {"language_info": {"name": str(spec.get("language", "python"))}}
        nb.metadata = nbformat.from_dict({"kernelspec": spec, **language})
        for index, cell in enumerate(nb.cells):
            trusted = utils.is_locked(cell)
            about = cell.metadata.get("nbgrader")
            cell.metadata = nbformat.from_dict({"nbgrader": about} if about else {})
            cell.pop("attachments", None)
            for output in cell.get("outputs", ()):
                harmless(output)
            if cell.cell_type == "markdown" and not trusted and linked(cell.source):
                fence = "`" * (3 + max(map(len, re.findall("`+", cell.source)), default=0))
                cell.source = f"{fence}\n{cell.source}\n{fence}"
            elif cell.cell_type == "code" or not trusted:
                cleaner.preprocess_cell(cell, resources, index)
        return nb, resources


def harmless(output: Any) -> None:
    """Take out of an output what a template or MathJax would make into something else."""
    if "metadata" in output:
        output.metadata = {}
    data = output.get("data", {})
    for kind in list(data):
        value = data[kind] if isinstance(data[kind], str) else json.dumps(data[kind])
        image = kind in ("image/png", "image/jpeg") and not BASE64.fullmatch(value)
        link = kind in ("text/latex", "text/markdown") and linked(value)
        if image or link:
            del data[kind]


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


def linked(text: str) -> bool:
    """Whether markdown holds a link that runs something, however it is spelt."""
    for _ in range(3):
        text = html.unescape(text)
    plain = "".join(c for c in text.replace("\\", "") if c.isprintable() and not c.isspace())
    return LINKS.search(plain) is not None


def checked(output: Any) -> Any:
    """An output as nbformat has it, None for anything else."""
    if not isinstance(output, dict) or output.get("output_type") not in KINDS:
        return None
    node = nbformat.from_dict(output)
    try:
        nbformat.v4.nbbase.validate(node, ref="output")
    except nbformat.ValidationError:
        return None
    for key in node.get("data", {}):
        if not isinstance(key, str):
            return None
    return node


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
        work = Sanitize(coursedir=self.dirs, parent=self.app)
        work.target = self.sanitized
        work.force = True
        work.start()
        folder = Path(self.sanitized) / student / assignment
        found = {}
        with self.gradebook() as book:
            for one in book.find_assignment(assignment).notebooks:
                path = folder / f"{one.name}.ipynb"
                if path.is_file():
                    found[one.name] = self._tests(book, one, path, assignment)
        return {"notebooks": found}

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
            found = book.find_submission(assignment, student)
            return {
                "score": found.score,
                "max_score": found.max_score,
                "manual": bool(found.needs_manual_grade),
            }

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
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    grade.auto_score = None
                    grade.needs_manual_grade = True
            book.db.commit()
        return {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            work = {
                "students": self.students,
                "sanitize": self.sanitize,
                "merge": self.merge,
                "void": self.void,
            }[request["do"]]
            return work(request)
        except (NbGraderException, MissingEntry, OSError, ValueError, SystemExit) as error:
            told = self.problems.lines[-1] if self.problems.lines else ""
            return {"error": (told or f"{type(error).__name__}: {error}")[:500]}


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
