"""What `practicum kernel` prints of kernels and their versions."""

from __future__ import annotations

from typing import Any

import typer


def built(name: str, what: dict[str, Any]) -> None:
    """A version that went live (the desk's answer to build)."""
    record = what["record"]
    where = ", ".join(f"{arch} on {one['node']}" for arch, one in record["archs"].items())
    started = max(one["started"] for one in record["archs"].values())
    typer.echo(
        f"{name}: version {record['version']} is live; built and tried ({where}) in "
        f"{record['seconds']:.0f} s, a kernel of it answers in {started:.1f} s, "
        f"{record['files']} files, {record['bytes'] / 1e6:.0f} MB"
    )
    if what.get("gone"):
        typer.echo(f"old versions removed: {', '.join(map(str, what['gone']))}")


def summary(one: dict[str, Any]) -> str:
    """One kernel in a line (an item of the desk's answer to list)."""
    live = next((row for row in one["versions"] if row["live"]), None)
    if live is None and any(row["in_use"] for row in one["versions"]):
        return "removed; kernels of it still run"
    if live is None:
        return "no version is live: practicum apply mends or removes it"
    request = live["request"]
    parts = [f"version {one['version']} of {live['built'][:10]}", ", ".join(live["archs"])]
    parts.append(f"{live['bytes'] / 1e6:.0f} MB")
    if request["modules"]:
        parts.append(f"modules {' '.join(request['modules'])}")
    if request["group"]:
        parts.append(f"for {request['group']}")
    if one["held"]:
        parts.append("rolled back")
    others = [f"{row['version']}{' (runs)' if row['in_use'] else ''}"
              for row in one["versions"] if not row["live"]]  # fmt: skip
    if others:
        parts.append(f"others: {', '.join(others)}")
    if not one["declared"]:
        parts.append("not in cluster.toml: the next apply removes it")
    return "; ".join(parts)


def version(found: dict[str, Any]) -> None:
    """All that is known of a version (the desk's answer to show)."""
    record, request = found["record"], found["record"]["request"]
    kind = {"python": "Python, by uv", "conda": "conda's packages", "r": "the system's R"}
    live = " (live)" if found["version"] == found["shown_version"] else ""
    typer.echo(f"{found['name']} version {found['shown_version']}{live}: {request['title']}")
    rows = [
        ("kind", kind[request["language"]]),
        ("asked for", " ".join(request["packages"]) or ("a lock" if request["lock"] else "")),
        ("channels", " ".join(request["channels"])),
        ("modules", " ".join(request["modules"])),
        ("for", request["group"] or "everyone"),
        ("built", f"{record['built']} by {record['by'] or 'nobody known'}"),
        ("size", f"{record['files']} files, {record['bytes'] / 1e6:.0f} MB"),
        (
            "images",
            ", ".join(
                f"{arch} {size / 1e6:.0f} MB"
                for arch, size in record.get("image_bytes", {}).items()
            ),
        ),
    ]
    for arch, one in record["archs"].items():
        python = f", Python {one['python']}" if one["python"] else ""
        rows.append((arch, f"on {one['node']} in {one['seconds']:.0f} s, {one['tool']}{python}"))
    rows.append(("versions", ", ".join(str(row["version"]) for row in found["versions"])))
    for key, value in rows:
        if value:
            typer.echo(f"  {key:<10} {value}")
    for text in found["locks"].values():
        for line in text.splitlines():
            if line and not line.lstrip().startswith(("--hash", "#")):
                typer.echo(f"    {line.removesuffix(chr(92)).strip()}")
