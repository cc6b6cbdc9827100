"""`practicum course`: courses, by the admin's verbs (they edit cluster.toml) and the instructor's
(they work on the login node, as the course's grader)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from practicum import grade, grader, user
from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from cluster.courses import Course
    from cluster.model import Cluster

app = typer.Typer(
    help="Courses: who is in them; hand out, collect and give back.", no_args_is_help=True
)
PUT_BYTES = 500_000_000  # an assignment with its data
PUT_FILES = 5000
Name = Annotated[str, typer.Argument(help="A course.", metavar="COURSE")]
Assignment = Annotated[str, typer.Argument(help="An assignment.", metavar="ASSIGNMENT")]
People = Annotated[list[str], typer.Argument(help="Accounts.", metavar="USER...")]
Students = Annotated[
    Path | None, typer.Option("--students", help="A class list as CSV.", metavar="ROSTER")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")]
Apply = Annotated[bool, typer.Option("--apply/--no-apply", help="Bring it to the nodes at once.")]
When = Annotated[
    str, typer.Argument(help="As 2026-03-01T23:59, the cluster's time; nothing takes it away.")
]


app.command()(grade.grade)


@app.callback()
def course() -> None:
    pass


@app.command()
def create(  # noqa: PLR0913, PLR0917  each is an option
    name: Annotated[str, typer.Argument(help="Its short name.", metavar="COURSE")],
    instructor: Annotated[
        list[str], typer.Option("--instructor", help="An account; once for each.", metavar="USER")
    ],
    students: Students = None,
    title: Annotated[str, typer.Option("--title", help="Its name in full.")] = "",
    slots: Annotated[int, typer.Option("--slots", help="Submissions graded at once.")] = 2,
    kernel: Annotated[
        str, typer.Option("--kernel", help="Of its people's new notebooks.", metavar="KERNEL")
    ] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="Offered to its people first.", metavar="PROFILE")
    ] = "",
    with_assignments: Annotated[
        bool, typer.Option("--with-assignments", help="Put practicum's own assignments in.")
    ] = False,
    file: File = DEFAULT_FILE,
    apply: Apply = True,
    yes: Yes = False,
) -> None:
    """Make a course: accounts for people who have none, the grader's, folder and services.

    Writes it into cluster.toml and applies that. The same roster again changes nothing.
    """
    from cluster.edit_courses import free_uid, with_course
    from cluster.errors import PracticumError, UsageError
    from cluster.rewrite import rewrite

    cluster = _load(file)
    if any(one.name == name for one in cluster.courses):
        raise UsageError(f"there is a course {name} already: practicum course add-student {name}")
    taken = [one.uid for one in cluster.users] + [group.gid for group in cluster.groups]
    taken += [one.uid for one in cluster.courses]
    try:
        uid = free_uid(taken)
    except ValueError as error:
        raise PracticumError(str(error)) from None
    values: dict[str, Any] = {"name": name, "uid": uid}
    values |= {"title": title} if title else {}
    values |= {"instructors": instructor, "slots": slots}
    values |= {key: value for key, value in (("kernel", kernel), ("profile", profile)) if value}
    people = user.read_roster(students).people if students else ()
    names = [person.name for person in people]
    text = with_course(_text(file), {**values, "students": names})
    user.import_new(file, people, name, text)
    rewrite(file, text)
    typer.echo(f"course {name}: {len(names)} students, taught by {', '.join(instructor)}")
    applied = _bring(file, apply=apply, yes=yes)
    if with_assignments and applied:
        typer.echo(grader.by_admin(_load(file), file, name, "bring"))
    elif with_assignments:
        typer.echo(f"then, on the login node: practicum assignment put {name}")


@app.command("add-student")
def add_student(
    name: Name,
    people: Annotated[list[str] | None, typer.Argument(metavar="[USER]...")] = None,
    students: Students = None,
    file: File = DEFAULT_FILE,
    apply: Apply = True,
    yes: Yes = False,
) -> None:
    """Add students: accounts that exist, or a class list, which makes those that do not."""
    from cluster.edit_courses import changed
    from cluster.errors import UsageError
    from cluster.rewrite import rewrite

    found = _course(_load(file), name)
    if not people and not students:
        raise UsageError("name the accounts, or a class list with --students")
    listed = user.read_roster(students).people if students else ()
    names = [*(people or []), *(person.name for person in listed)]
    new = [one for one in dict.fromkeys(names) if one not in found.students]
    text = changed(_text(file), name, {"students": [*found.students, *new]})
    user.import_new(file, listed, name, text)
    if not new:
        typer.echo(f"they are in {name} already")
        return
    rewrite(file, text)
    typer.echo(f"added to {name}: {', '.join(new)}")
    _bring(file, apply=apply, yes=yes)


@app.command("remove-student")
def remove_student(
    name: Name,
    people: People,
    file: File = DEFAULT_FILE,
    apply: Apply = True,
    yes: Yes = False,
) -> None:
    """Take students out of a course. Their accounts, files and what they handed in stay."""
    from cluster.edit_courses import changed
    from cluster.errors import UsageError
    from cluster.rewrite import rewrite

    found = _course(_load(file), name)
    strange = [one for one in people if one not in found.students]
    if strange:
        raise UsageError(f"{strange[0]} is not a student of {name}")
    rest = [one for one in found.students if one not in people]
    rewrite(file, changed(_text(file), name, {"students": rest}))
    typer.echo(f"out of {name}: {', '.join(people)}; what they handed in stays")
    _bring(file, apply=apply, yes=yes)


@app.command()
def archive(name: Name, file: File = DEFAULT_FILE, apply: Apply = True, yes: Yes = False) -> None:
    """End a course: nothing is handed out or in any more. All its files stay, and students still
    see their submissions and feedback."""
    from cluster.edit_courses import changed
    from cluster.rewrite import rewrite

    if _course(_load(file), name).state == "archived":
        typer.echo(f"{name} is archived already")
        return
    rewrite(file, changed(_text(file), name, {"state": "archived"}))
    typer.echo(f'{name} is archived; state = "open" in {file} opens it again')
    _bring(file, apply=apply, yes=yes)


@app.command("list")
def list_(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """All courses."""
    courses = _known(file).courses
    if json:
        import json as json_module

        rows = [one.model_dump() for one in courses]
        typer.echo(json_module.dumps({"courses": rows}))
        return
    for one in courses:
        note = "  (archived)" if one.state == "archived" else ""
        teachers = ", ".join(one.instructors)
        typer.echo(f"{one.name}  {len(one.students)} students  {teachers}  {one.title}{note}")
    if not courses:
        typer.echo("there is no course: practicum course create makes one")


@app.command()
def show(name: Name, file: File = DEFAULT_FILE, json: Json = False) -> None:
    """One course: its people and places."""
    from coursework.layout import layout

    cluster = _known(file)
    one = _course(cluster, name)
    places = layout(cluster, one)
    if json:
        import json as json_module

        typer.echo(json_module.dumps({**one.model_dump(), "folder": str(places.root)}))
        return
    port = cluster.hub.port
    for label, value in (
        ("course", f"{one.name}  {one.title}".rstrip()),
        ("state", one.state),
        ("instructors", ", ".join(one.instructors)),
        ("students", ", ".join(one.students) or "none"),
        ("folder", str(places.root)),
        ("grader", one.grader),
        ("graded at once", str(one.slots)),
        ("kernel", one.kernel or "the usual one"),
        ("profile", one.profile or "none of its own"),
        ("formgrader", f"http://{places.login}:{port}{places.formgrader_prefix}formgrader"),
    ):
        typer.echo(f"{label:<15} {value}")


# --- instructors' verbs ---------------------------------------------------------------------


@app.command()
def put(
    name: Name,
    assignment: Assignment,
    folder: Annotated[Path, typer.Argument(help="Its notebooks and data.", metavar="FOLDER")],
) -> None:
    """Copy an assignment that you have written into the course: a new one, or anew."""
    from cluster.errors import PracticumError
    from coursework.session.gather import gather
    from coursework.session.wire import WireError

    try:
        bundle = gather(folder, max_bytes=PUT_BYTES, max_files=PUT_FILES)
    except WireError as error:
        raise PracticumError(str(error)) from None
    with bundle.stream:
        body = bundle.stream.read()
    for sentence in bundle.left_out:
        typer.echo(sentence)
    _tell("put", name, assignment, str(bundle.size), bundle.sha256, stdin=body)


@app.command()
def copy(
    old: Annotated[str, typer.Argument(help="The course to copy from.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="One that exists.", metavar="NEW")],
) -> None:
    """Copy what you wrote into another course of yours, as for the next term: the assignments,
    and grading.json and nbgrader_config.py where the other has none.

    No student's work, grades or dates are copied.
    """
    import base64

    from cluster.errors import UsageError

    if all(one.name != new for one in _public().courses):
        raise UsageError(
            f"there is no course {new} yet: the admin makes it (practicum course create {new} "
            "--instructor YOU --students ROSTER), then copy again"
        )
    names = grader.ask("sources", old).splitlines()
    for name in names:
        head, _, body = grader.ask("get", old, name).partition("\n")
        _tell("put", new, name, *head.split(), stdin=base64.b64decode(body))
    if not names:
        typer.echo(f"{old} has no assignments")
    settings = grader.ask("settings", old)
    if settings != "{}":
        _tell("take-settings", new, stdin=settings.encode())


@app.command()
def release(
    name: Name,
    assignment: Assignment,
    force: Annotated[bool, typer.Option("--force", help="Hand out a new version.")] = False,
) -> None:
    """Make the students' version of an assignment and hand it out."""
    _tell("release", name, assignment, *(["--force"] if force else []))


