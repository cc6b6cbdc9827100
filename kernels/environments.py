"""Environments as resources: the builder, its uv, and one spec and command for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kernels import build_env
from kernels.build_env import Spec
from provisioning.resources import Command, Directory, File, Package, Resource, file

LIBRARY = "/usr/local/lib/practicum"
BUILDER = f"{LIBRARY}/build_env.py"
SPECS = "/etc/practicum/environments"
FILES = Path(__file__).parent / "files"
SCRIPT = Path(build_env.__file__)
# jsonschema's check of one rare format: a grammar compiled at import, one to three seconds of a
# processor at each start of a hub or nbgrader. Without it jsonschema skips the check. (Sessions'
# servers have theirs as pip makes it, for the stock spawner is measured with it: the launcher makes
# that import fail.)
GRAMMAR = "lib/python3*/site-packages/rfc3987_syntax"
BUILD_LIMIT = 3600  # seconds; a Pi with a slow disk takes its time


def builder() -> list[Resource]:
    """The builder on a node, with uv in a small environment of its own."""
    pins = f"{LIBRARY}/uv-requirements.txt"
    uv = Spec(name="uv", root=f"{LIBRARY}/uv", tool="pip", requirements=pins, keep=1)
    contents = {pins: (FILES / "uv-requirements.txt").read_bytes()}
    return [
        Package(package="python3-venv"),
        Package(package="ca-certificates"),
        Directory(path="/etc/practicum"),
        Directory(path=LIBRARY),
        Directory(path=SPECS),
        file(BUILDER, SCRIPT.read_bytes(), mode=0o755),
        *environment(uv, contents),
    ]


def environment(
    spec: Spec, contents: Mapping[str, bytes], notify: tuple[str, ...] = ()
) -> list[Resource]:
    """The input files, the spec, and the command that builds and publishes when needed.

    ``contents`` has the bytes of each of ``spec.inputs``; KeyError if one is missing.
    """
    files: list[File] = [file(path, contents[path]) for path in spec.inputs]
    wanted = build_env.digest(spec, [contents[path] for path in spec.inputs], SCRIPT.read_bytes())
    path = f"{SPECS}/{spec.name}.json"
    words = (build_env.PYTHON, "-I", BUILDER)
    return [
        *files,
        file(path, spec.text()),
        Command(
            id=f"environment-{spec.name}",
            run=(*words, "build", path, wanted),
            check=(*words, "check", path, wanted),
            summary=f"build the environment {spec.name} in {spec.root}",
            timeout=BUILD_LIMIT,
            notify=notify,
        ),
    ]
