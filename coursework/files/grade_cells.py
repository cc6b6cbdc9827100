"""Cells of what was handed in, as nbgrader and browsers may have them: nbconvert preprocessors for
grade_book.py, which lies beside this file. Needs nbgrader 0.9.6.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

import nbformat
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor

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


class Restore(NbGraderPreprocessor):
    """What a cell is to nbgrader, as the gradebook has it and never as it was handed in.

    nbgrader believes a notebook that a cell is no answer (so a cell to be graded by hand gets all
    its points for not failing) or that it is locked (so what is in it is taken for the
    instructor's, and goes to browsers as it is).
    """

    def preprocess(self, nb: Any, resources: Any) -> Any:
        about = resources["nbgrader"]
        with Gradebook(about["db_url"]) as book:
            known = kinds(book.find_notebook(about["notebook"], about["assignment"]))
        # A cell that was copied has its id twice: as in nbgrader the last one counts, the others
        # are cells of the student's
        for cell in reversed(nb.cells):
            given = cell.metadata.pop("nbgrader", None)
            name = given.get("grade_id") if isinstance(given, dict) else None
            if isinstance(name, str) and name in known:
                cell.metadata["nbgrader"] = nbformat.from_dict(known.pop(name))
        return nb, resources


def kinds(notebook: Any) -> dict[str, dict[str, Any]]:
    """nbgrader's metadata (version 3) of each cell of a notebook of the gradebook, by grade_id."""
    graded = {one.name: one.max_score for one in notebook.grade_cells}
    tasks = {one.name: one.max_score for one in notebook.task_cells}
    solutions = {one.name for one in notebook.solution_cells}
    found = {}
    for source in notebook.source_cells:
        name = source.name
        about = {
            "schema_version": 3,
            "grade_id": name,
            "grade": name in graded,
            "solution": name in solutions,
            "task": name in tasks,
            "locked": bool(source.locked),
            "cell_type": source.cell_type,
            "checksum": source.checksum,
        }
        if name in graded or name in tasks:
            about["points"] = graded.get(name, tasks.get(name))
        found[name] = about
    return found


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
