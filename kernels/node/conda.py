"""Conda environments by py-rattler: no conda, no mamba, no base environment. Standard library
only; py-rattler itself is in an environment of its own, and :mod:`kernels.node.solving` runs there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kernels.build_env import BuildError
from kernels.node import shelf
from kernels.node.words import short

if TYPE_CHECKING:
    from kernels.node.job import Work

PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


def build(work: Work) -> str:
    """Solve (or take the lock) and install into the target; what did it. BuildError."""
    from kernels.node.job import from_pins  # noqa: PLC0415 - job imports this module

    platform = PLATFORMS.get(work.arch)
    if platform is None:
        raise BuildError(f"conda has no packages for {work.arch}")
    rattler = from_pins(work, "rattler")
    lock = work.version / f"{shelf.LOCK}-{work.arch}"
    wanted = {
        "packages": ["ipykernel", *work.request.packages],
        "channels": list(work.request.channels) or ["conda-forge"],
        "platform": platform,
        "target": str(work.target),
        "cache": str(work.home / "conda"),
        "lock": lock.read_text() if lock.exists() else "",
    }
    work.say("solving what goes together and installing")
    asked = work.home / "wanted.json"
    asked.write_text(json.dumps(wanted))
    script = Path(__file__).with_name("solving.py")
    told = work.call(
        "conda's packages", [rattler / "bin/python", "-I", script, asked, work.home / "done.json"]
    )
    if not (work.target / "bin/python").exists():
        raise BuildError(f"conda's packages bring no python: {short(told)}")
    done = json.loads((work.home / "done.json").read_text())
    (work.folder / shelf.LOCK).write_text(done["lock"])
    python = work.target / "bin/python"
    work.say("compiling")
    work.call("byte-compiling", [python, "-I", "-m", "compileall", "-q", work.target / "lib"])
    return str(done["tool"])
