"""What Jupyter's launcher is told of a kernel: kernel.json and its logo. Standard library only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernels.node import shelf
from kernels.node.request import Request

START = "/usr/local/lib/practicum/kernel-start"
LOGOS = ("logo-svg.svg", "logo-64x64.png", "logo-32x32.png")
LOGO_FOLDERS = ("share/jupyter/kernels/*", "lib/R/library/IRkernel/kernelspec")
R_LOGOS = ("/usr/lib/R/site-library/IRkernel/kernelspec",)
LANGUAGES = {"r": "R"}


def shown(request: Request, version: int) -> str:
    """The line under the logo: title, version, modules."""
    parts = [request.title or request.name, f"v{version}"]
    if request.modules:
        parts.append(" ".join(request.modules))
    return " · ".join(parts)


def kernel_json(envs: Path, request: Request, version: int) -> str:
    """kernel.json. The starter gets the kernel's folder and resolves ``current`` itself, once."""
    words = [START, str(envs), request.name, *request.modules, "--", "{connection_file}"]
    spec: dict[str, Any] = {
        "argv": words,
        "display_name": shown(request, version),
        "language": LANGUAGES.get(request.language, "python"),
        "metadata": {
            "debugger": request.language != "r",
            "practicum": {
                "version": version,
                "modules": list(request.modules),
                "packages": list(request.packages),
            },
        },
    }
    return json.dumps(spec, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def start_json(request: Request) -> str:
    """How a kernel of this version is started; {prefix} is its environment."""
    if request.language == "r":
        argv = ["/usr/bin/R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    else:
        argv = ["{prefix}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return json.dumps({"argv": argv, "language": request.language}) + "\n"


def folder(envs: Path, name: str) -> Path:
    return envs / "jupyter/kernels" / name


def is_shown(envs: Path, request: Request, version: int) -> bool:
    """Whether Jupyter is told what it should be."""
    here = folder(envs, request.name)
    try:
        same = (here / "kernel.json").read_text() == kernel_json(envs, request, version)
        return same and (here.stat().st_mode & 0o777) == (0o750 if request.group else 0o755)
    except OSError:
        return False


def show(envs: Path, request: Request, version: int) -> None:
    """Put it into the launcher, for its group alone if it has one."""
    here = folder(envs, request.name)
    here.mkdir(parents=True, exist_ok=True)
    shelf.open_to(here, request.group)
    for name, path in logos(envs / request.name / str(version)).items():
        if not (here / name).exists():
            shutil.copyfile(path, here / name)
    shelf.write(here / "kernel.json", kernel_json(envs, request, version))


def hide(envs: Path, name: str) -> None:
    """Take it out of the launcher."""
    here = folder(envs, name)
    (here / "kernel.json").unlink(missing_ok=True)
    shutil.rmtree(here, ignore_errors=True)


def logos(version: Path) -> Mapping[str, Path]:
    """The pictures that the kernel's own package brings."""
    places = [place for arch in sorted(version.iterdir()) if arch.is_dir()
              for pattern in LOGO_FOLDERS for place in sorted(arch.glob(pattern))]  # fmt: skip
    places += [Path(place) for place in R_LOGOS]
    for place in places:
        found = {name: place / name for name in LOGOS if _is_own(place / name, version)}
        if found:
            return found
    return {}


def _is_own(path: Path, version: Path) -> bool:
    """A file of the version or the system's R, and no link out of it to what only root reads."""
    real = path.resolve()
    inside = real.is_relative_to(version.resolve()) or str(path).startswith(R_LOGOS)
    return inside and real.is_file()