@app.command()
def collect(name: Name, assignment: Assignment) -> None:
    """Get the last submissions, to be graded."""
    _tell("collect", name, assignment)


@app.command("give-back")
def give_back(name: Name, assignment: Assignment) -> None:
    """Make feedback of what is graded, and release it: each student's to that student alone."""
    _tell("give-back", name, assignment)


@app.command()
def due(name: Name, assignment: Assignment, when: When = "") -> None:
    """Set an assignment's due date."""
    _tell("due", name, assignment, when)


@app.command()
def extend(
    name: Name,
    assignment: Assignment,
    student: Annotated[str, typer.Argument(metavar="STUDENT")],
    when: When = "",
) -> None:
    """Give one student another due date."""
    _tell("extend", name, assignment, student, when)


@app.command()
def receipt(
    name: Name, path: Annotated[Path, typer.Argument(help="The student's.", metavar="RECEIPT")]
) -> None:
    """Whether a receipt is genuine, and the submission still what it says."""
    from cluster.errors import UsageError

    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    _tell("receipt", name, stdin=text)


@app.command()
def grades(
    name: Name,
    everybody: Annotated[
        bool, typer.Option("--all", help="Those who left the course, too.")
    ] = False,
) -> None:
    """All grades as CSV, on standard output."""
    _tell("export", name, *(["--all"] if everybody else []))


