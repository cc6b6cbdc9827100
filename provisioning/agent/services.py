"""systemd units: enabled or not, running or not, restarted when something they read changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from provisioning.agent.host import AgentError, CannotStartError, Host
from provisioning.agent.work import Change, Run, Wire, Work

SUFFIXES = (".service", ".socket", ".timer", ".target", ".mount", ".automount", ".path", ".slice")
# What is-enabled calls by another name, but needs nothing from us (systemctl(1)).
ENABLED = ("enabled", "static", "alias", "indirect", "generated", "linked", "transient")
NOT_DISABLED = ("enabled", "enabled-runtime", "alias")
RUNNING = ("active", "reloading", "refreshing")
STOPPED = ("inactive", "failed")
START_SECONDS = 120  # above systemd's own 90 s, so that its message comes first
JOURNAL_LINES = 15
SETTLE_SECONDS = 1.0
# A daemon that systemd has had to start again so often will not come up by waiting longer.
AGAIN = 3
# Types whose start is over only when the daemon says that it is ready (systemd.service(5)).
TELL_READY = ("forking", "notify", "notify-reload", "dbus", "oneshot")
# Half a second a unit on Debian: update-rc.d for scripts that systemd does not read where a
# unit of the same name is (systemctl's own variable).
NO_SYSV = {"SYSTEMCTL_SKIP_SYSV": "1"}


class State(NamedTuple):
    """A unit as systemd sees it; load is "not-found" when there is none."""

    load: str = "not-found"
    active: str = "inactive"
    enabled: str = ""
    type: str = ""
    restarts: int = 0  # by systemd itself, since it was last started

    @property
    def running(self) -> bool:
        return self.active in RUNNING

    @property
    def begun(self) -> bool:
        """Runs, or is on its way up: it may have read its files already."""
        return self.running or self.active == "activating"


def unit_name(service: str) -> str:
    return service if service.endswith(SUFFIXES) else f"{service}.service"


class Units:
    """States of units, asked in one call and kept until something changes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.states: dict[str, State] = {}

    def forget(self) -> None:
        self.states.clear()

    def fetch(self, services: Iterable[str]) -> None:
        names = [name for name in map(unit_name, services) if name not in self.states]
        if not names:
            return
        if self.host.root:
            self.states.update({name: self._in_image(name) for name in names})
            return
        properties = "--property=LoadState,ActiveState,UnitFileState,Type,NRestarts"
        try:
            outcome = self.host.run(["systemctl", "show", properties, "--", *names], timeout=30)
        except CannotStartError as error:
            raise AgentError(f"{error}: services need systemd on the node") from error
        blocks = outcome.output.strip("\n").split("\n\n")
        if outcome.code != 0 or len(blocks) != len(names):
            raise AgentError(f"systemctl cannot tell the state of services: {outcome.tail(3)}")
        for name, block in zip(names, blocks):  # noqa: B905  strict= is newer than Python 3.9
            values = dict(line.partition("=")[::2] for line in block.splitlines())
            self.states[name] = State(
                values.get("LoadState", "not-found"),
                values.get("ActiveState", "inactive"),
                values.get("UnitFileState", ""),
                values.get("Type", ""),
                int(values.get("NRestarts") or 0),
            )

    def _in_image(self, name: str) -> State:
        """In an image nothing runs; only whether it is enabled can be asked."""
        argv = ["systemctl", f"--root={self.host.root}", "is-enabled", name]
        outcome = self.host.run(argv, timeout=30, outside=True)
        words = outcome.output.split()
        known = len(words) == 1
        return State("loaded" if known else "not-found", "inactive", words[0] if known else "")

    def get(self, service: str) -> State:
        self.fetch([service])
        return self.states[unit_name(service)]


def control(run: Run, verb: str, name: str, timeout: float = START_SECONDS) -> None:
    """One systemctl call; in the error, what the unit logged last."""
    argv = ["systemctl", verb, "--", name] if verb != "daemon-reload" else ["systemctl", verb]
    if run.host.root:
        argv[1:1] = [f"--root={run.host.root}"]
    outcome = run.host.run(argv, timeout=timeout, env=NO_SYSV, outside=True)
    if outcome.code != 0:
        raise AgentError(f"systemctl {verb} {name} failed: {outcome.tail(3)}{journal(run, name)}")


def journal(run: Run, name: str) -> str:
    if run.host.root:
        return ""
    argv = ["journalctl", "--unit", name, "--lines", str(JOURNAL_LINES), "--no-pager", "-o", "cat"]
    try:
        outcome = run.host.run(argv, timeout=20)
    except AgentError:
        return ""
    said = outcome.tail(JOURNAL_LINES)
    return f"\n{name} logged last:\n{said}" if said else ""


