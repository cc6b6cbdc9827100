"""The shared kernels of a cluster, on its first login node, as root. Standard library only.

    kernel-room check FILE DIGEST    exit 0 if FILE's kernel is as it should be (a plan asks)
    kernel-room make FILE DIGEST     build it if it is not there or not that one, and show it
    kernel-room swept ENVS NAME...   exit 0 if no other kernels than these are left over
    kernel-room sweep ENVS NAME...   hide and remove others, and old versions nobody runs

and, with an order as JSON on standard input and lines of JSON on standard output
({"say": text}, at last {"done": {...}} or {"error": sentence}):

    kernel-room build | list | show | rollback | remove | test
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernels.build_env import PYTHON, BuildError
from kernels.node import building, job, present, shelf, slurm
from kernels.node.job import ANY_TRIAL, TRIALS
from kernels.node.request import Request
from kernels.node.words import short

NOT_KERNELS = frozenset({"server", "jupyter", "coursework"})
TEST_MINUTES = 10
Say = Callable[[str], None]


def roots(envs: Path) -> list[Path]:
    """The folders of kernels."""
    try:
        found = [path for path in envs.iterdir() if path.name not in NOT_KERNELS]
    except OSError:
        return []
    return sorted(path for path in found if path.is_dir() and shelf.numbers(path))


# --- what apply asks --------------------------------------------------------------------------


def as_wanted(envs: Path, request: Request) -> bool:
    """Whether the live version is of this request (or a rollback holds another), for every kind
    of processor that Slurm knows, and the launcher says so."""
    root = envs / request.name
    now = shelf.live(root)
    if not now or not _is_current(root, now, request):
        return False
    return present.is_shown(envs, request, now) and _is_open(root, request.group)


def _is_open(root: Path, group: str) -> bool:
    return (root.stat().st_mode & 0o777) == (0o750 if group else 0o755)


def _is_current(root: Path, version: int, request: Request) -> bool:
    known = shelf.record(root, version)
    try:
        held = (root / shelf.HELD).read_text()
    except OSError:
        held = ""
    if request.digest not in (known["digest"], held):
        return False
    try:
        kinds = set(slurm.kinds(slurm.machines()))
    except BuildError:
        return True  # whoever asks will hear of Slurm from others
    return kinds <= set(known["archs"])


def make(envs: Path, request: Request, say: Say) -> None:
    """Build what is missing, and show it."""
    root = envs / request.name
    with shelf.changing(root):
        now = shelf.live(root)
        if not now or not _is_current(root, now, request):
            _built(envs, request, say, {"by": "practicum apply"})
            return
        shelf.open_to(root, request.group)
        present.show(envs, request, now)


def _built(envs: Path, request: Request, say: Say, order: Mapping[str, Any]) -> dict[str, Any]:
    """A new version, shown; the caller holds the lock."""
    root = envs / request.name
    found = building.build(
        envs, request, say, by=str(order.get("by", "")), only_newer=bool(order.get("only_newer"))
    )
    now = shelf.live(root)
    (root / shelf.HELD).unlink(missing_ok=True)
    present.show(envs, request, now)
    gone = shelf.collect(root, request.keep)
    return {"record": found or shelf.record(root, now), "built": found is not None, "gone": gone}


def leftovers(envs: Path, declared: Sequence[str]) -> list[Path]:
    """Kernels that nobody declares, as far as something of them can go now."""
    return [
        root for root in roots(envs)
        if root.name not in declared
        and (present.folder(envs, root.name).exists()
             or any(not shelf.in_use(root, version) for version in shelf.numbers(root)))
    ]  # fmt: skip


def sweep(envs: Path, declared: Sequence[str]) -> None:
    for root in leftovers(envs, declared):
        with shelf.changing(root):
            _remove(envs, root)


def _remove(envs: Path, root: Path) -> list[int]:
    """Hide it, and remove the versions that no kernel runs from; those that stay."""
    present.hide(envs, root.name)
    (root / "current").unlink(missing_ok=True)
    left = [version for version in shelf.numbers(root) if not shelf.remove_version(root, version)]
    if not left:
        shutil.rmtree(root)
    return left


# --- what `practicum kernel` asks -------------------------------------------------------------


def build(envs: Path, order: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """``request``; ``new``: the name must be free; ``only_newer``: see building.build."""
    request = Request.read(json.dumps(order["request"]))
    root = envs / request.name
    if order.get("new") and shelf.live(root):
        raise BuildError(f"there is a kernel {request.name} already: practicum kernel update")
    with shelf.changing(root):
        try:
            return _built(envs, request, say, order)
        finally:
            if not shelf.numbers(root):
                shutil.rmtree(root)


def list_(envs: Path, _order: Mapping[str, Any], _say: Say) -> dict[str, Any]:
    return {"kernels": [_about(envs, root) for root in roots(envs)]}


def _about(envs: Path, root: Path) -> dict[str, Any]:
    now = shelf.live(root)
    versions = []
    for version in shelf.numbers(root):
        known = shelf.record(root, version)
        versions.append(
            {
                "version": version,
                "live": version == now,
                "in_use": shelf.in_use(root, version),
                **{key: known[key] for key in ("built", "by", "files", "bytes", "archs")},
                "request": known["request"],
            }
        )
    spec = present.folder(envs, root.name) / "kernel.json"
    return {
        "name": root.name,
        "version": now,
        "held": (root / shelf.HELD).exists(),
        "shown": spec.exists(),
        "versions": versions,
    }


def _known(envs: Path, order: Mapping[str, Any]) -> Path:
    name = str(order["name"])
    names = [root.name for root in roots(envs)]
    if name not in names:
        raise BuildError(f"there is no kernel {name}; there are: {', '.join(names) or 'none'}")
    return envs / name


def show(envs: Path, order: Mapping[str, Any], _say: Say) -> dict[str, Any]:
    """One kernel, with the lock and record of ``version`` (0: the live one)."""
    root = _known(envs, order)
    version = int(order.get("version") or shelf.live(root))
    if version not in shelf.numbers(root):
        raise BuildError(_no_version(root, version))
    texts = building.locks(root / str(version))
    return {**_about(envs, root), "shown_version": version, "locks": texts,
            "record": shelf.record(root, version)}  # fmt: skip


def _no_version(root: Path, version: int) -> str:
    there = ", ".join(map(str, shelf.numbers(root)))
    return f"{root.name} has no version {version}; there are: {there}"


def rollback(envs: Path, order: Mapping[str, Any], _say: Say) -> dict[str, Any]:
    """Make ``version`` live (0: the one before the live one). Held until the next update: what
    cluster.toml asks for now is what is being avoided."""
    root = _known(envs, order)
    with shelf.changing(root):
        now, whole = shelf.live(root), shelf.numbers(root)
        before = [version for version in whole if version < now]
        version = int(order.get("version") or (before[-1] if before else 0))
        if not version:
            raise BuildError(f"{root.name} has no version before {now}")
        if version not in whole:
            raise BuildError(_no_version(root, version))
        known = shelf.record(root, version)
        request = Request.read(json.dumps(order["request"]))
        kinds = set(shelf.record(root, now)["archs"]) if now else set()
        if missing := sorted(kinds - set(known["archs"])):
            raise BuildError(f"version {version} of {root.name} is not built for {missing[0]}")
        shelf.put_link(root, version)
        shelf.write(root / shelf.HELD, request.digest)
        present.show(envs, request, version)
    return {"from": now, "version": version, "record": known}


def remove(envs: Path, order: Mapping[str, Any], _say: Say) -> dict[str, Any]:
    """Hide it and remove what no kernel runs from; refused while one runs, unless ``later``."""
    root = _known(envs, order)
    with shelf.changing(root):
        used = [version for version in shelf.numbers(root) if shelf.in_use(root, version)]
        if used and not order.get("later"):
            words = ", ".join(map(str, used))
            raise BuildError(
                f"kernels run from {root.name} (version {words}): end them, or hide it now and "
                "remove it when they have ended (--later)"
            )
        return {"left": _remove(envs, root)}


def test(envs: Path, order: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Start the kernel as the launcher would, in a job, and run a cell: on ``node``, or on a node
    of each kind of processor."""
    root = _known(envs, order)
    now = shelf.live(root)
    asked = {**shelf.record(root, now)["request"], **dict(order)}
    known = slurm.machines()
    wanted = str(order.get("node", ""))
    if wanted:
        if wanted not in {node.name for node in known}:
            raise BuildError(f"there is no compute node {wanted}")
        excludes = {wanted: [node.name for node in known if node.name != wanted]}
    else:
        excludes = {arch: [node.name for node in known if node.arch != arch]
                    for arch in slurm.kinds(known)}  # fmt: skip
    results = []
    for what, exclude in excludes.items():
        say(f"starting it on {wanted or f'a node with a processor {what}'}")
        results.append(_test_job(envs, root.name, exclude, asked))
    return {"version": now, "results": results}


