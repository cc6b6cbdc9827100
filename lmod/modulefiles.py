"""The first modulefiles: one for each shared kernel's Python, and the system's Open MPI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cluster.model import Cluster, Kernel
from provisioning.facts import Facts

TEMPLATES = Path(__file__).parent / "templates"
# Upstream versions of Open MPI in the distributions. A stable release keeps its own, and the
# package is not installed yet when the first plan is made.
OPENMPI = {"bookworm": "4.1.4", "trixie": "5.0.7", "noble": "4.1.6"}
TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


def lua_string(text: str) -> str:
    """A Lua string literal for any text: nothing in it can end it early."""
    found = []
    for char in text:
        if char in '"\\':
            found.append(f"\\{char}")
        elif char < " " or char == "\x7f":
            found.append(f"\\{ord(char):03d}")
        else:
            found.append(char)
    return '"' + "".join(found) + '"'


def render(template: str, values: Mapping[str, str]) -> str:
    """Every value is quoted for Lua: templates write ``{{ name }}`` without quotes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        finalize=lambda value: lua_string(str(value)),
        autoescape=False,  # noqa: S701 - Lua, not HTML; finalize quotes
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


def python_module(cluster: Cluster, kernel: Kernel, facts: Facts) -> tuple[str, str]:
    """(path under Core, text) of a kernel's module."""
    # the kernel that notebooks ask for is python3; the module's version says the 3
    name = "python" if kernel.name == "python3" else kernel.name
    version = facts.python or "3"
    values = {
        "title": kernel.title,
        "name": name,
        "prefix": f"{cluster.storage.envs}/{kernel.name}/current",
        "packages": ", ".join(kernel.packages),
    }
    return f"{name}/{version}.lua", render("python.lua.j2", values)


def openmpi_module(facts: Facts) -> tuple[str, str]:
    """(path under Core, text) of the distribution's Open MPI."""
    version = OPENMPI.get(facts.os_codename, "system")
    triplet = TRIPLETS.get(facts.arch, f"{facts.arch}-linux-gnu")
    values = {"version": version, "prefix": f"/usr/lib/{triplet}/openmpi"}
    return f"openmpi/{version}.lua", render("openmpi.lua.j2", values)
