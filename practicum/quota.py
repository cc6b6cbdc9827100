"""`practicum quota`: how much of the shared disk each person and group has, and may have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from cluster.model import Cluster

app = typer.Typer(help="Quotas of people and groups on the shared disk.", no_args_is_help=True)
NEARLY = 0.9
REPORT_SECONDS = 60


@app.callback()
def quota() -> None:
    pass


@app.command()
def show(
    user: Annotated[str, typer.Argument(help="Only this account.", metavar="USER")] = "",
    group: Annotated[str, typer.Option("--group", help="Only this group's members.")] = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Show what people have on the shared disk, and their limits, as its server holds them now.

    With --group also what belongs to the group itself.
    """
    cluster = _cluster(file)
    _known(cluster, user, group)
    told = _report(cluster, file)
    rows = list(_rows(cluster, told, user, group))
    if json:
        import json as json_module

        typer.echo(json_module.dumps({"grace_seconds": told["grace"], "quotas": rows}))
        return
    _table(rows)


@app.command("set")
def set_(  # noqa: PLR0913, PLR0917  each is an option
    user: Annotated[str, typer.Argument(help="Whose.", metavar="USER")] = "",
    group: Annotated[str, typer.Option("--group", help="Each member of this group.")] = "",
    whole_group: Annotated[
        bool, typer.Option("--whole-group", help="The group's members together.")
    ] = False,
    soft: Annotated[
        str, typer.Option("--soft", help="Above this only for the grace time.", metavar="SIZE")
    ] = "",
    hard: Annotated[str, typer.Option("--hard", help="Never above this.", metavar="SIZE")] = "",
    soft_files: Annotated[
        int | None, typer.Option("--soft-files", help="Files.", min=0, metavar="N")
    ] = None,
    hard_files: Annotated[
        int | None, typer.Option("--hard-files", help="Files.", min=0, metavar="N")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Take the line out: what the group has counts again.")
    ] = False,
    file: File = DEFAULT_FILE,
) -> None:
    """Write a quota into cluster.toml. `practicum apply` brings it to the server.

    SIZE is in MB, or like 500M, 20G, 1.5T; 0 is no limit. What is not named stays as it is.
    """
    from cluster.edit_quotas import with_quota, without_quota
    from cluster.errors import UsageError
    from cluster.rewrite import rewrite

    cluster = _cluster(file)
    if bool(user) == bool(group):
        raise UsageError("name either a USER or --group")
    if whole_group and not group:
        raise UsageError("--whole-group goes with --group")
    _known(cluster, user, group)
    numbers: dict[str, int] = {}
    for key, text in (("soft_mb", soft), ("hard_mb", hard)):
        if text:
            numbers[key] = size_mb(text, key.replace("_mb", ""))
    for key, number in (("soft_files", soft_files), ("hard_files", hard_files)):
        if number is not None:
            numbers[key] = number
    if bool(numbers) == default:
        raise UsageError("give limits (--soft, --hard, --soft-files, --hard-files), or --default")
    key, name = ("user", user) if user else ("group", group)
    text = file.read_text(encoding="utf-8")
    if default:
        new = without_quota(text, key, name, whole=whole_group)
    else:
        if user:
            numbers = {**_inherited(cluster, user), **numbers}
        new = with_quota(text, key, name, numbers, whole=whole_group)
    if new == text:
        typer.echo("nothing to change")
        return
    rewrite(file, new)
    server = _server(cluster)
    typer.echo(f"{file} is changed; practicum apply --limit {server} brings it to {server}")


