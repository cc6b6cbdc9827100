"""`practicum user`: accounts of the cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from cluster.model import Cluster
    from cluster.people import Import
    from cluster.roster import Person, Roster

app = typer.Typer(help="The cluster's accounts and their passwords.", no_args_is_help=True)
HANDOUTS = "handouts"  # in the folder of the secrets


@app.callback()
def user() -> None:
    pass


@app.command("import")
def import_(
    roster: Annotated[Path, typer.Argument(help="A class list as CSV.", metavar="ROSTER")],
    group: Annotated[
        str, typer.Option("--group", help="The group they are in; made if there is none.")
    ],
    address: Annotated[
        str, typer.Option("--address", help="The hub's address on the hand-outs.", metavar="URL")
    ] = "",
    file: File = DEFAULT_FILE,
) -> None:
    """Make accounts for a class list: columns name, and if wanted full_name and email.

    New people get the next free uid and an initial password, printed on cards for handing out.
    The same list again changes nothing and leaves passwords alone. People who are missing from
    the list stay, and are named. `practicum apply` brings all of it to the nodes.
    """
    entries = read_roster(roster)
    if entries.ignored:
        typer.echo(f"columns that are not read: {', '.join(entries.ignored)}")
    import_people(file, entries.people, group, address)


def import_people(
    file: Path, entries: Sequence[Person], group: str, address: str = "", text: str = ""
) -> None:
    """Accounts for these people, written beside cluster.toml; what was done is told. ``text``:
    what cluster.toml is to be afterwards, which must accept them, too; as it is if left out."""
    from cluster import files, people
    from cluster.errors import ConfigError
    from cluster.load import load
    from cluster.rewrite import tried

    cluster = load(file)
    if group not in {one.name for one in cluster.groups}:
        _refuse_reserved(group)
    left = people.read_left(file)
    wanted = people.plan_import(cluster, people.read_books(file), left, entries, group)
    books = {
        people.book_path(file, name): people.render(name, book)
        for name, book in wanted.books.items()
    }
    try:  # before anything is written: a refused file would stop every command
        load(file, books)
        if text:
            tried(file, text, books)
    except ConfigError as error:
        raise ConfigError(f"nothing was imported, since it would not fit:\n{error}") from None
    new = _without_password(file, wanted, [one.name for one in entries])
    chosen = [one for one in entries if one.name in new]
    page = _hand_out(file, chosen, new, group, address)
    for path, content in books.items():
        files.write(path, content)
    if any(name in left for name in wanted.added):
        rest = {name: uid for name, uid in left.items() if name not in wanted.added}
        files.write(file.parent / people.FOLDER / people.LEFT, people.render_left(rest))
    _keep_passwords(file, new)
    _tell_import(wanted, page)


def import_new(file: Path, entries: Sequence[Person], group: str, text: str) -> None:
    """Accounts for those who have none, if cluster.toml may be ``text`` then."""
    from cluster.load import load

    have = {one.name for one in load(file).users}
    if new := [person for person in entries if person.name not in have]:
        import_people(file, new, group, text=text)


def read_roster(path: Path) -> Roster:
    from cluster.errors import UsageError
    from cluster.roster import LARGEST, parse

    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return parse(data, str(path))


def _refuse_reserved(group: str) -> None:
    from cluster.checks.people import reserved
    from cluster.errors import UsageError

    if reserved(group):
        raise UsageError(f"--group {group}: belongs to the system: choose another name")


def _without_password(file: Path, wanted: Import, names: list[str]) -> dict[str, str]:
    """New passwords for those of the roster who have none yet."""
    from cluster.secrets import PASSWORD, load_secrets, secrets_path
    from practicum.handout import password

    known = load_secrets(secrets_path(file))
    skip = set(wanted.elsewhere)
    return {
        name: password() for name in names if name not in skip and f"{PASSWORD}{name}" not in known
    }


def _hand_out(
    file: Path, chosen: list[Person], passwords: dict[str, str], group: str, address: str
) -> Path | None:
    """Written before the passwords count: one that is on no paper would be lost."""
    from cluster import files
    from cluster.load import load
    from cluster.model import NodeRole
    from cluster.secrets import secrets_path
    from practicum import handout

    if not chosen:
        return None
    cluster = load(file)
    where = address or f"http://{cluster.first(NodeRole.LOGIN).address}:{cluster.hub.port}/"
    path = handout.free_path(secrets_path(file).parent / HANDOUTS, group)
    text = handout.page(chosen, passwords, cluster=cluster.cluster.name, group=group, address=where)
    files.write(path, text, 0o600)
    return path


def _keep_passwords(file: Path, passwords: dict[str, str]) -> None:
    from cluster.secrets import load_secrets, save_secrets, secrets_path, with_password

    if not passwords:
        return
    values = load_secrets(secrets_path(file))
    for name, password in passwords.items():
        values = with_password(values, name, password)
    save_secrets(secrets_path(file), values)


def _tell_import(wanted: Import, page: Path | None) -> None:
    def names(what: tuple[str, ...]) -> str:
        return ", ".join(what[:10]) + (f" and {len(what) - 10} more" if len(what) > 10 else "")

    if wanted.added:
        typer.echo(f"added: {names(wanted.added)}")
    if wanted.returning:
        typer.echo(
            f"had an account before, and get its number, home and SSH keys again: "
            f"{names(wanted.returning)} (somebody else of that name needs another)"
        )
    if wanted.changed:
        typer.echo(f"changed: {names(wanted.changed)}")
    if wanted.elsewhere:
        typer.echo(f"in cluster.toml already, left as they are: {names(wanted.elsewhere)}")
    if wanted.absent:
        typer.echo(
            f"not on this list, left as they are: {names(wanted.absent)} "
            "(practicum user remove NAME)"
        )
    if page:
        typer.echo(f"initial passwords: {page}; print it, hand the cards out, and delete it")
    if wanted.books or page:
        typer.echo("practicum apply brings this to the nodes")
    else:
        typer.echo("nothing to change")


@app.command("list")
def list_(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Every account: its uid, groups, and where it is declared."""
    from cluster import people
    from cluster.load import load
    from cluster.secrets import PASSWORD, load_secrets, secrets_path

    cluster = load(file)
    books = people.read_books(file)
    place = {one.name: group for group, book in books.items() for one in book.accounts}
    secret = secrets_path(file)
    known = load_secrets(secret, complete=False) if secret.exists() else {}
    rows = [
        {
            "name": one.name,
            "uid": one.uid,
            "groups": list(one.groups),
            "full_name": one.full_name,
            "email": one.email,
            "password": f"{PASSWORD}{one.name}" in known,
            "file": str(people.book_path(file, place[one.name]) if one.name in place else file),
        }
        for one in cluster.users
    ]
    if json:
        import json as json_module

        typer.echo(json_module.dumps({"users": rows}))
        return
    width = max((len(row["name"]) for row in rows), default=0)  # type: ignore[arg-type]
    for row in rows:
        note = "" if row["password"] else "  (no password)"
        groups = ",".join(row["groups"])  # type: ignore[arg-type]
        typer.echo(f"{row['name']:<{width}}  {row['uid']}  {groups}  {row['full_name']}{note}")
    typer.echo(f"{len(rows)} account{'' if len(rows) == 1 else 's'}")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="An account.", metavar="NAME")],
    file: File = DEFAULT_FILE,
) -> None:
    """Take an account away: nobody can log in with it any more, its files stay.

    Its uid is kept, so that nobody else gets its files, and is the same if it comes back.
    """
    from cluster import files, people
    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.rewrite import rewrite, tried

    cluster = load(file)
    found = people.without(people.read_books(file), name)
    if found is None:
        known = [user.name for user in cluster.users]
        if name in known:
            raise UsageError(
                f"{name} is declared in {file} itself: delete that [[users]] entry there, "
                "then practicum apply"
            )
        raise UsageError(f"there is no user {name}{_near(name, known)}")
    changed, account = found
    books = {people.book_path(file, one): people.render(one, book) for one, book in changed.items()}
    text = _without_person(cluster, file.read_text(encoding="utf-8"), name)
    tried(file, text, books)  # somebody whom another table names would leave a file that is refused
    left = {**people.read_left(file), name: account.uid}
    # The number first: if we are stopped between the two, it is only noted twice.
    files.write(file.parent / people.FOLDER / people.LEFT, people.render_left(left))
    if text != file.read_text(encoding="utf-8"):
        rewrite(file, text)
    for path, book in books.items():
        files.write(path, book)
    _forget_password(file, name)
    home = f"{cluster.storage.home}/{name}"
    typer.echo(
        f"{name} (uid {account.uid}) is no longer declared: practicum apply closes the account on "
        f"every node and takes it out of Slurm. Its files stay in {home}"
    )


