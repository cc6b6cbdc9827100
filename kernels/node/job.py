"""Builds one version of a kernel for this node's processor: what a build job runs, as an account
that owns nothing but the folder it fills. Standard library only.

``WORK`` takes what the login node reads afterwards: ``said`` (what it is at), ``error`` (one
sentence), ``lock`` and ``facts.json``. The stamp in the environment comes last.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernels.build_env import PYTHON, UV_LEFTOVERS, BuildError
from kernels.node import conda, present, shelf
from kernels.node.request import Request
from kernels.node.words import short

HERE = "PRACTICUM_BUILD_HERE"  # set: not in a job, for a machine without Slurm (tests' VMs)
STEP_LIMIT = 3000  # seconds; the job's own limit is shorter in most cases
QUICK_LIMIT = 180
CACHE = "/var/cache/practicum-build"
KEPT = ("LANG", "PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "TMPDIR", "UV_DEFAULT_INDEX",
        "UV_INDEX")  # fmt: skip
TRIALS = {"r": ("cat(6*7)", "42")}
ANY_TRIAL = ("print(6*7)", "42")


class Work:
    """Where this job writes, and what it runs."""

    def __init__(self, envs: Path, request: Request, version: int, home: Path) -> None:
        self.request = request
        self.arch = platform.machine()
        self.version = envs / request.name / str(version)
        self.target = self.version / self.arch
        self.folder = self.version / f".work-{self.arch}"
        self.tools = envs / ".tools"
        self.home = home
        self.server = envs / "server/current/bin/python"
        self.env = self._environment()
        # before a program: what compiles must find the compiler and MPI that the kernel will have
        modules = () if HERE in os.environ else request.modules
        self.with_modules = (present.START, "--run", *modules, "--") if modules else ()

    def _environment(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items()
               if key in KEPT or key.lower().endswith("_proxy")}  # fmt: skip
        env.update(
            HOME=str(self.home), LC_ALL="C.UTF-8", UV_NO_CONFIG="1", UV_NO_PROGRESS="1",
            UV_SYSTEM_CERTS="1", UV_LINK_MODE="copy", UV_HTTP_TIMEOUT="120",
            UV_PYTHON_DOWNLOADS="automatic" if self.request.python else "never",
            UV_PYTHON_INSTALL_DIR=str(self.target / "python"),
            UV_CACHE_DIR=CACHE if os.access(CACHE, os.W_OK) else str(self.home / "cache"),
            PIP_DISABLE_PIP_VERSION_CHECK="1", IPYTHONDIR=str(self.home / "ipython"),
            JUPYTER_RUNTIME_DIR=str(self.home / "runtime"),
        )  # fmt: skip
        return env

    def say(self, text: str) -> None:
        with (self.folder / "said").open("a") as stream:
            stream.write(f"{text}\n")

    def call(
        self,
        what: str,
        argv: Sequence[str | Path],
        limit: int = STEP_LIMIT,
        more: Mapping[str, str] | None = None,
    ) -> str:
        """Run one step; its output. BuildError with what it said, shortened."""
        words = [str(word) for word in argv]
        try:
            done = subprocess.run(
                words, env={**self.env, **(more or {})}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=limit, check=False,
                cwd=self.home,
            )  # fmt: skip
        except FileNotFoundError:
            raise BuildError(f"{what}: {words[0]} is not there") from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"{what}: gave up after {limit} s") from None
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise BuildError(f"{what}: {short(said) or f'exit status {done.returncode}'}")
        return done.stdout


def main(envs: Path, name: str, version: int) -> int:
    """Exit status of the job; the sentence for the admin is in ``WORK/error``."""
    root = envs / name / str(version)
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # scancel: the finally clauses run
    request = Request.read((root / "request.json").read_text())
    with tempfile.TemporaryDirectory(prefix="practicum-kernel-") as home:
        work = Work(envs, request, version, Path(home))
        try:
            build(work)
        except (BuildError, OSError, ValueError) as error:
            text = short(str(error)) if isinstance(error, OSError) else str(error)
            with contextlib.suppress(OSError):  # a full disk: the exit status has to do
                shutil.rmtree(work.target, ignore_errors=True)
                (work.folder / "error").write_text(text)
            sys.stderr.write(f"{text}\n")
            return 1
    return 0


def build(work: Work) -> None:
    """All steps. BuildError, or OSError of a disk."""
    began = time.monotonic()
    if struct.calcsize("P") != 8:
        raise BuildError(f"{platform.node()} has a 32-bit system ({work.arch}): kernels need 64")
    if work.with_modules:
        work.say("loading its modules")
        work.call("trying its modules", [*work.with_modules, "true"], QUICK_LIMIT)
    if work.request.language == "python":
        tool = with_uv(work)
    elif work.request.language == "conda":
        tool = conda.build(work)
    else:
        tool = with_debian(work)
    work.say("trying it")
    # in an image that is being made, no kernel can run
    trial = {"seconds": 0.0} if HERE in os.environ else try_it(work)
    facts = {
        "node": platform.node().partition(".")[0],
        "arch": work.arch,
        "python": python_of(work),
        "tool": tool,
        "started": trial["seconds"],
        "seconds": round(time.monotonic() - began, 1),
    }
    (work.folder / "facts.json").write_text(json.dumps(facts))
    (work.target / shelf.STAMP).write_text(f"{work.request.name}\n")


def python_of(work: Work) -> str:
    python = work.target / "bin/python"
    if not python.exists():
        return ""
    code = "import platform; print(platform.python_version())"
    return work.call("the new Python does not run", [python, "-I", "-c", code], 60).strip()


# --- uv ---------------------------------------------------------------------------------------


def with_uv(work: Work) -> str:
    """A venv, its packages solved once for all processors and installed with their hashes."""
    uv = uv_program(work)
    python = work.target / "bin/python"
    work.say("making the environment")
    wanted = work.request.python or PYTHON
    what = f"there is no Python {wanted} to be had" if work.request.python else "no venv is made"
    work.call(what, [uv, "venv", "--quiet", "--clear", "--python", wanted, work.target])
    lock = work.version / shelf.LOCK
    if not lock.exists():
        work.say("solving what goes together")
        lock = solve(work, uv, python)
    work.say("installing")
    options = ["--quiet", "--require-hashes", "--compile-bytecode", "--python", str(python)]
    what = "cannot be installed"
    work.call(what, [*work.with_modules, uv, "pip", "install", *options, "-r", lock])
    for name in UV_LEFTOVERS:
        (work.target / name).unlink(missing_ok=True)
    return work.call("uv does not run", [uv, "--version"], 60).strip()


def solve(work: Work, uv: Path, python: Path) -> Path:
    """The lock file of what was asked for."""
    wanted = work.home / "wanted.txt"
    wanted.write_text("".join(f"{line}\n" for line in ("ipykernel", *work.request.packages)))
    lock = work.folder / shelf.LOCK
    options = ["--quiet", "--generate-hashes", "--no-header", "--no-annotate",
               "--no-emit-index-url", "--python", str(python)]  # fmt: skip
    what = "these do not go together"
    work.call(what, [*work.with_modules, uv, "pip", "compile", *options, wanted, "-o", lock])
    return lock


def uv_program(work: Work) -> Path:
    """uv for this processor: the login node's own, from the shared storage, or from its wheel."""
    shared = work.tools / work.arch / "uv"
    if shared.is_file():
        return shared
    return from_pins(work, "uv") / "bin/uv"


