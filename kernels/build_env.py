#!/usr/bin/python3
"""Builds one Python environment on a node, and makes it the live one. Standard library only.

    build_env.py check SPEC DIGEST     exit 0 if the live version is the wanted one
    build_env.py build SPEC DIGEST     build it if it is not there, then move the link

SPEC is a JSON file that a role wrote (keys: see :class:`Spec`); DIGEST is :func:`digest` of it
and of the files it names, so a plan knows what it will change before the files are there.

A version is built at its final path, ROOT/VERSION, for environments cannot be moved. It is
live once the link ROOT/current points to it, and the link moves in one step: whoever starts
something sees the old version or the new one, whole. A failed or interrupted build leaves the
link as it was; the next run clears the half-built folder away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON = "/usr/bin/python3"
UV = "/usr/local/lib/practicum/uv/current/bin/uv"
CACHE = Path("/var/cache/practicum/uv")
STAMP = ".practicum-complete"
LOCK = "requirements.lock"
UV_LEFTOVERS = (".lock", ".gitignore", "CACHEDIR.TAG")  # the first is writable for everyone
STEP_LIMIT = 1500  # seconds for one call of pip or uv
QUICK_LIMIT = 120  # seconds for what needs no network


class BuildError(Exception):
    """One sentence for the admin."""


@dataclass(frozen=True)
class Spec:
    """What an environment holds.

    ``requirements`` is a pinned file with hashes, ``packages`` a list for the solver,
    ``wheels`` local files installed last without their dependencies. ``files`` are written into
    the version (relative path → text), folders ``remove`` (with wildcards) taken out of it.
    ``imports`` must work before it goes live. ``keep`` older versions stay (0: all of them).
    """

    name: str
    root: str
    tool: str = "uv"  # or "pip", which needs nothing but python3-venv
    requirements: str = ""
    packages: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    keep: int = 0

    def text(self) -> str:
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return json.dumps(values, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> Spec:
        values = json.loads(path.read_text())
        for key in ("packages", "wheels", "remove", "imports"):
            values[key] = tuple(values.get(key, ()))
        values["files"] = tuple((name, text) for name, text in values.get("files", ()))
        return cls(**values)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths of the files that decide what is built."""
        return tuple(path for path in (self.requirements, *self.wheels) if path)


def digest(spec: Spec, inputs: Sequence[bytes], script: bytes) -> str:
    """Of all that decides the outcome but the node's Python: spec, input files, this script."""
    total = hashlib.sha256()
    for part in (spec.text().encode(), *inputs, script):
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def version_name(wanted: str, python: str, machine: str) -> str:
    """A version's folder: another Python or processor makes another version of the same spec."""
    text = f"{wanted} {python} {machine}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def own_version(wanted: str) -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return version_name(wanted, python, platform.machine())


def live(root: Path) -> str:
    """The version that ``current`` points to, "" if there is none."""
    try:
        return (root / "current").readlink().name
    except OSError:
        return ""


def is_live(spec: Spec, wanted: str) -> bool:
    version = own_version(wanted)
    return live(Path(spec.root)) == version and (Path(spec.root) / version / STAMP).is_file()


