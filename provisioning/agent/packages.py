"""Distribution packages: all missing ones of a stage in one call of apt."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

from provisioning.agent.host import AgentError, Host, Outcome
from provisioning.agent.work import Change, Run, Wire, Work

STATUS = "/var/lib/dpkg/status"
POLICY = "/usr/sbin/policy-rc.d"
MARK = "# practicum: no service starts while packages are installed\n"
POLICY_TEXT = f"#!/bin/sh\n{MARK}exit 101\n"
STALE_SECONDS = 24 * 3600
APT_TIMEOUT = 3600
LOCK_SECONDS = 300
APT_ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
}
OPTIONS = (
    "-o",
    f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "APT::Color=0",
    "-o",
    "Dpkg::Use-Pty=0",
)
UNKNOWN = re.compile(
    r"Unable to locate package (\S+)|Package '?([^'\s]+)'? has no installation candidate"
    r"|Couldn't find any package by (?:glob|regex) '([^']+)'"
)
# The package's file has gone from the mirror since apt's lists were made.
GONE = re.compile(r"Failed to fetch (\S+)\s+404")
FETCH = re.compile(r"Failed to fetch (\w+://[^/\s]+)")
UNREACHABLE = re.compile(
    r"Could not resolve|Could not connect|Cannot initiate the connection|Connection (?:timed out|"
    r"refused|failed)|Failed to fetch|Network is unreachable|Certificate verification failed|"
    r"Some index files failed to download"
)
FULL = re.compile(r"No space left on device|You don't have enough free space")
LOCKED = re.compile(
    r"Could not get lock (\S+?)\.? |dpkg: error: dpkg (frontend|database) lock (?:is|was) locked"
)


class Installed:
    """dpkg's own table, read once: versions of installed packages, and half-done ones."""

    def __init__(self, host: Host) -> None:
        self.versions: dict[str, str] = {}
        self.provided: set[str] = set()
        self.broken: list[str] = []
        for entry in host.read(STATUS).decode("utf-8", "replace").split("\n\n"):
            self._add(entry)
        updates = host.at("/var/lib/dpkg/updates")
        if os.path.isdir(updates) and os.listdir(updates):
            self.broken.append("dpkg")

    def _add(self, entry: str) -> None:
        if not entry.startswith("Package: "):
            return
        name = entry[9 : entry.find("\n")]
        status = _field(entry, "Status")
        if status.endswith(" installed"):
            self.versions[name] = _field(entry, "Version")
            if "\nProvides: " in entry:
                provides = _field(entry, "Provides").split(",")
                self.provided.update(item.split()[0] for item in provides if item.strip())
        elif status.rpartition(" ")[2] not in ("config-files", "not-installed", ""):
            self.broken.append(name)

    def has(self, name: str) -> bool:
        return name in self.versions or name in self.provided


_known: dict[str, tuple[tuple[int, int], Installed]] = {}


def installed_on(host: Host) -> Installed:
    """dpkg's table, parsed again only when it was written."""
    try:
        info = os.stat(host.at(STATUS, follow=True))
        stamp = (info.st_mtime_ns, info.st_ino)
    except FileNotFoundError:
        stamp = (0, 0)
    known = _known.get(host.root)
    if known is None or known[0] != stamp:
        known = _known[host.root] = (stamp, Installed(host))
    return known[1]


def _field(entry: str, name: str) -> str:
    start = entry.find(f"\n{name}: ")
    if start < 0:
        return ""
    start += len(name) + 3
    end = entry.find("\n", start)
    return entry[start : end if end >= 0 else None]


class PackagesUnit:
    """All packages of one stage."""

    def __init__(self) -> None:
        self.members: list[Wire] = []

    def examine(self, run: Run) -> Work | None:
        installed = installed_on(run.host)
        missing = [wire for wire in self.members if not installed.has(wire["package"])]
        if not missing and not (installed.broken and self.members):
            return None
        changes = [Change(wire["key"], "create", f"install {wire['package']}") for wire in missing]
        if installed.broken:
            names = ", ".join(installed.broken[:5])
            text = f"finish half-installed packages ({names})"
            changes.insert(0, Change("agent:dpkg", "run", text))
        notify = [name for wire in missing for name in wire["notify"]]
        return Work(
            changes,
            lambda: self._install(run, missing, bool(installed.broken)),
            lambda: run.ahead.packages.update(wire["package"] for wire in missing),
            notify,
        )

    def _install(self, run: Run, missing: Sequence[Wire], broken: bool) -> None:
        for wire in missing:
            run.manifest.intend(wire["key"], **self.entry(run, wire))
        run.manifest.save()
        names = [wire["package"] for wire in missing]
        with Quiet(run.host):
            if broken:
                configure(run)
            if names:
                install(run, names)

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"package": wire["package"]}


class Quiet:
    """While this holds, packages do not start their services (policy-rc.d exits 101).

    Somebody else's policy-rc.d stays; one of ours that a killed run left is taken over.
    """

    def __init__(self, host: Host) -> None:
        self.host = host

    def __enter__(self) -> None:
        if not self.host.exists(POLICY) or leftover(self.host):
            self.host.write(POLICY, POLICY_TEXT.encode(), 0o755, 0, 0)

    def __exit__(self, *_error: object) -> None:
        if leftover(self.host):
            self.host.remove(POLICY)