def from_pins(work: Work, tool: str) -> Path:
    """A small environment in this job's own folder, with a tool that is pinned with hashes."""
    work.say(f"fetching {tool}")
    place = work.home / tool
    pins = work.tools / f"{tool}-requirements.txt"
    work.call("no venv is made", [PYTHON, "-m", "venv", place], QUICK_LIMIT)
    options = ["install", "--quiet", "--no-cache-dir", "--require-hashes", "--only-binary", ":all:"]
    work.call(f"{tool} cannot be had", [place / "bin/python", "-m", "pip", *options, "-r", pins])
    return place


# --- R ----------------------------------------------------------------------------------------


def with_debian(work: Work) -> str:
    """R is the system's, and apply installs it: here its packages are only noted."""
    work.target.mkdir(exist_ok=True)
    packages = ["r-base-core", "r-cran-irkernel", *work.request.packages]
    form = "--showformat=${Package} ${Version} ${db:Status-Status}\\n"
    listed = work.call(
        "R is not installed here: practicum apply does that", ["dpkg-query", "-W", form, *packages]
    )
    rows = [line.split() for line in listed.splitlines()]
    missing = [row[0] for row in rows if row[-1] != "installed"]
    if missing:
        raise BuildError(f"{missing[0]} is not installed here: practicum apply does that")
    lock = "".join(f"{row[0]}={row[1]}\n" for row in rows)
    (work.folder / shelf.LOCK).write_text(lock)
    return f"Debian's R {rows[0][1]}"


# --- the trial --------------------------------------------------------------------------------


def try_it(work: Work) -> dict[str, float]:
    """Start a kernel from the new environment, at its final path, and run a cell."""
    spec = work.home / "jupyter/kernels/trial"
    spec.mkdir(parents=True)
    argv = json.loads(present.start_json(work.request))["argv"]
    argv = [*work.with_modules, *(word.replace("{prefix}", str(work.target)) for word in argv)]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "trial", "language": "python"})
    )
    own = work.target / "bin/python"
    code, answer = TRIALS.get(work.request.language, ANY_TRIAL)
    told = work.call(
        "the new kernel does not start",
        [own if own.exists() else work.server, "-I", Path(__file__).with_name("trial.py"),
         "trial", code],
        QUICK_LIMIT * 2,
        {"JUPYTER_PATH": str(work.home / "jupyter"),
         "PATH": f"{work.target / 'bin'}:{work.env['PATH']}"},
    )  # fmt: skip
    found = json.loads(told.splitlines()[-1])
    if not found["ok"] or found["output"] != answer:
        raise BuildError(f"the new kernel does not work: {short(found['output'])}")
    return {"seconds": found["seconds"]}


def attempt(envs: Path, name: str, code: str, folder: Path) -> int:
    """``practicum kernel test``: start it as the launcher would, run a cell, leave the answer."""
    with tempfile.TemporaryDirectory(prefix="practicum-kernel-") as home:
        env = dict(os.environ)
        env.update(HOME=home, JUPYTER_PATH=str(envs / "jupyter"), IPYTHONDIR=f"{home}/ipython",
                   JUPYTER_RUNTIME_DIR=f"{home}/runtime")  # fmt: skip
        python = envs / "server/current/bin/python"
        script = Path(__file__).with_name("trial.py")
        done = subprocess.run(
            [str(python), "-I", str(script), name, code], env=env, cwd=home, check=False,
            capture_output=True, text=True, timeout=QUICK_LIMIT * 2, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    if done.returncode:
        sys.stderr.write(short(done.stderr))
        return 1
    told = json.loads(done.stdout.splitlines()[-1])
    if done.stderr.strip() and not told["ok"]:
        told["output"] = short(f"{told['output']} {done.stderr}")
    (folder / "told.json").write_text(json.dumps(told))
    return 0