def size_mb(text: str, what: str) -> int:
    """500, 500M, 20G, 1.5T in MB (of 1024 kB); UsageError for anything else."""
    import re

    from cluster.errors import UsageError

    units = {"": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([MGT]?)B?", text.strip().upper())
    if not found:
        raise UsageError(f"--{what} {text}: not a size like 500M, 20G or 1.5T")
    return round(float(found[1]) * units[found[2]])


def _inherited(cluster: Cluster, user: str) -> dict[str, int]:
    """What counts for somebody so far, when they get their first line of their own."""
    from provisioning.roles.quota import quota_of

    entry = next(one for one in cluster.users if one.name == user)
    found = quota_of(cluster, entry)
    if found is None or found.user:
        return {}
    keys = ("soft_mb", "hard_mb", "soft_files", "hard_files")
    return {key: getattr(found, key) for key in keys if getattr(found, key)}


def _cluster(file: Path) -> Cluster:
    from cluster.errors import UsageError
    from cluster.load import load

    cluster = load(file)
    if not cluster.storage.quotas:
        raise UsageError(
            f"{file}: this cluster has no quotas: set quotas = true in [storage] "
            '(provider = "nfs"), or ask whoever runs the file server'
        )
    return cluster


def _server(cluster: Cluster) -> str:
    from provisioning.roles.where import homes_node

    return homes_node(cluster).name


def _known(cluster: Cluster, user: str, group: str) -> None:
    from cluster.checks.problem import unknown
    from cluster.errors import UsageError

    for what, name, names in (
        ("user", user, [one.name for one in cluster.users]),
        ("group", group, [one.name for one in cluster.groups]),
    ):
        if name and name not in names:
            raise UsageError(unknown(name, names, what))


def _report(cluster: Cluster, file: Path) -> dict[str, Any]:
    """The server's own numbers. PracticumError when it does not answer."""
    import json as json_module

    from cluster.errors import PracticumError
    from provisioning.remote import Remote
    from provisioning.roles.quota import SCRIPT
    from provisioning.ssh import ssh_target

    node = cluster.node(_server(cluster))
    target = ssh_target(cluster, node, file.resolve().parent)
    with Remote(target) as remote:
        done = remote.run(
            ["python3", "-I", SCRIPT, "--report", cluster.storage.folder], timeout=REPORT_SECONDS
        )
    if done.code:
        raise PracticumError(
            f"{node.name} does not tell its quotas ({done.said}): practicum apply sets them up"
        )
    try:
        return dict(json_module.loads(done.out))
    except ValueError as error:
        raise PracticumError(f"{node.name} told quotas that cannot be read: {error}") from error


def _rows(
    cluster: Cluster, told: dict[str, Any], user: str, group: str
) -> Iterator[dict[str, Any]]:
    """Accounts (and with ``group`` that group), in cluster.toml's order; then those who left."""
    nothing = dict.fromkeys(
        ("soft_kb", "hard_kb", "soft_files", "hard_files", "used_kb", "files", "kb_until",
         "files_until"), 0,
    )  # fmt: skip
    for entry in cluster.users:
        if entry.name == user or (not user and (not group or group in entry.groups)):
            numbers = told["users"].get(str(entry.uid), nothing)
            yield {"user": entry.name, "uid": entry.uid, **numbers}
    for one in cluster.groups:
        numbers = told["groups"].get(str(one.gid))
        if one.name == group or (not user and not group and numbers and _limited(numbers)):
            yield {"group": one.name, "gid": one.gid, **(numbers or nothing)}
    if not user and not group:
        known = {str(entry.uid) for entry in cluster.users}
        for uid, numbers in told["users"].items():
            if uid not in known and 1000 <= int(uid) < 60000:
                yield {"user": "", "uid": int(uid), **numbers}


def _limited(numbers: dict[str, int]) -> bool:
    return any(numbers[key] for key in ("soft_kb", "hard_kb", "soft_files", "hard_files"))


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("who")
    for title in ("used", "soft", "hard", "files", "soft", "hard"):
        table.add_column(title, justify="right")
    table.add_column("")
    now = time.time()
    for row in rows:
        who = row.get("user") or (
            f"group {row['group']}" if "group" in row else f"uid {row['uid']}"
        )
        table.add_row(
            who,
            amount(row["used_kb"]), limit(row["soft_kb"]), limit(row["hard_kb"]),
            str(row["files"]), str(row["soft_files"] or "-"), str(row["hard_files"] or "-"),
            state(row, now),
        )  # fmt: skip
    Console(highlight=False).print(table)


def amount(kilobytes: int) -> str:
    """1.5 GB, with 1024 kB to the MB as quotas count."""
    value, unit = float(kilobytes), "kB"
    for unit in ("kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1024
    return f"{value:.1f} {unit}" if value < 10 and unit != "kB" else f"{value:.0f} {unit}"


def limit(kilobytes: int) -> str:
    return amount(kilobytes) if kilobytes else "-"


def state(row: dict[str, Any], now: float) -> str:
    """What is to be known about somebody's numbers; "" when all is well."""
    pairs = (
        ("used_kb", "soft_kb", "hard_kb", "kb_until"),
        ("files", "soft_files", "hard_files", "files_until"),
    )
    for used, soft, hard, until in pairs:
        what = "files" if used == "files" else "space"
        if row[hard] and row[used] >= row[hard]:
            return f"no {what} left"
        if row[soft] and row[used] > row[soft]:
            left = row[until] - now
            if row[until] and left <= 0:
                return f"grace for {what} is over"
            return (
                f"over the soft limit: {_days(left)} left" if row[until] else "over the soft limit"
            )
        if row[hard] and row[used] >= NEARLY * row[hard]:
            return f"nearly out of {what}"
    return ""


def _days(seconds: float) -> str:
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    return f"{seconds / 3600:.0f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"
