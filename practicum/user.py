"""`practicum user`: accounts of the cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from practicum.options import DEFAULT_FILE, File

app = typer.Typer(help="Passwords of the accounts in cluster.toml.", no_args_is_help=True)


@app.callback()
def user() -> None:
    pass


@app.command()
def passwd(
    name: Annotated[str, typer.Argument(help="An account of cluster.toml.", metavar="NAME")],
    file: File = DEFAULT_FILE,
) -> None:
    """Set the password of an account: asked twice, or the first line of stdin.

    Only its hash is kept, in the secrets file. `practicum apply` brings it to the nodes.
    """
    import difflib

    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.secrets import load_secrets, save_secrets, secrets_path, with_password

    users = [user.name for user in load(file).users]
    if name not in users:
        near = difflib.get_close_matches(name, users, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"{file} has no user {name}{hint}: add it there first")
    path = secrets_path(file)
    values = load_secrets(path)
    save_secrets(path, with_password(values, name, _ask(name)))
    typer.echo(f"the password of {name} is set: practicum apply brings it to the nodes")


def _ask(name: str) -> str:
    from getpass import getpass

    from cluster.errors import UsageError

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass(f"Password of {name}: ")
    if getpass("Again: ") != password:
        raise UsageError("the two are not the same: nothing was changed")
    return password