def leftover(host: Host) -> bool:
    return MARK.encode() in host.look(POLICY).content


def configure(run: Run) -> None:
    run.tell("finishing half-installed packages")
    argv = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
    outcome = _patient(run, argv, APT_TIMEOUT)
    left = [name for name in installed_on(run.host).broken if name != "dpkg"]
    # They lack others that they need, or files of their own: fetch the ones, unpack the others.
    for words in (["--fix-broken", "install"], ["install", "--reinstall"]):
        if not left:
            break
        run.tell(f"repairing {' '.join(left)}")
        if _stale(run.host):
            update(run)
        names = ["--", *left] if words[-1] == "--reinstall" else []
        argv = ["apt-get", *words, "-y", "-q", "--no-install-recommends", *OPTIONS, *names]
        outcome = run.host.run(argv, timeout=APT_TIMEOUT, env=APT_ENV)
        left = [name for name in installed_on(run.host).broken if name != "dpkg"]
    if outcome.code == 0:
        return
    said = _sentence(outcome, "dpkg --configure -a")
    if left:
        said = (
            f"{', '.join(left)} is half-installed on this node and cannot be repaired: remove it "
            f"by hand (apt-get purge {' '.join(left)}), then apply again\n{said}"
        )
    raise AgentError(said)


def install(run: Run, names: Sequence[str]) -> None:
    """Install packages; refresh apt's lists first when they are missing or old, and once more
    when a package is not known or not to be had."""
    fresh = False
    if _stale(run.host):
        update(run)
        fresh = True
    outcome = _apt(run, names)
    if outcome.code != 0 and not fresh and _helps(outcome):
        update(run)
        outcome = _apt(run, names)
    if outcome.code != 0:
        raise AgentError(_sentence(outcome, f"apt-get install {' '.join(names)}"))


def _helps(outcome: Outcome) -> bool:
    """Whether new lists can help: the package is unknown, or its file has gone from the mirror."""
    text = outcome.output
    return bool(UNKNOWN.search(text) or "Failed to fetch" in text or "unmet dep" in text)


def _stale(host: Host) -> bool:
    folder = host.at("/var/lib/apt/lists")
    try:
        names = [name for name in os.listdir(folder) if "_Packages" in name]
        newest = max(
            (os.stat(f"{folder}/{name}").st_mtime for name in [*names, "partial"]), default=0.0
        )
    except FileNotFoundError:
        return True
    return not names or time.time() - newest > STALE_SECONDS


def update(run: Run) -> None:
    run.tell("refreshing the package lists")
    argv = ["apt-get", "update", "-q", *OPTIONS, "-o", "APT::Update::Error-Mode=any"]
    outcome = _patient(run, argv, 600)
    if outcome.code != 0:
        raise AgentError(_sentence(outcome, "apt-get update"))


def _patient(run: Run, argv: Sequence[str], timeout: float) -> Outcome:
    """apt waits for dpkg's lock by itself, but not for that of its lists; dpkg for none."""
    end = time.monotonic() + LOCK_SECONDS
    outcome = run.host.run(argv, timeout=timeout, env=APT_ENV)
    while outcome.code != 0 and LOCKED.search(outcome.output) and time.monotonic() < end:
        run.tell("waiting for another program that installs packages")
        time.sleep(3)
        outcome = run.host.run(argv, timeout=timeout, env=APT_ENV)
    return outcome


def _apt(run: Run, names: Sequence[str]) -> Outcome:
    count = f"{len(names)} package{'s' if len(names) > 1 else ''}"
    run.tell(f"installing {count}: {' '.join(names)}")

    def follow(line: str) -> None:
        if line.startswith(("Unpacking ", "Setting up ")):
            run.tell(" ".join(line.split()[:3]).rstrip("."))

    argv = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *OPTIONS, "--", *names]
    return run.host.run(argv, timeout=APT_TIMEOUT, env=APT_ENV, follow=follow)


def _sentence(outcome: Outcome, command: str) -> str:
    """apt's many lines as one sentence, with its own words where we have none better."""
    text = outcome.output
    unknown = [next(filter(None, found)) for found in UNKNOWN.findall(text)]
    errors = [line for line in text.splitlines() if line.startswith(("E:", "W:", "dpkg: error"))]
    said = "\n".join(errors[-5:]) or outcome.tail(8)
    if FULL.search(text):
        return "no space is left for packages on this node: free some and apply again"
    if unknown:
        names = ", ".join(sorted(set(unknown)))
        return (
            f"apt knows no package {names} here: check the name, or whether the mirrors in "
            "/etc/apt have it for this system, and apply again"
        )
    if gone := GONE.search(text):
        return (
            f"the mirror does not have {gone[1]} any more: apply again later, or name another "
            "mirror in /etc/apt"
        )
    if UNREACHABLE.search(text):
        sites = ", ".join(sorted(set(FETCH.findall(text)))[:3])
        which = f" ({sites})" if sites else ""
        return (
            f"the package sources cannot be reached from this node{which}: check its network, DNS "
            f"and apt's proxy, and apply again\n{said}"
        )
    locked = LOCKED.search(text)
    if locked:
        lock = locked[1] or f"dpkg's {locked[2]} lock"
        return f"another program has held {lock} for five minutes: wait for it, apply again"
    return f"{command} failed:\n{said}"