def listening(host: Host, port: int) -> bool:
    """Whether a TCP socket listens on ``port`` here: from /proc/net/tcp, so nothing is sent."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in host.text(table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(wanted):
                return True
    return False


class ServiceUnit:
    def __init__(self, wire: Wire, units: Units) -> None:
        self.wire = wire
        self.members = [wire]
        self.name = unit_name(wire["service"])
        self.units = units

    def notes(self) -> list[str]:
        """The names of notifications that this unit answers, a restart before a reload."""
        short = self.name[: -len(".service")] if self.name.endswith(".service") else self.name
        names = dict.fromkeys((short, self.name))
        return [f"{verb}:{name}" for verb in ("restart", "reload") for name in names]

    def examine(self, run: Run) -> Work | None:
        state = self.units.get(self.name)
        verbs = self._verbs(run, state)
        if not verbs:
            return None
        action = "run" if verbs in (["restart"], ["reload-or-restart"]) else "update"
        sources = [source for note in self.notes() for source in run.notes.notes.get(note, [])]
        why = f" (changed: {', '.join(dict.fromkeys(sources))})" if action == "run" else ""
        text = " and ".join(verb.replace("reload-or-restart", "reload") for verb in verbs)
        change = Change(self.wire["key"], action, f"{text} {self.wire['service']}{why}")
        return Work(
            [change],
            lambda: self._act(run, verbs),
            lambda: run.notes.drop(self.notes(), save=False),
            self.wire["notify"],
        )

    def _verbs(self, run: Run, state: State) -> list[str]:
        verbs = []
        enabled = self.wire["enabled"]  # None: as it is
        if enabled and state.enabled not in ENABLED:
            if state.enabled in ("masked", "masked-runtime"):
                verbs.append("unmask")
            verbs.append("enable")
        if enabled is False and state.enabled in NOT_DISABLED:
            verbs.append("disable")
        if run.host.image:
            return verbs
        noted = [note for note in self.notes() if note in run.notes.notes]
        if not self.wire["running"]:
            if state.active not in STOPPED:
                verbs.append("stop")
        elif noted and state.begun:
            reload = state.running and not any(note.startswith("restart:") for note in noted)
            verbs.append("reload-or-restart" if reload else "restart")
        elif not state.running:
            verbs.append("start")
        return verbs

    def _act(self, run: Run, verbs: Sequence[str]) -> None:
        only_noted = verbs in (["restart"], ["reload-or-restart"])
        entry = self.entry(run, self.wire)
        if not only_noted:
            entry["adopted"] = False
        elif not run.manifest.get(self.wire["key"]):
            entry["adopted"] = True  # it ran before practicum came
        if self.members:
            run.manifest.intend(self.wire["key"], **entry)
            run.manifest.save()
        reload_units(run)
        for verb in verbs:
            if verb in ("start", "restart") and self.units.get(self.name).active == "failed":
                control(run, "reset-failed", self.name)
            limit = max(START_SECONDS, self.wire["timeout"])
            control(run, verb, self.name, limit)
        self.units.forget()
        if verbs[-1] in ("start", "restart", "reload-or-restart"):
            ready = self._wait(run).type in TELL_READY
            # One that listens, or says that it is ready, has read its configuration.
            if not self.wire["wait_port"] and not ready:
                run.started[self.name] = time.monotonic()
        run.notes.drop(self.notes())

    def _wait(self, run: Run) -> State:
        """Until it runs and, if asked, listens."""
        port = self.wire["wait_port"]
        end = time.monotonic() + self.wire["timeout"]
        before = self.units.get(self.name).restarts
        while True:
            state = self.units.get(self.name)
            if state.active in STOPPED:
                raise AgentError(
                    f"{self.name} started and is now {state.active}{journal(run, self.name)}"
                )
            if state.restarts - before >= AGAIN:
                raise AgentError(f"{self.name} ends again and again{journal(run, self.name)}")
            if state.running and (not port or listening(run.host, port)):
                return state
            if time.monotonic() > end:
                late = f"does not listen on port {port}" if port else f"is still {state.active}"
                raise AgentError(
                    f"{self.name} {late} after {self.wire['timeout']} s{journal(run, self.name)}"
                )
            time.sleep(0.05)
            self.units.forget()

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"service": wire["service"]}


def settled(run: Run, units: Units) -> None:
    """Look again at what was started: many a daemon only then reads its configuration, and
    ends, with systemd none the wiser when it was asked to start it."""
    if not run.started:
        return
    time.sleep(max(0.0, max(run.started.values()) + SETTLE_SECONDS - time.monotonic()))
    names = list(run.started)
    run.started.clear()
    units.forget()
    units.fetch(names)
    for name in names:
        state = units.get(name)
        if not state.running:
            raise AgentError(f"{name} started and is now {state.active}{journal(run, name)}")


def reload_units(run: Run) -> None:
    """daemon-reload, when a unit file changed."""
    if "daemon-reload" in run.notes.notes:
        if not run.host.root:
            control(run, "daemon-reload", "")
        run.notes.drop(["daemon-reload"])


def noted_unit(note: str, units: Units) -> ServiceUnit:
    """For a notification to a service that nobody declares: restarted if it runs, else left."""
    name = note.partition(":")[2]
    running = units.get(name).begun
    wire: Wire = {
        "kind": "service",
        "key": f"service:{name}",
        "service": name,
        "enabled": None,
        "running": running,
        "wait_port": 0,
        "timeout": 60,
        "notify": [],
    }
    unit = ServiceUnit(wire, units)
    unit.members = []
    return unit
