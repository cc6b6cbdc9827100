"""One new version of a kernel: build jobs for each kind of processor, then the version goes live.
Runs as root on the first login node. Standard library only."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kernels import build_env
from kernels.build_env import BuildError
from kernels.node import images, present, shelf, slurm
from kernels.node import job as job_module
from kernels.node.job import HERE
from kernels.node.request import Request

ROOM = Path("/usr/local/lib/practicum/kernel-room")
PINS = ("uv", "rattler")
WORD_SECONDS = 75  # until another node's files are seen: see shelf.appears
QUEUE_SECONDS = 24 * 3600
Say = Callable[[str], None]


def tools(envs: Path, library: Path = ROOM.parent) -> None:
    """What build jobs need on the shared storage: uv for this processor, and pins."""
    place = envs / ".tools"
    (place / platform.machine()).mkdir(parents=True, exist_ok=True)
    uv = Path(build_env.UV)
    target = place / platform.machine() / "uv"
    if uv.is_file() and not (
        target.is_file() and target.stat().st_size == uv.stat().st_size
        and target.stat().st_mtime >= uv.stat().st_mtime
    ):  # fmt: skip
        fresh = target.with_name(f".uv-{os.getpid()}")
        shutil.copyfile(uv, fresh)
        fresh.chmod(0o755)
        fresh.replace(target)
    for name in PINS:
        source = library / f"{name}-requirements.txt"
        if source.is_file():
            shelf.write(place / source.name, source.read_text())


def build(
    envs: Path, request: Request, say: Say, *, by: str = "", only_newer: bool = False
) -> dict[str, Any] | None:
    """Build a version and make it live; its record. BuildError leaves all as it was.

    With ``only_newer`` it is thrown away, and None returned, when it came out as the live one is.
    The caller holds :func:`shelf.changing` of the kernel.
    """
    root = envs / request.name
    shelf.open_to(root, request.group)  # the job is of the group, and so gets in
    if (root / "current").is_dir() and not (root / "current").is_symlink():
        shelf.put_link(root, 0)  # says what is wrong, before anything is built
    shelf.collect(root, request.keep + 1)
    version = max([*shelf.numbers(root), 0]) + 1
    place = root / str(version)
    began = time.time()
    try:
        place.mkdir(mode=0o755)
        (place / "request.json").write_text(request.text())
        if request.lock:
            (place / shelf.LOCK).write_text(request.lock)
        if HERE in os.environ:
            facts = {platform.machine(): _here(envs, request, version)}
        else:
            facts = _jobs(envs, request, version, say)
        if only_newer and _same(root, shelf.live(root), version, request, facts):
            shelf.discard(root, str(version))
            _restore(root, request)
            return None
        found = _finish(envs, request, version, facts, began, by, say)
    except BaseException:
        shelf.discard(root, str(version))
        _restore(root, request)
        raise
    shelf.put_link(root, version)
    shelf.open_to(root, request.group)
    return found


def _same(root: Path, live: int, version: int, request: Request, facts: Mapping[str, Any]) -> bool:
    """Whether two versions hold the same packages for the same Pythons."""
    if not live:
        return False
    known = shelf.record(root, live)
    pythons = {arch: (fact["python"], fact["tool"]) for arch, fact in facts.items()}
    before = {arch: (fact["python"], fact["tool"]) for arch, fact in known["archs"].items()}
    return (
        known["digest"] == request.digest
        and pythons == before
        and locks(root / str(live)) == locks(root / str(version))
    )


def locks(place: Path) -> dict[str, str]:
    """The texts of a version's lock files by name: one for all processors, of conda one each."""
    return {path.name: path.read_text() for path in sorted(place.glob(f"{shelf.LOCK}*"))}


def _restore(root: Path, request: Request) -> None:
    """After a failure: closed again, and no folder for a kernel that never was."""
    now = shelf.live(root)
    if not now:
        return
    group = request.group
    try:
        group = str(shelf.record(root, now)["request"].get("group", group))
    finally:
        shelf.open_to(root, group)


def _work_folder(place: Path, arch: str) -> Path:
    """The two folders that the builder fills."""
    theirs = os.geteuid() == 0 and HERE not in os.environ
    uid = slurm.builder().pw_uid if theirs else -1
    folder = place / f".work-{arch}"
    for path in (folder, place / arch):
        path.mkdir(mode=0o755)
        if theirs:
            os.chown(path, uid, uid)
    return folder


def _here(envs: Path, request: Request, version: int) -> dict[str, Any]:
    place = envs / request.name / str(version)
    tools(envs)
    work = _work_folder(place, platform.machine())
    if job_module.main(envs, request.name, version):
        raise BuildError(shelf.read_theirs(work / "error"))
    return _collected(place, platform.machine(), request)