def _tell(verb: str, name: str, *words: str, stdin: bytes = b"") -> None:
    typer.echo(grader.ask(verb, name, *words, stdin=stdin))


# --- the files ------------------------------------------------------------------------------


def _load(file: Path) -> Cluster:
    from cluster.load import load

    return load(file)


def _known(file: Path) -> Cluster:
    """cluster.toml where there is one, else the login node's public copy."""
    return _load(file) if file.exists() or not grader.PUBLIC.exists() else _public()


def _public() -> Cluster:
    from cluster.errors import UsageError
    from cluster.load import load_public

    if not grader.PUBLIC.exists():
        raise UsageError(f"there is no {grader.PUBLIC}: this works on the login node")
    return load_public(grader.PUBLIC)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _course(cluster: Cluster, name: str) -> Course:
    from cluster.checks.problem import unknown
    from cluster.errors import UsageError

    for one in cluster.courses:
        if one.name == name:
            return one
    raise UsageError(unknown(name, [one.name for one in cluster.courses], "course"))


def _bring(file: Path, *, apply: bool, yes: bool) -> bool:
    """Apply now if that was agreed to, or say that it is to be done. Whether it was done."""
    from practicum import converge

    if apply and (yes or (sys.stdin.isatty() and sys.stderr.isatty())):
        if not converge.bring(file, yes=yes):
            raise typer.Exit(1)
        return True
    typer.echo("practicum apply brings this to the nodes")
    return False
