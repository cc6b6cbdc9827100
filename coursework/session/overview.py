"""How a class stands, read from a course's exchange folder by its grader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import records
from .records import Dates


def dates(exchange: Path) -> Dates:
    """Due dates and extensions. ValueError when the file is damaged."""
    try:
        return records.read_dates((exchange / "dates.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Dates()


def released(exchange: Path) -> list[str]:
    """Names of assignments that are handed out."""
    return sorted(
        path.name
        for path in (exchange / "outbound").iterdir()
        if path.is_dir() and records.ASSIGNMENT.fullmatch(path.name)
    )


def first_released(exchange: Path) -> dict[str, str]:
    """{assignment: when it was first handed out}"""
    try:
        return dict(json.loads((exchange / "released.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def submissions(exchange: Path, student: str, assignment: str) -> list[str]:
    """Moments of one student's submissions, the oldest first."""
    try:
        found = [path.name for path in (exchange / "inbound" / student / assignment).iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in found if records.STAMP_PATTERN.fullmatch(name))


def fetched(exchange: Path) -> dict[str, dict[str, str]]:
    """{assignment: {student: when first}}"""
    try:
        return dict(json.loads((exchange / "fetched.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def roster(path: Path) -> dict[str, dict[str, str]]:
    """{student: first_name, last_name, email}, "" for what is not known. ValueError when the file
    is damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def overview(exchange: Path, students: Sequence[str]) -> dict[str, Any]:
    """{assignment: {"due": stamp, "students": {student: standing}}} of all released. A standing:
    fetched, submitted (stamps, "" if not), number, due, late_seconds, feedback."""
    known, seen = dates(exchange), fetched(exchange)
    return {
        name: {
            "due": known.due.get(name, ""),
            "students": {
                student: _standing(exchange, student, name, known, seen.get(name, {}))
                for student in students
            },
        }
        for name in released(exchange)
    }


def _standing(
    exchange: Path, student: str, name: str, known: Dates, seen: dict[str, str]
) -> dict[str, Any]:
    sent = submissions(exchange, student, name)
    due = known.of(name, student)
    back = exchange / "feedback" / student / name
    return {
        "fetched": seen.get(student, ""),
        "submitted": sent[-1] if sent else "",
        "number": len(sent),
        "due": due,
        "late_seconds": records.late_seconds(sent[-1], due) if sent else 0,
        "feedback": bool(sent) and (back / sent[-1]).is_dir(),
    }