def _jobs(envs: Path, request: Request, version: int, say: Say) -> dict[str, Any]:
    """A job for each kind of processor, one after the other: the first one's lock is all's."""
    known = slurm.machines()
    kinds = slurm.kinds(known)
    place = envs / request.name / str(version)
    tools(envs)
    name = f"practicum-kernel-{request.name}"
    slurm.cancel_named(name)
    indexes = build_env.site_indexes(build_env.environment())
    facts = {}
    for arch in sorted(kinds):
        work = _work_folder(place, arch)
        words = [build_env.PYTHON, "-I", str(ROOM), "job", str(envs), request.name, str(version)]
        order = slurm.Order(
            name=name, command=shlex.join(words), output=work / "output",
            partition=request.partition, minutes=request.minutes, group=request.group,
            exclude=[node.name for node in known if node.arch != arch],
        )  # fmt: skip
        number = slurm.submit(order, indexes)
        try:
            _follow(number, work, arch, request, say)
        except BaseException:
            slurm.cancel(number)
            raise
        facts[arch] = _collected(place, arch, request)
    return facts


def _follow(number: int, work: Path, arch: str, request: Request, say: Say) -> None:
    """Tell what the job is at, to its end. BuildError with its own sentence when it failed."""
    told = {"waiting": "", "said": ""}

    def beat(waiting: str) -> None:
        if waiting and waiting != told["waiting"]:
            say(f"{arch}: job {number} {waiting}")
        told["waiting"] = waiting
        line = _last_line(work / "said")
        if line != told["said"]:
            told["said"] = line
            say(f"{arch}: {line}")
        elif not waiting:
            say("")  # a sign of life: whoever listens may have gone

    state, node = slurm.wait(number, QUEUE_SECONDS + request.minutes * 60, beat)
    if state == "COMPLETED" and shelf.appears(work / "facts.json", WORD_SECONDS):
        return
    error = work / "error"
    if state in ("FAILED", "COMPLETED") and shelf.appears(error, 5):
        raise BuildError(f"{shelf.read_theirs(error, 1000).strip()} (on {node}, {arch})")
    output = _last_line(work / "output")
    raise BuildError(slurm.ended(state, node, number) + (f": {output}" if output else ""))


def _last_line(path: Path) -> str:
    try:
        lines = shelf.read_theirs(path).split("\n")
    except BuildError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")[:300]


def _collected(place: Path, arch: str, request: Request) -> dict[str, Any]:
    """What the job noted; its lock becomes the version's."""
    work = place / f".work-{arch}"
    facts: dict[str, Any] = json.loads(shelf.read_theirs(work / "facts.json"))
    own = work / shelf.LOCK
    if os.path.lexists(own):
        name = f"{shelf.LOCK}-{arch}" if request.language == "conda" else shelf.LOCK
        (place / name).write_text(shelf.read_theirs(own))
    if not (place / arch / shelf.STAMP).is_file():
        raise BuildError(f"the build for {arch} is not whole")
    return facts


def _images(place: Path, request: Request, archs: Iterable[str], say: Say) -> dict[str, int]:
    """The images' bytes, by processor. Not of conda: its packages have their place written into
    them; not of R, which is the system's; and not of a group's own: nodes mount as root, who is
    nobody on the file server, and everybody could read it."""
    if request.language != "python" or request.group or not os.access(images.PROGRAM, os.X_OK):
        return {}
    made = {}
    for arch in archs:
        say(f"{arch}: making its image")
        made[arch], why = images.make(place / arch)
        if why:
            say(f"{arch}: no image of it ({why}); nodes use its files")
    return {arch: size for arch, size in made.items() if size}


def _finish(
    envs: Path,
    request: Request,
    version: int,
    facts: Mapping[str, Any],
    began: float,
    by: str,
    say: Say,
) -> dict[str, Any]:
    """All of it becomes root's, then the record is written: from then on it is a version."""
    place = envs / request.name / str(version)
    for arch in facts:
        shutil.rmtree(place / f".work-{arch}")
    if os.geteuid() == 0:
        shelf.take_over(place)
    files, total = shelf.size(place)
    packed = _images(place, request, facts, say)
    found = {
        "name": request.name,
        "version": version,
        "digest": request.digest,
        "request": json.loads(request.text()),
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - began, 1),
        "by": by,
        "archs": dict(facts),
        "files": files,
        "bytes": total,
        "image_bytes": packed,
        "login_python": sys.version.split()[0],
    }
    (place / shelf.START).write_text(present.start_json(request))
    (place / shelf.LEASE).touch(mode=0o644)
    (place / "request.json").unlink()
    shelf.write(place / shelf.RECORD, json.dumps(found, indent=1, sort_keys=True) + "\n")
    return found