def environment() -> dict[str, str]:
    """For pip and uv: the site's certificates and proxies, nobody's Python settings."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA", "PIP_TARGET", "PIP_USER"))
    }
    kept.setdefault("HOME", "/root")
    kept.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    own = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1",
           "UV_LINK_MODE": "copy", "UV_HTTP_TIMEOUT": "120", "UV_NO_CONFIG": "1",
           "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LC_ALL": "C.UTF-8"}  # fmt: skip
    if CACHE.is_dir():
        own["UV_CACHE_DIR"] = str(CACHE)
    return {**kept, **own}


def call(what: str, argv: Sequence[str], env: dict[str, str], limit: int = STEP_LIMIT) -> str:
    """Runs one step; its output when it went well. Raises BuildError with its last words."""
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BuildError(f"{what}: {argv[0]} is not there") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{what}: gave up after {limit} s") from error
    if done.returncode != 0:
        words = " ".join(done.stdout.split())
        raise BuildError(f"{what}: {words[-600:] or f'exit status {done.returncode}'}")
    return done.stdout


def site_indexes(env: dict[str, str]) -> dict[str, str]:
    """A mirror that the site has set for pip, in uv's words: uv does not read pip's settings."""
    python = str(Path(UV).parent / "python")  # its environment has pip
    try:
        listed = call("pip config", [python, "-m", "pip", "config", "list"], env, QUICK_LIMIT)
    except BuildError:
        return {}  # no pip, no settings of pip's
    found: dict[str, str] = {}
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX"}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        urls = value.strip("'\"").replace("\\n", " ").split()
        urls = [url for url in urls if url.startswith(("http://", "https://"))]
        if name and urls:
            found[name] = " ".join(urls)
    return found


def install(spec: Spec, target: Path) -> None:
    """Fills ``target`` with a fresh environment."""
    env = environment()
    python = str(target / "bin/python")
    if spec.tool == "pip":
        call("cannot make a venv", [PYTHON, "-m", "venv", str(target)], env, QUICK_LIMIT)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        hashed = ["--require-hashes", "--only-binary", ":all:", "-r", spec.requirements]
        call("pip cannot install", [*pip, *hashed], env)
        return
    env.update(site_indexes(env))
    new = [UV, "venv", "--quiet", "--python", PYTHON, str(target)]
    call("cannot make a venv", new, env, QUICK_LIMIT)
    pip = [UV, "pip", "install", "--quiet", "--python", python, "--compile-bytecode"]
    if spec.requirements:
        call("uv cannot install", [*pip, "--require-hashes", "-r", spec.requirements], env)
    if spec.packages:
        call("uv cannot install", [*pip, "--", *spec.packages], env)
    if spec.wheels:
        # not cached: a wheel of this name may have other contents tomorrow
        call("uv cannot install", [*pip, "--no-deps", "--no-cache", *spec.wheels], env)


def finish(spec: Spec, target: Path) -> None:
    """What comes after the packages: own files, a trial, the list of what is in it, the stamp."""
    for folder in [found for name in spec.remove for found in target.glob(name)]:
        shutil.rmtree(folder)
    for name, text in spec.files:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    python = str(target / "bin/python")
    env = environment()
    if spec.imports:
        trial = "; ".join(f"import {name}" for name in spec.imports)
        call("the new environment does not work", [python, "-I", "-c", trial], env, QUICK_LIMIT)
    if spec.tool == "uv":
        freeze = [UV, "pip", "freeze", "--quiet", "--python", python]
        (target / LOCK).write_text(call("uv cannot list", freeze, env, QUICK_LIMIT))
    for name in UV_LEFTOVERS:
        (target / name).unlink(missing_ok=True)
    (target / STAMP).write_text(f"{spec.name}\n")


def publish(root: Path, version: str) -> None:
    """Moves ``current``, in one step."""
    fresh = root / f".current.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(version)
    fresh.replace(root / "current")


def prune(root: Path, keep: int) -> None:
    """Keeps the live version and the ``keep`` newest others; 0 keeps all (others may run them)."""
    if keep <= 0:
        return
    now = live(root)
    old = [path for path in root.iterdir() if (path / STAMP).is_file() and path.name != now]
    old = [path for path in old if not path.is_symlink()]
    old.sort(key=lambda path: (path / STAMP).stat().st_mtime, reverse=True)
    for path in old[keep:]:
        shutil.rmtree(path)


def build(spec: Spec, wanted: str) -> str:
    """Builds what is missing and publishes it; one sentence about what was done."""
    here = digest(spec, [Path(path).read_bytes() for path in spec.inputs], own_script())
    if here != wanted:
        raise BuildError("the files on this node are not the ones that were planned; apply again")
    root = Path(spec.root)
    root.mkdir(parents=True, exist_ok=True)
    version = own_version(wanted)
    target = root / version
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # bounded by the other builder's own limits
        if not (target / STAMP).is_file():
            _build_new(spec, target)
        publish(root, version)
        prune(root, spec.keep)
    return f"{spec.name}: version {version} is live"


def _build_new(spec: Spec, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)  # left by a build that was cut off
    try:
        install(spec, target)
        finish(spec, target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def own_script() -> bytes:
    return Path(__file__).read_bytes()


def main(argv: Sequence[str]) -> int:
    if len(argv) != 3 or argv[0] not in ("check", "build"):
        print("usage: build_env.py check|build SPEC DIGEST", file=sys.stderr)  # noqa: T201
        return 2
    action, path, wanted = argv
    os.umask(0o022)
    name = Path(path).stem
    try:
        spec = Spec.read(Path(path))
        name = spec.name
        if action == "check":
            return 0 if is_live(spec, wanted) else 1
        print(build(spec, wanted))  # noqa: T201
    except (BuildError, OSError, ValueError, TypeError) as error:
        if action == "build":
            left = "what was live before stays live"
            print(f"environment {name}: {error}; {left}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
