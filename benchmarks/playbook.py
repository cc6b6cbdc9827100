"""Declared resources as an Ansible playbook, made mechanically: one task for each resource (one
apt task for all packages of a stage), one task list for each host, one play for each stage.

Where there was a choice, Ansible got the cheaper one: interpreter given, facts of the smallest
subset, no SSH compression, plays as barriers instead of ``wait_for`` tasks, one restart instead
of a start and a handler's restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.model import Cluster
from provisioning.resources import (
    Command,
    Declared,
    Directory,
    File,
    Group,
    Line,
    Link,
    Package,
    Resource,
    Service,
    User,
    WaitPort,
)

Task = dict[str, Any]
CALLBACK = '''
import json, os, time
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    """When each task began and ended on each host."""
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "spans"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.began, self.spans = {}, []

    def v2_runner_on_start(self, host, task):
        self.began[host.get_name(), task._uuid] = time.time()

    def _end(self, result, *_args, **_more):
        host, task = result._host.get_name(), result._task
        began = self.began.pop((host, task._uuid), None)
        if began is not None:
            self.spans.append([task.get_name(), host, began, time.time()])

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = _end

    def v2_playbook_on_stats(self, stats):
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        with open(os.environ["SPANS"], "w") as file:
            json.dump({"spans": self.spans, "hosts": hosts}, file)
'''


def plain(value: str) -> str:
    """Text that Ansible must not take for a template."""
    if any(mark in value for mark in ("{{", "{%", "{#")):
        return "{% raw %}" + value + "{% endraw %}"
    return value


class Book:
    """The tasks of one host."""

    def __init__(self, declared: Declared, files: Path) -> None:
        self.files = files
        self.host = declared.node
        self.stages: dict[str, list[Task]] = {}
        self._count = 0
        self._notes: dict[str, list[str]] = {}  # what was notified, by which results
        self._units: list[str] = []  # results of unit files
        self._commands = {
            f"run:{item.id}": item
            for _, items in declared.stages
            for item in items
            if isinstance(item, Command) and item.on_notify
        }
        ahead = [
            f"restart:{item.service}"
            for _, items in declared.stages
            for item in items
            if isinstance(item, Service)
        ]
        for stage, items in declared.stages:
            self._ahead = ahead
            tasks = self._packages([item for item in items if isinstance(item, Package)])
            for item in items:
                tasks += self._tasks(item)
                if isinstance(item, Service):
                    ahead = ahead[1:]
                    self._ahead = ahead
            tasks += self._left()
            if tasks:
                self.stages[stage] = tasks

    def _name(self) -> str:
        self._count += 1
        return f"r{self._count}"

    def _packages(self, items: Sequence[Package]) -> list[Task]:
        if not items:
            return []
        return [
            {
                "name": "packages",
                "ansible.builtin.apt": {
                    "name": [item.package for item in items],
                    "state": "present",
                    "install_recommends": False,
                },
            }
        ]

    def _tasks(self, item: Resource) -> list[Task]:
        if isinstance(item, (Package, WaitPort)):
            return []
        if isinstance(item, Service):
            return self._service(item)
        if isinstance(item, Command):
            return [] if item.on_notify else self._command(item)
        module, options = self._module(item)
        result = self._name()
        task: Task = {"name": item.key, module: options, "register": result}
        if getattr(item, "secret", False) or getattr(item, "password_hash", ""):
            task["no_log"] = True
        for note in item.notify:
            self._notes.setdefault(note, []).append(result)
        if isinstance(item, File) and item.path.startswith("/etc/systemd/system/"):
            self._units.append(result)
        return [task]

    def _module(self, item: Resource) -> tuple[str, Mapping[str, Any]]:
        match item:
            case File():
                return "ansible.builtin.copy", self._file(item)
            case Directory():
                return "ansible.builtin.file", {
                    "path": item.path, "state": "directory", "owner": item.owner,
                    "group": item.group, "mode": f"{item.mode:04o}",
                }  # fmt: skip
            case Link():
                return "ansible.builtin.file", {
                    "path": item.path, "src": item.target, "state": "link", "force": True,
                }  # fmt: skip
            case Line():
                options = {"path": item.path, "create": True}
                if item.match:
                    options["regexp"] = plain(item.match)
                if item.present:
                    options["line"] = plain(item.line)
                else:
                    options["state"] = "absent"
                return "ansible.builtin.lineinfile", options
            case Group():
                return "ansible.builtin.group", {"name": item.group, "gid": item.gid}
            case User():
                return "ansible.builtin.user", self._user(item)
        raise SystemExit(f"no Ansible task is known for {item.key}")

    def _file(self, item: File) -> dict[str, Any]:
        source = self.files / self.host / item.path.strip("/").replace("/", "_")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(item.content)
        options = {
            "src": str(source), "dest": item.path, "owner": item.owner, "group": item.group,
            "mode": f"{item.mode:04o}",
        }  # fmt: skip
        if item.once:
            options["force"] = False  # type: ignore[assignment]
        if item.validate:
            options["validate"] = " ".join(item.validate).replace("{}", "%s")
        return options

    def _user(self, item: User) -> dict[str, Any]:
        options: dict[str, Any] = {
            "name": item.user, "uid": item.uid, "group": item.group, "home": item.home,
            "shell": item.shell, "comment": item.full_name, "create_home": item.create_home,
        }  # fmt: skip
        if item.groups:
            options |= {"groups": list(item.groups), "append": True}
        if item.password_hash:
            options["password"] = item.password_hash
        return options

    def _service(self, item: Service) -> list[Task]:
        causes = self._notes.pop(f"restart:{item.service}", [])
        reloads = self._notes.pop(f"reload:{item.service}", [])
        state = "started" if item.running else "stopped"
        if item.running and causes:
            state = f"{{{{ 'restarted' if {changed(causes)} else 'started' }}}}"
        elif item.running and reloads:
            state = f"{{{{ 'reloaded' if {changed(reloads)} else 'started' }}}}"
        options: dict[str, Any] = {"name": item.service, "enabled": item.enabled, "state": state}
        if self._units:
            options["daemon_reload"] = f"{{{{ {changed(self._units)} }}}}"
            self._units = []
        result = self._name()
        tasks: list[Task] = [
            {"name": item.key, "ansible.builtin.systemd_service": options, "register": result}
        ]
        if item.wait_port:
            wait = {"port": item.wait_port, "timeout": item.timeout, "sleep": 1}
            tasks.append(
                {
                    "name": f"{item.key} port {item.wait_port}",
                    "ansible.builtin.wait_for": wait,
                    "when": f"{result} is changed and not ansible_check_mode",
                }
            )
        return tasks

    def _command(self, item: Command) -> list[Task]:
        result = self._name()
        needed: list[Task] = [
            {
                "name": f"{item.key} needed?",
                "ansible.builtin.command": {"argv": as_user(item, item.check)},
                "register": result,
                "changed_when": False,
                "failed_when": False,
                "check_mode": False,
            }
        ]
        return [*needed, self._run(item, f"{result}.rc != 0")]

    def _run(self, item: Command, when: str) -> Task:
        options: dict[str, Any] = {"argv": as_user(item, item.run)}
        if item.stdin:
            options["stdin"] = plain(item.stdin)
        task: Task = {"name": item.key, "ansible.builtin.command": options, "when": when}
        if item.env:
            task["environment"] = dict(item.env)
        return task

    def _left(self) -> list[Task]:
        """Notifications that no service of this or a later stage answers."""
        tasks: list[Task] = []
        for note in [note for note in self._notes if note not in self._ahead]:
            causes = changed(self._notes.pop(note))
            verb, _, name = note.partition(":")
            if verb == "run":
                if note in self._commands:
                    tasks.append(self._run(self._commands[note], causes))
                continue
            options = {"name": name, "state": "restarted" if verb == "restart" else "reloaded"}
            tasks.append(
                {
                    "name": f"service:{name} {verb}",
                    "ansible.builtin.systemd_service": options,
                    "when": causes,
                }
            )
        return tasks


def as_user(item: Command, argv: Sequence[str]) -> list[str]:
    switch = ["runuser", "-u", item.user, "--"] if item.user else []
    return [plain(word) for word in (*switch, *argv)]


def changed(results: Sequence[str]) -> str:
    return "(" + " or ".join(f"{result} is changed" for result in results) + ")"


def write(
    folder: Path,
    cluster: Cluster,
    base: Path,
    declared: Sequence[Declared],
    python: str,
    addresses: Mapping[str, str],
) -> int:
    """Playbook, inventory, configuration and callback in ``folder``; the number of tasks.

    JSON is YAML too, so everything is written as JSON.
    """
    folder.mkdir(mode=0o700, parents=True)
    books = [Book(one, folder / "files") for one in declared]
    hosts = {one.node: {"ansible_host": addresses[one.node]} for one in declared}
    _json(folder / "inventory.yml", {"all": {"hosts": hosts}})
    plays: list[dict[str, Any]] = []
    facts = {"gather_facts": True, "gather_subset": ["!all", "min"]}
    names = dict.fromkeys(stage for one in declared for stage, _ in one.stages)
    total = 0
    for stage in names:
        members = [book for book in books if stage in book.stages]
        if not members:
            continue
        for book in members:
            tasks = [
                {**task, "ignore_errors": "{{ ansible_check_mode }}"} for task in book.stages[stage]
            ]
            total += len(tasks)
            _json(folder / f"{book.host}-{stage}.yml", tasks)
        include = {"name": stage, "ansible.builtin.include_tasks":
                   "{{ inventory_hostname }}-" + stage + ".yml"}  # fmt: skip
        plays.append(
            {
                "name": stage,
                "hosts": ",".join(book.host for book in members),
                "strategy": "free",
                **(facts if not plays else {"gather_facts": False}),
                "tasks": [include],
            }
        )
    _json(folder / "site.yml", plays)
    (folder / "callbacks").mkdir()
    (folder / "callbacks" / "spans.py").write_text(CALLBACK)
    (folder / "ansible.cfg").write_text(_settings(folder, cluster, base, python))
    return total


def _settings(folder: Path, cluster: Cluster, base: Path, python: str) -> str:
    ssh = cluster.ssh
    return (
        "[defaults]\n"
        f"inventory = {folder}/inventory.yml\n"
        f"remote_user = {ssh.user}\n"
        f"private_key_file = {base / ssh.key}\n"
        f"interpreter_python = {python}\n"
        f"local_tmp = {folder}/tmp\n"
        f"callback_plugins = {folder}/callbacks\n"
        "callbacks_enabled = spans\n"
        "forks = 10\n"
        "nocows = true\n"
        "[ssh_connection]\n"
        "pipelining = true\n"
        f"control_path_dir = {folder}/cp\n"
        f"ssh_args = -F none -o ControlMaster=auto -o ControlPersist=60s "
        f"-o UserKnownHostsFile={base / ssh.known_hosts} -o StrictHostKeyChecking=yes\n"
    )


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
