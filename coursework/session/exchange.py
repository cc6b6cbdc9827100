"""nbgrader's exchange for whoever grades: the classes that ExchangeFactory makes for formgrader
and for ``nbgrader`` commands of grader-NAME. Needs nbgrader, and no more of practicum.

They work on the course's own exchange folder (see coursework.layout), which nobody but the grader
can reach; students reach it by the spooler alone. What a student sent is data here: regular files
that the spooler made.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

from nbgrader.api import Assignment, Gradebook, MissingEntry, Student, SubmittedAssignment
from nbgrader.exchange import abc
from traitlets import List, Unicode

from . import overview, records
from .records import Dates

PRIVATE = 0o700


class CourseExchange(abc.Exchange):  # type: ignore[misc]
    """Places of the course, from its folder."""

    students = List(Unicode(), help="Whose submissions are collected").tag(config=True)
    roster = Unicode(help="File with their names and addresses").tag(config=True)

    @property
    def root(self) -> str:
        """nbgrader shows it."""
        return str(Path(self.coursedir.root) / "exchange")

    @property
    def outbound(self) -> Path:
        return Path(self.root) / "outbound"

    @property
    def came_in(self) -> Path:
        return Path(self.root) / "inbound"

    @property
    def assignment(self) -> str:
        name = str(self.coursedir.assignment_id)
        if not records.ASSIGNMENT.fullmatch(name):
            self.fail(f"{name[:60]!r} cannot be an assignment's name: A-Z a-z 0-9 _ . - and blanks")
        return name

    def step(self, directory: str, student: str) -> Path:
        """A folder of nbgrader's own, as ``submitted/ada/ps1``."""
        return Path(self.coursedir.format_path(directory, student, self.assignment))

    def gradebook(self) -> Any:
        return Gradebook(self.coursedir.db_url, self.coursedir.course_id)

    def dates(self) -> Dates:
        try:
            return records.read_dates((Path(self.root) / "dates.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Dates()

    def share(self) -> None:
        """Due dates as the gradebook has them, to where the spooler reads them; extensions and the
        course's students, to the gradebook."""
        known = self.dates()
        with self.gradebook() as book:
            self._share_students(book)
            due = {
                one.name: records.stamp(one.duedate.replace(tzinfo=timezone.utc))  # noqa: UP017
                for one in book.assignments
                if one.duedate is not None
            }
            fresh = Dates(due, known.extensions)
            self._share_extensions(book, fresh)
        if fresh != known:
            write(Path(self.root) / "dates.json", fresh.text())

    def _share_students(self, book: Any) -> None:
        """With their names, where the roster has them; what it lacks stays as it is."""
        roster = overview.roster(Path(self.roster)) if self.roster else {}
        rows = book.db.query(Student.id, Student.first_name, Student.last_name, Student.email)
        there = {row.id: row._asdict() for row in rows}
        for student in self.students:
            about = {key: value for key, value in roster.get(student, {}).items() if value}
            if student not in there or about.items() - there[student].items():
                book.update_or_create_student(student, **about)

    def _share_extensions(self, book: Any, dates: Dates) -> None:
        """nbgrader counts lateness by the common date and so much more; who has no date of their
        own any more has nothing more."""
        what = (Assignment.name, SubmittedAssignment.student_id, SubmittedAssignment.extension)
        of_it = SubmittedAssignment.assignment_id == Assignment.id
        for name, student, there in book.db.query(*what).join(SubmittedAssignment, of_it).all():
            due, own = dates.due.get(name), dates.extensions.get(name, {}).get(student)
            more = (records.moment(own) - records.moment(due) if due and own else None) or None
            if more != there:
                minutes = more.total_seconds() / 60 if more else 0
                book.grant_extension(name, student, minutes=minutes)

    def note_released(self) -> None:
        """When first: from then on jobs count, and a new version takes nothing back."""
        path = Path(self.root) / "released.json"
        known = overview.first_released(Path(self.root))
        if self.assignment not in known:
            known[self.assignment] = records.stamp(records.now())
            write(path, json.dumps(known, sort_keys=True, indent=1) + "\n")

    def init_src(self) -> None:
        """Nothing: each class does its work in copy_files."""

    def init_dest(self) -> None:
        """Nothing."""


class ReleaseAssignment(CourseExchange, abc.ExchangeReleaseAssignment):  # type: ignore[misc]
    """``release`` to where the spooler hands it out, whole."""

    def copy_files(self) -> None:
        source = self.step(self.coursedir.release_directory, ".")
        if not source.is_dir():
            self.fail(
                f"there is no {source}: make the students' version first (nbgrader "
                "generate_assignment, or Generate in formgrader)"
            )
        target = self.outbound / self.assignment
        if target.exists() and not self.force:
            self.fail(f"{self.assignment} is released already: --force hands out the new version")
        fresh = self.outbound / f".new-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        copy_regular(source, fresh)
        replace(fresh, target)
        self.note_released()
        self.share()
        self.log.info("Released as: %s %s", self.coursedir.course_id, self.assignment)


class ListAssignments(CourseExchange, abc.ExchangeList):  # type: ignore[misc]
    """What is released, or with ``inbound`` what came in."""

    def copy_files(self) -> None:
        """Nothing is copied; due dates that were changed in formgrader get to the spooler, and
        extensions to the gradebook."""
        if self.coursedir.course_id:
            self.share()

    def list_files(self) -> list[dict[str, Any]]:
        wanted = self.coursedir.assignment_id or "*"
        found = list(self._submitted() if self.inbound or self.cached else self._released())
        return [one for one in found if wanted in ("*", one["assignment_id"])]

    def remove_files(self) -> list[dict[str, Any]]:
        """Hand out no longer. What came in stays, always."""
        gone = self.list_files()
        for one in gone:
            shutil.rmtree(self.outbound / one["assignment_id"])
        return [{**one, "status": "removed"} for one in gone]

    def _released(self) -> Iterator[dict[str, Any]]:
        for folder in folders(self.outbound):
            yield {
                "course_id": self.coursedir.course_id,
                "assignment_id": folder.name,
                "status": "released",
                "path": str(folder),
                "notebooks": _notebooks(folder),
            }

    def _submitted(self) -> Iterator[dict[str, Any]]:
        for student in folders(self.came_in):
            for assignment in folders(student):
                rows = [
                    {
                        "course_id": self.coursedir.course_id,
                        "student_id": student.name,
                        "assignment_id": assignment.name,
                        "timestamp": records.timestamp(one.name),
                        "status": "submitted",
                        "path": str(one / "files"),
                        "notebooks": _notebooks(one / "files"),
                    }
                    for one in submissions(assignment)
                ]
                if rows:
                    first = {key: rows[0][key] for key in ("course_id", "student_id", "status")}
                    yield {**first, "assignment_id": assignment.name, "submissions": rows}


class Collect(CourseExchange, abc.ExchangeCollect):  # type: ignore[misc]
    """The last submission of each student, or the last before their own deadline, into
    ``submitted``. One that cannot be collected is told, and the others are."""

    def copy_files(self) -> None:
        self.share()
        dates = self.dates()
        books = {path.stem for path in (self.outbound / self.assignment).glob("*.ipynb")}
        wanted = self.coursedir.student_id or "*"
        failed = []
        for student in self.students:
            if wanted not in ("*", student):
                continue
            chosen = self._choose(student, dates)
            if chosen is None:
                continue
            try:
                self._collect(student, chosen, books)
            except (OSError, ValueError) as error:
                failed.append(student)
                self.log.error(  # noqa: TRY400 - a sentence, no traceback
                    "%s's submission could not be collected: %s", student, error
                )
        self._extend(dates)
        if failed:
            self.fail(f"not collected: {', '.join(failed)}; all the others were")

    def _choose(self, student: str, dates: Dates) -> Path | None:
        found = submissions(self.came_in / student / self.assignment)
        due = dates.of(self.assignment, student)
        in_time = [one for one in found if not records.late_seconds(one.name, due)]
        if self.before_duedate and in_time:
            return in_time[-1]
        return found[-1] if found else None

    def _collect(self, student: str, chosen: Path, books: set[str]) -> None:
        target = self.step(self.coursedir.submitted_directory, student)
        stamp = target / "timestamp.txt"
        there = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
        wanted = records.timestamp(chosen.name)
        if target.is_dir() and (there == wanted or not (self.update or self.before_duedate)):
            return
        target.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        fresh = target.parent / f".new-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        # a page of the student's in the place of feedback would be given back as ours
        pages = {f"{book}.html" for book in books}
        copy_regular(chosen / "files", fresh, leave=pages | {"timestamp.txt", "receipt.json"})
        shutil.copyfile(chosen / "receipt.json", fresh / "receipt.json")
        (fresh / "timestamp.txt").write_text(wanted, encoding="utf-8")
        replace(fresh, target)
        self.log.info("Collected: %s %s, handed in %s", student, self.assignment, wanted)

    def _extend(self, dates: Dates) -> None:
        """A place in the gradebook for each extension of what was collected: lateness counts from
        the first grading on."""
        with self.gradebook() as book:
            for student in dates.extensions.get(self.assignment, {}):
                if not self.step(self.coursedir.submitted_directory, student).is_dir():
                    continue
                try:
                    book.update_or_create_submission(self.assignment, student)
                except MissingEntry as error:
                    self.log.warning("no extension for %s yet: %s", student, error)
            self._share_extensions(book, dates)


class ReleaseFeedback(CourseExchange, abc.ExchangeReleaseFeedback):  # type: ignore[misc]
    """``feedback`` to where the spooler gives each student their own, whole."""

    def copy_files(self) -> None:
        books = {path.stem for path in (self.outbound / self.assignment).glob("*.ipynb")}
        wanted = self.coursedir.student_id or "*"
        left_out = set(filter(None, self.coursedir.student_id_exclude.split(",")))
        base = Path(self.root) / "feedback"
        for student in self.students:
            source = self.step(self.coursedir.feedback_directory, student)
            if wanted not in ("*", student) or student in left_out or not source.is_dir():
                continue
            pages = [path for path in sorted(source.glob("*.html")) if path.stem in books]
            if not pages:
                continue
            submitted = self._moment(student)
            target = base / student / self.assignment / submitted
            target.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            fresh = target.parent / f".new-{os.getpid()}"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=PRIVATE)
            for page in pages:
                shutil.copyfile(page, fresh / page.name)
            replace(fresh, target)
            self.log.info("Feedback released for %s, handed in %s", student, submitted)

    def _moment(self, student: str) -> str:
        """Which submission the feedback is for: what was collected says so."""
        receipt = self.step(self.coursedir.autograded_directory, student) / "receipt.json"
        if not receipt.is_file():
            receipt = self.step(self.coursedir.submitted_directory, student) / "receipt.json"
        return records.read_receipt(receipt.read_text(encoding="utf-8")).submitted


class FetchAssignment(CourseExchange, abc.ExchangeFetchAssignment):  # type: ignore[misc]
    """Students' own matter."""

    def copy_files(self) -> None:
        self.fail("students fetch by the assignment list, or by the command assignment")


class FetchFeedback(CourseExchange, abc.ExchangeFetchFeedback):  # type: ignore[misc]
    def copy_files(self) -> None:
        self.fail("students fetch feedback by the assignment list, or by the command assignment")


class Submit(CourseExchange, abc.ExchangeSubmit):  # type: ignore[misc]
    def copy_files(self) -> None:
        self.fail("students submit by the assignment list, or by the command assignment")


def folders(path: Path) -> list[Path]:
    """Folders in it that are not hidden."""
    if not path.is_dir():
        return []
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))


def submissions(path: Path) -> list[Path]:
    """The oldest first."""
    return [one for one in folders(path) if records.STAMP_PATTERN.fullmatch(one.name)]


def copy_regular(source: Path, target: Path, leave: set[str] | None = None) -> None:
    """Regular files alone, contents alone. ``leave``: names in the first folder."""
    target.mkdir(mode=PRIVATE, parents=True)
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if inside.as_posix() in (leave or ()) or ".ipynb_checkpoints" in inside.parts:
            continue
        if path.is_symlink() or not path.is_file():
            continue
        place = target / inside
        place.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def replace(fresh: Path, target: Path) -> None:
    """``fresh`` in the place of ``target``, which may be there."""
    old = target.parent / f".old-{os.getpid()}"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _notebooks(folder: Path) -> list[dict[str, str]]:
    return [
        {"notebook_id": path.stem, "path": str(path)} for path in sorted(folder.glob("*.ipynb"))
    ]
