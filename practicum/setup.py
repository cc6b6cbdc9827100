"""`practicum init` and `practicum check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from cluster.model import Cluster


def init(file: File = DEFAULT_FILE) -> None:
    """Write a commented cluster.toml, the secrets and an SSH key, here.

    What is there already stays as it is; run it again to complete what is missing.
    """
    from cluster.load import load
    from cluster.secrets import secrets_path
    from practicum import start

    for sentence in start.begin(file):
        typer.echo(sentence)
    cluster = load(file)
    key = file.parent / cluster.ssh.key
    known = file.parent / cluster.ssh.known_hosts
    node = cluster.machines[0]
    typer.echo(
        f"""
Next:
 1. Edit {file}: names, addresses, accounts; practicum check tells whether it can work.
 2. On every node, let {cluster.ssh.user} in with the key, and check and keep its host key:
    ssh-copy-id -i {key}.pub -p {cluster.ssh.port} -o UserKnownHostsFile={known} \
{cluster.ssh.user}@{node.address}
 3. practicum user passwd NAME for each account; practicum plan; practicum apply
Keep a copy of {secrets_path(file).parent}/ in a safe place; it is never committed."""
    )


def check(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Tell whether cluster.toml can work, or what is wrong, where, and what would be right."""
    from cluster.load import load
    from cluster.secrets import load_secrets, of_nobody, secrets_path

    cluster = load(file)
    notes = []
    if secrets_path(file).exists():
        known = load_secrets(secrets_path(file))
        without = [user.name for user in cluster.users if f"password.{user.name}" not in known]
        if without:
            notes.append(f"no password yet: {', '.join(without)} (practicum user passwd NAME)")
        gone = of_nobody(known, [user.name for user in cluster.users])
        if gone:
            notes.append(f"{secrets_path(file)} has passwords of nobody: {', '.join(gone)}")
    else:
        notes.append(f"there is no {secrets_path(file)} yet: practicum init makes it")
    if not (file.parent / cluster.ssh.key).exists():
        notes.append(f"there is no SSH key {file.parent / cluster.ssh.key} yet")
    if json:
        import json as json_module

        typer.echo(json_module.dumps({"file": str(file), **_counts(cluster), "notes": notes}))
        return
    typer.echo(f"{file} is right: {_summary(cluster)}")
    for note in notes:
        typer.echo(f"note: {note}")


def _counts(cluster: Cluster) -> dict[str, int]:
    return {
        "nodes": len(cluster.machines),
        "partitions": len(cluster.partitions),
        "profiles": len(cluster.profiles),
        "users": len(cluster.users),
        "kernels": len(cluster.kernels),
    }


def _summary(cluster: Cluster) -> str:
    counts = [
        f"{number} {word if number != 1 else word.removesuffix('s')}"
        for word, number in _counts(cluster).items()
    ]
    return f"{', '.join(counts[:-1])} and {counts[-1]}"
