"""The assignment list of JupyterLab in a student's session: nbgrader's page, our answers.

nbgrader's page asks ``/courses``, ``/assignments`` and ``/nbgrader_version``; the answers have its
form (nbgrader/server_extensions/assignment_list and validate_assignment, 0.9.6), but come from the
courses' spoolers, and nothing of nbgrader is imported: that alone would cost a small computer a
second at each start. A question to a course waits in a thread, so the session goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from . import records, validation
from .client import Client, own_places
from .wire import WireError, digest

VERSION = "0.9.6"  # of nbgrader's page; another one would ask other questions


class Courses:
    """What this person's courses say. ``root``: JupyterLab's folder, which paths are told from."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home, self._root = home, root

    def names(self) -> list[str]:
        return sorted(place.name for place in own_places())

    def client(self, name: str) -> Client:
        """WireError when the person is in no such course."""
        for place in own_places():
            if place.name == name:
                return Client(place, self._home)
        raise WireError(f"you are not in a course {name[:40]}")

    def assignments(self, name: str) -> list[dict[str, Any]]:
        """As nbgrader's page wants them: released or fetched ones, then those handed in."""
        client = self.client(name)
        listed = client.list()
        given = [self._given(client, one) for one in listed["assignments"]]
        taken: dict[str, list[dict[str, Any]]] = {}
        for one in listed["submissions"]:
            taken.setdefault(one["assignment"], []).append(self._taken(client, one))
        handed_in = [
            {
                "course_id": name,
                "student_id": self._home.name,
                "assignment_id": assignment,
                "status": "submitted",
                "submissions": sent,
            }
            for assignment, sent in sorted(taken.items())
        ]
        return [*given, *handed_in]

    def fetch(self, name: str, assignment: str) -> None:
        client = self.client(name)
        client.fetch(assignment, missing=client.folder(assignment).exists())

    def submit(self, name: str, assignment: str) -> None:
        self.client(name).submit(assignment)

    def fetch_feedback(self, name: str, assignment: str) -> None:
        client = self.client(name)
        for one in client.list()["submissions"]:
            if one["assignment"] == assignment and one["feedback"]:
                client.feedback(assignment, one["submitted"])

    def validate(self, path: str) -> dict[str, Any]:
        """Of a notebook, by its path as the list tells it."""
        book = (self._root / path).resolve()
        if not any(book.is_relative_to(place.resolve()) for place in (self._root, self._home)):
            raise WireError(f"{path[:100]} is not in your folder")
        return validation.validate(book)

    def _given(self, client: Client, one: dict[str, Any]) -> dict[str, Any]:
        folder = client.folder(one["name"])
        here = folder.is_dir()
        books = sorted(folder.glob("*.ipynb")) if here else []
        notebooks = [{"notebook_id": book.stem, "path": self._told(book)} for book in books]
        if not here:
            notebooks = [{"notebook_id": book, "path": book} for book in one["notebooks"]]
        return {
            "course_id": client.place.name,
            "assignment_id": one["name"],
            "status": "fetched" if here else "released",
            "path": self._told(folder),
            "notebooks": notebooks,
            "due": one["due"],
        }

    def _taken(self, client: Client, one: dict[str, Any]) -> dict[str, Any]:
        when = records.timestamp(one["submitted"])
        folder = client.folder(one["assignment"]) / "feedback" / when
        back = {str(page): sha for page, sha in one["feedback"].items()}
        books = []
        for book in one["notebooks"]:
            page = folder / f"{book}.html"
            here, there = page.is_file(), page.name in back
            books.append({
                "notebook_id": book,
                "has_local_feedback": here,
                "has_exchange_feedback": there,
                "local_feedback_path": self._told(page) if here else None,
                "feedback_updated": here and there and digest(page) != back[page.name],
            })  # fmt: skip
        local = bool(books) and all(book["has_local_feedback"] for book in books)
        return {
            "course_id": client.place.name,
            "student_id": self._home.name,
            "assignment_id": one["assignment"],
            "timestamp": when,
            "status": "submitted",
            "path": self._told(client.folder(one["assignment"])),
            "notebooks": books,
            "has_local_feedback": local,
            "has_exchange_feedback": bool(books) and any(b["has_exchange_feedback"] for b in books),
            "feedback_updated": any(book["feedback_updated"] for book in books),
            "local_feedback_path": self._told(folder) if local else None,
            "late_seconds": one["late_seconds"],
        }

    def _told(self, path: Path) -> str:
        """Relative to JupyterLab's folder when it is in there."""
        return str(path.relative_to(self._root) if path.is_relative_to(self._root) else path)


class Handler(JupyterHandler):  # type: ignore[misc]
    """Answers in JSON; ``{"success": false, "value": sentence}`` when a course refuses."""

    @property
    def courses(self) -> Courses:
        found: Courses = self.settings["practicum_courses"]
        return found

    async def answer(self, work: Callable[[], Any]) -> None:
        try:
            # not cancelled with the request: what a course has taken must be written down here
            value = await asyncio.shield(asyncio.to_thread(work))
        except (WireError, OSError) as error:
            self.log.warning("assignments: %s", error)
            self.finish(json.dumps({"success": False, "value": str(error)}))
        else:
            self.finish(json.dumps({"success": True, "value": value}))


class CoursesHandler(Handler):
    @web.authenticated
    async def get(self) -> None:
        await self.answer(self.courses.names)


class AssignmentsHandler(Handler):
    @web.authenticated
    async def get(self) -> None:
        name = self.get_argument("course_id")
        await self.answer(lambda: self.courses.assignments(name))


class ActionHandler(Handler):
    """``fetch``, ``submit`` or ``fetch_feedback``, then the list again."""

    @web.authenticated
    async def post(self, action: str) -> None:
        data = self.get_json_body() or {}
        try:
            name, assignment = str(data["course_id"]), str(data["assignment_id"])
        except (KeyError, TypeError):
            name = self.get_argument("course_id")
            assignment = self.get_argument("assignment_id")

        def work() -> Any:
            getattr(self.courses, action)(name, assignment)
            return self.courses.assignments(name)

        await self.answer(work)


class ValidateHandler(Handler):
    """The list asks with a body, the button above a notebook with an argument."""

    @web.authenticated
    async def post(self) -> None:
        data = self.get_json_body()
        told = data.get("path") if isinstance(data, dict) else None
        path = str(told) if told else self.get_argument("path")
        await self.answer(lambda: self.courses.validate(path))


class VersionHandler(Handler):
    @web.authenticated
    def get(self) -> None:
        asked = self.get_argument("version")
        same = asked == VERSION
        text = f"This page is of nbgrader {asked}, and the course speaks with {VERSION}."
        self.finish(json.dumps({"success": True} if same else {"success": False, "message": text}))


def load_jupyter_server_extension(server: Any) -> None:
    """Called by Jupyter's server."""
    app = server.web_app
    app.settings["practicum_courses"] = Courses(Path.home(), Path(server.root_dir))
    base = app.settings["base_url"].rstrip("/")
    handlers = [
        ("/assignments", AssignmentsHandler),
        (r"/assignments/(fetch|submit|fetch_feedback)", ActionHandler),
        ("/assignments/validate", ValidateHandler),
        ("/courses", CoursesHandler),
        ("/nbgrader_version", VersionHandler),
    ]
    app.add_handlers(".*$", [(base + path, handler) for path, handler in handlers])


_load_jupyter_server_extension = load_jupyter_server_extension


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]
