"""Solves and installs a conda environment. Run by a Python that has py-rattler:
solving.py WANTED.json DONE.json

WANTED: packages (match specifications), channels, platform, target, cache, lock ("": solve).
DONE: lock, one match specification a line with build and SHA-256, and what did it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any


async def work(wanted: dict[str, Any]) -> dict[str, str]:
    """Raises py-rattler's own errors; their words are for the admin."""
    import rattler  # noqa: PLC0415 - not in the builder's Python

    locked = [line for line in wanted["lock"].splitlines() if line and not line.startswith("#")]
    place = Path(wanted["cache"])
    records = await rattler.solve(
        sources=[rattler.Channel(name) for name in wanted["channels"]],
        specs=locked or wanted["packages"],
        platforms=[wanted["platform"], "noarch"],
        gateway=rattler.Gateway(cache_dir=place / "repodata"),
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    await rattler.install(
        records=records, target_prefix=wanted["target"], cache_dir=place / "packages",
        show_progress=False,
    )  # fmt: skip
    lines = []
    for record in sorted(records, key=lambda one: one.name.normalized):
        digest = record.sha256
        found = digest.hex() if isinstance(digest, bytes) else str(digest or "")
        sha = f'[sha256="{found}"]' if found else ""
        lines.append(f"{record.name.normalized} =={record.version} {record.build}{sha}\n")
    return {"lock": "".join(lines), "tool": f"py-rattler {rattler.__version__}"}


def main(argv: list[str]) -> int:
    wanted = json.loads(Path(argv[0]).read_text())
    try:
        done = asyncio.run(work(wanted))
    except Exception as error:  # noqa: BLE001 - py-rattler's errors share no base
        print(f"{error}", file=sys.stderr)  # noqa: T201
        return 1
    Path(argv[1]).write_text(json.dumps(done))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Not sys.exit: rattler's threads live on while Python takes itself apart, and on a busy node
    # one of 25 runs that had done all their work ended by SIGSEGV (PyO3/pyo3-async-runtimes#40).
    os._exit(status)