def _without_person(cluster: Cluster, text: str, name: str) -> str:
    """cluster.toml's text without this person in courses and quotas."""
    from cluster.edit_courses import without_person
    from cluster.edit_quotas import without_quota
    from cluster.errors import UsageError

    try:
        rest = without_person(text, name)
    except ValueError as error:
        raise UsageError(f"{error}: give it another first") from None
    if any(quota.user == name for quota in cluster.quotas):
        rest = without_quota(rest, "user", name, whole=False)
    return rest


def _forget_password(file: Path, name: str) -> None:
    from cluster.secrets import PASSWORD, load_secrets, save_secrets, secrets_path

    path = secrets_path(file)
    if not path.exists():
        return
    values = load_secrets(path, complete=False)
    if values.pop(f"{PASSWORD}{name}", None) is not None:
        save_secrets(path, values)


@app.command()
def passwd(
    name: Annotated[str, typer.Argument(help="An account.", metavar="NAME")],
    file: File = DEFAULT_FILE,
) -> None:
    """Set the password of an account: asked twice, or the first line of stdin.

    Only its hash is kept, in the secrets file. `practicum apply` brings it to the nodes.
    """
    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.secrets import load_secrets, save_secrets, secrets_path, with_password

    users = [user.name for user in load(file).users]
    if name not in users:
        raise UsageError(f"{file} has no user {name}{_near(name, users)}: add it there first")
    path = secrets_path(file)
    values = load_secrets(path)
    save_secrets(path, with_password(values, name, _ask(name)))
    typer.echo(f"the password of {name} is set: practicum apply brings it to the nodes")


def _near(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _ask(name: str) -> str:
    from getpass import getpass

    from cluster.errors import UsageError

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass(f"Password of {name}: ")
    if getpass("Again: ") != password:
        raise UsageError("the two are not the same: nothing was changed")
    return password
