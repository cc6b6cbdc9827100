"""``assignment``: hand-out and hand-in from a terminal, as the assignment list does it.

    assignment list [COURSE]
    assignment fetch COURSE ASSIGNMENT [--missing]
    assignment submit COURSE ASSIGNMENT
    assignment feedback COURSE ASSIGNMENT
    assignment check RECEIPT

Exit codes: 0 done, 1 refused or failed, 2 called wrongly.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import records
from .client import Client, Place, changed_since, own_places
from .wire import WireError


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="assignment", description="Assignments of your courses.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="what is handed out, and what you handed in")
    listing.add_argument("course", nargs="?", default="")
    listing.add_argument("--json", action="store_true", help="for scripts")
    for verb, words in (
        ("fetch", "get an assignment into ~/COURSE/ASSIGNMENT"),
        ("submit", "hand in ~/COURSE/ASSIGNMENT as it is now"),
        ("feedback", "get what came back"),
    ):
        one = verbs.add_parser(verb, help=words)
        one.add_argument("course")
        one.add_argument("assignment")
        if verb == "fetch":
            one.add_argument("--missing", action="store_true", help="only files that you lack")
        if verb == "submit":
            # nbgrader has it, and by it anybody handed in for anybody
            one.add_argument("--student", default="", help=argparse.SUPPRESS)
    check = verbs.add_parser("check", help="whether the course stands by a receipt")
    check.add_argument("receipt", type=Path)
    return top


def client(name: str) -> Client:
    """WireError when the person is in no such course."""
    mine = own_places()
    for place in mine:
        if place.name == name:
            return Client(place, Path.home())
    there = ", ".join(place.name for place in mine) or "none"
    raise WireError(f"you are not in a course {name[:40]}; your courses: {there}")


def shown(place: Place, listed: dict[str, Any]) -> list[str]:
    """The list as lines."""
    ended = "  (archived)" if listed.get("archived") else ""
    lines = [f"{place.name}  {place.title}".rstrip() + ended]
    for one in listed["assignments"]:
        due = f"  due {_when(one['due'])}" if one["due"] else ""
        lines.append(f"  {one['name']}{due}")
        for sent in listed["submissions"]:
            if sent["assignment"] == one["name"]:
                late = f", {_length(sent['late_seconds'])} late" if sent["late_seconds"] else ""
                back = "; feedback is there" if sent["feedback"] else ""
                lines.append(f"    handed in {_when(sent['submitted'])}{late}{back}")
    if not listed["assignments"]:
        lines.append("  nothing is handed out yet")
    return lines


def _when(stamp: str) -> str:
    return records.moment(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _length(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def work(options: argparse.Namespace) -> list[str]:
    """Do it; what to tell. WireError."""
    if options.verb == "list":
        places = [client(options.course).place] if options.course else own_places()
        found = [(place, Client(place, Path.home()).list()) for place in places]
        if options.json:
            return [json.dumps({place.name: listed for place, listed in found})]
        lines = [line for place, listed in found for line in shown(place, listed)]
        return lines or ["you are in no course"]
    if options.verb == "check":
        return _check(options.receipt)
    here = client(options.course)
    if options.verb == "fetch":
        return [f"fetched: {here.fetch(options.assignment, missing=options.missing)}"]
    if options.verb == "feedback":
        return _feedback(here, options.assignment)
    if options.student and options.student != Path.home().name:
        raise WireError("a submission is always your own: leave out --student")
    done = here.submit(options.assignment)
    receipt = done.receipt
    late = f", {_length(receipt.late_seconds)} late" if receipt.late_seconds else ""
    return [
        *done.left_out,
        f"handed in: {receipt.assignment}, {len(receipt.digests)} files, "
        f"{_when(receipt.submitted)} by the course's clock{late}; receipt: "
        f"{here.folder(options.assignment) / 'receipts' / receipt.submitted}.json",
    ]


def _feedback(here: Client, assignment: str) -> list[str]:
    sent = [one for one in here.list()["submissions"] if one["assignment"] == assignment]
    ready = [one for one in sent if one["feedback"]]
    if not ready:
        raise WireError(f"there is no feedback for {assignment} yet")
    return [f"feedback: {here.feedback(assignment, one['submitted'])}" for one in ready]


def _check(path: Path) -> list[str]:
    try:
        receipt = records.read_receipt(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WireError(f"{path} is no receipt: {error}") from None
    here = client(receipt.course)
    if not here.check(receipt):
        raise WireError(f"{path} is not what the course {receipt.course} has: it was changed")
    lines = [f"genuine: {receipt.assignment} handed in {_when(receipt.submitted)}"]
    changed = changed_since(here.folder(receipt.assignment), receipt)
    return [*lines, *(f"changed since: {path}" for path in changed)]


def main(argv: list[str]) -> int:
    try:
        for line in work(parser().parse_args(argv)):
            sys.stdout.write(f"{line}\n")
    except WireError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run the same command again\n")
        return 130
    return 0