def _test_job(
    envs: Path, name: str, exclude: Sequence[str], order: Mapping[str, Any]
) -> dict[str, Any]:
    code, answer = TRIALS.get(str(order["language"]), ANY_TRIAL)
    code = str(order.get("code") or code)
    with tempfile.TemporaryDirectory(prefix=".test-", dir=envs) as folder:
        place = Path(folder)
        if os.geteuid() == 0:
            account = slurm.builder()
            os.chown(place, account.pw_uid, account.pw_gid)
        words = [PYTHON, "-I", str(building.ROOM), "try", str(envs), name, code, folder]
        number = slurm.submit(
            slurm.Order(
                name=f"practicum-test-{name}",
                command=shlex.join(words),
                output=place / "output",
                partition=str(order.get("partition", "")),
                minutes=TEST_MINUTES,
                exclude=exclude,
                group=str(order["group"]),
            )
        )
        try:
            state, node = slurm.wait(number, building.QUEUE_SECONDS, lambda _waiting: None)
        except BaseException:
            slurm.cancel(number)
            raise
        told = place / "told.json"
        if not shelf.appears(told, building.WORD_SECONDS if state == "COMPLETED" else 3):
            output = building._last_line(place / "output")
            raise BuildError(f"{slurm.ended(state, node, number)}: {output}")
        found: dict[str, Any] = json.loads(shelf.read_theirs(told))
    right = bool(found["ok"]) and (bool(order.get("code")) or found["output"] == answer)
    return {**found, "ok": right, "node": node}


