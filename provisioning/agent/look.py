"""How the machine is: what `practicum status` asks. Nothing is judged here, and nothing is changed
but for token files, which show whether a folder is the shared one and go when the agent ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Union

from provisioning.agent.host import PATH, AgentError, Host
from provisioning.agent.services import Units

# Local file systems worth a look; a folder that is none of its own is dropped.
PLACES = ("/", "/boot", "/boot/firmware", "/var", "/var/lib", "/var/log", "/tmp", "/srv")  # noqa: S108
FOLDER_SECONDS = 10  # a file server that is away keeps whoever asks for ever
MUNGE_SECONDS = 10
HTTP_SECONDS = 5
TOKEN = ".practicum-status-"

# A process of its own, so that it can be given up.
PROBE = """\
import json, os, sys
path, token = sys.argv[1:3]
told = {"there": os.path.isdir(path)}
if told["there"]:
    info = os.statvfs(path)
    told.update(total=info.f_blocks * info.f_frsize, free=info.f_bavail * info.f_frsize,
                readonly=bool(info.f_flag & os.ST_RDONLY))
    if token:
        try:
            with open(os.path.join(path, token)) as stream:
                told["token"] = stream.read(100)
        except FileNotFoundError:
            told["token"] = ""
        except OSError as error:
            told["error"] = error.strerror
print(json.dumps(told))
"""


def machine(host: Host, message: Mapping[str, Any]) -> dict[str, Any]:
    """load, memory, disks, uptime, and whatever the message asks for."""
    units = Units(host)
    names = list(message["units"])
    try:
        units.fetch(names)
        states = {name: units.get(name)._asdict() for name in names}
    except AgentError as error:
        states = {name: {"load": "", "active": str(error), "enabled": ""} for name in names}
    return {
        "uptime": _uptime(),
        "boot": _text("/proc/sys/kernel/random/boot_id").strip(),
        "load": os.getloadavg()[0],
        "memory": _memory(_text("/proc/meminfo")),
        "disks": disks([*PLACES, *message["disks"]]),
        "units": states,
        "answers": _answers(message["commands"]),
        "pages": {name: _page(*place) for name, place in message["pages"].items()},
        "credential": _credential(),
    }


def disks(places: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each file system below ``places``: bytes and inodes, all and free."""
    seen: set[int] = set()
    found = []
    for path in places:
        try:
            device = os.stat(path).st_dev
            info = os.statvfs(path)
        except OSError:  # not on this machine
            continue
        if device in seen or not info.f_blocks:
            continue
        seen.add(device)
        found.append(
            {
                "path": path,
                "total": info.f_blocks * info.f_frsize,
                "free": info.f_bavail * info.f_frsize,
                "files": info.f_files,
                "files_free": info.f_favail,
            }
        )
    return found


class Tokens:
    """Files that one node writes into shared folders and the others look for."""

    def __init__(self) -> None:
        self._written: list[str] = []

    def write(self, folders: Sequence[str], token: str) -> dict[str, str]:
        """Errors by folder; none is "". In another process: a dead server must not hold us."""
        told = {}
        for folder in folders:
            path = os.path.join(folder, TOKEN + token)
            program = (
                "import os, sys; "
                "handle = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644); "
                "os.write(handle, sys.argv[2].encode()); os.fsync(handle)"
            )
            self._written.append(path)
            code, out, error = _run([sys.executable, "-ISc", program, path, token], FOLDER_SECONDS)
            told[folder] = "" if code == 0 else (error or out).strip().rpartition("\n")[2]
        return told

    def remove(self) -> None:
        for path in self._written:
            _run(["rm", "-f", "--", path], FOLDER_SECONDS)
        self._written.clear()


def across(message: Mapping[str, Any]) -> dict[str, Any]:
    """What needs something of other nodes: their credentials, and tokens in shared folders."""
    return {
        "opened": {node: _open(text) for node, text in message["credentials"].items()},
        "folders": {path: _folder(path, message["token"]) for path in message["folders"]},
    }


def _folder(path: str, token: str) -> dict[str, Any]:
    argv = [sys.executable, "-ISc", PROBE, path, TOKEN + token if token else ""]
    code, out, error = _run(argv, FOLDER_SECONDS)
    if code != 0:
        said = "does not answer" if code == -1 else error.strip().rpartition("\n")[2]
        told: dict[str, Any] = {"there": False, "error": said}
    else:
        told = dict(json.loads(out))
    told["mount"] = mount_of(_text("/proc/self/mountinfo"), path)
    return told


def mount_of(table: str, path: str) -> Union[list[str], None]:
    """[source, type] of what is mounted on exactly that path (proc(5), mountinfo), automounts
    that have not mounted anything aside."""
    found = None
    for line in table.splitlines():
        head, _, tail = line.partition(" - ")
        fields, kinds = head.split(" "), tail.split(" ")
        if len(fields) > 4 and len(kinds) > 1 and fields[4] == path and kinds[0] != "autofs":
            found = [kinds[1], kinds[0]]
    return found


def _credential() -> dict[str, Any]:
    code, out, error = _run(["munge", "--no-input"], MUNGE_SECONDS)
    return {"code": code, "text": out.strip() if code == 0 else error.strip()}


def _open(credential: str) -> int:
    """unmunge's exit status: munge's own numbers (munge.h); -1 when it cannot be run."""
    return _run(["unmunge", "--no-output"], MUNGE_SECONDS, credential)[0]


def _answers(commands: Mapping[str, Any]) -> dict[str, Any]:
    answers = {}
    for name, (argv, env, seconds) in commands.items():
        code, out, error = _run(argv, seconds, env=env)
        answers[name] = {"code": code, "out": out, "error": error}
    return answers


def _run(
    argv: Sequence[str], seconds: float, text: str = "", env: Union[Mapping[str, str], None] = None
) -> tuple[int, str, str]:
    """Exit status and both streams; -1 for what cannot be run or does not end in time."""
    surroundings = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **(env or {})}
    surroundings["PATH"] = PATH
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=surroundings, cwd="/", start_new_session=True,
        )  # fmt: skip
    except OSError as reason:
        return -1, "", f"{argv[0]}: {reason.strerror}"
    try:
        out, error = process.communicate(text.encode(), seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel: leave it
            process.communicate(timeout=1)
        return -1, "", f"{argv[0]} did not answer within {seconds:.0f} s"
    return process.returncode, out.decode("utf-8", "replace"), error.decode("utf-8", "replace")


def _page(host: str, port: int, path: str) -> dict[str, Any]:
    """The status of a page over plain HTTP; 0 and the reason when there is none."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=HTTP_SECONDS) as connection:
            connection.sendall(request.encode())
            head = connection.recv(4096).decode("latin-1").split(" ", 2)
    except OSError as error:
        return {"status": 0, "error": error.strerror or "no answer"}
    known = len(head) > 1 and head[0].startswith("HTTP/") and head[1].isdigit()
    return {"status": int(head[1]) if known else 0, "error": "" if known else "no HTTP"}


def _memory(text: str) -> dict[str, int]:
    """Megabytes: all, and what can still be had (proc(5), meminfo)."""
    values = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if ":" in line}
    return {
        "total_mb": int(values.get("MemTotal", 0)) // 1024,
        "free_mb": int(values.get("MemAvailable", 0)) // 1024,
    }


def _uptime() -> float:
    return float((_text("/proc/uptime").split() or ["0"])[0])


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