ACTIONS: dict[str, Callable[[Path, Mapping[str, Any], Say], dict[str, Any]]] = {
    "build": build,
    "list": list_,
    "show": show,
    "rollback": rollback,
    "remove": remove,
    "test": test,
}


# --- the command ------------------------------------------------------------------------------


def serve(action: str) -> int:
    """One order from standard input."""

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)  # noqa: T201

    try:
        order = json.load(sys.stdin)
        done = ACTIONS[action](Path(order["envs"]), order, lambda text: tell({"say": text}))
    except (BuildError, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, BrokenPipeError):
            return 1  # nobody listens any more, and what was begun is undone
        tell({"error": sentence(error)})
        return 1
    tell({"done": done})
    return 0


def sentence(error: Exception) -> str:
    """What to tell an admin."""
    if isinstance(error, BuildError):
        return str(error)
    if isinstance(error, OSError):
        return short(str(error))  # a full disk, most often
    return f"{type(error).__name__}: {error}"


def applied(action: str, words: Sequence[str]) -> int:
    """What a role's command asks; sentences as text."""
    if action in ("swept", "sweep"):
        envs, declared = Path(words[0]), words[1:]
        if action == "swept":
            return 1 if leftovers(envs, declared) else 0
        sweep(envs, declared)
        return 0
    text = Path(words[0]).read_bytes()
    if len(words) > 1 and hashlib.sha256(text).hexdigest() != words[1]:
        if action == "check":
            return 1  # a plan is asked before the order is there
        raise BuildError("the order on this node is not the one that was planned; apply again")
    order = json.loads(text)
    envs, request = Path(order["envs"]), Request.read(json.dumps(order["request"]))
    if action == "check":
        return 0 if as_wanted(envs, request) else 1
    make(envs, request, lambda text: print(text, flush=True) if text else None)  # noqa: T201
    return 0


def main(argv: Sequence[str]) -> int:
    os.umask(0o022)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))  # what was begun is undone on the way out
    action, words = (argv[0], argv[1:]) if argv else ("", [])
    if action in ACTIONS:
        return serve(action)
    if action == "job":
        return job.main(Path(words[0]), words[1], int(words[2]))
    if action == "try":
        return job.attempt(Path(words[0]), words[1], words[2], Path(words[3]))
    if action not in ("check", "make", "swept", "sweep"):
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    try:
        return applied(action, words)
    except (BuildError, OSError, ValueError) as error:
        if action in ("make", "sweep"):
            what, left = "kernels", "they are as they were"
            if action == "make":
                what = f"kernel {Path(words[0]).stem.removeprefix('kernel-')}"
                left = "what was live before stays live"
            print(f"{what}: {sentence(error)}; {left}", file=sys.stderr)  # noqa: T201
        return 1
