#!/usr/bin/python3
"""Debian's source package, and packages to unpack beside it. Standard library only; as root.

    fetch_source.py FOLDER SOURCE NAME PACKAGE...

SOURCE is unpacked by dpkg-source into FOLDER/NAME.tar, its top folder being NAME; the files of the
binary packages go to FOLDER/packages. apt checks the signatures. Its lists are fetched into a
folder of their own, so that the system's stay as they are. Prints the source's version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

APT = Path("/etc/apt")
LIMIT = 1200
LOCK = 300  # seconds that dpkg may be busy


class FetchError(Exception):
    """One sentence."""


def call(argv: Sequence[str], folder: Path) -> str:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            list(argv), cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FetchError(f"{argv[0]} did not end within {LIMIT} s") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("E:")] or lines
        raise FetchError(f"{argv[0]} {argv[-1]} failed: {said[-1] if said else 'no word of why'}")
    return done.stdout


def sources(text: str, *, deb822: bool) -> str:
    """The same archives, for source packages too."""
    if deb822:
        return re.sub(r"^Types:.*$", "Types: deb deb-src", text, flags=re.MULTILINE)
    return re.sub(r"^\s*deb\s(.*)$", r"deb \1\ndeb-src \1", text, flags=re.MULTILINE)


def fetch(folder: Path, source: str, name: str, packages: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="practicum-source-") as place:
        work = Path(place)
        work.chmod(0o755)  # apt's own user downloads
        for one in ("parts", "lists/partial", "files"):
            (work / one).mkdir(parents=True)
        shutil.chown(work / "lists/partial", "_apt")
        found = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]
        for path in found:
            if path.suffix in (".list", ".sources") and path.is_file():
                text = sources(path.read_text(), deb822=path.suffix == ".sources")
                (work / "parts" / path.name).write_text(text)
        places = {"Etc::sourcelist": "/dev/null", "Etc::sourceparts": f"{work}/parts",
                  "State::lists": f"{work}/lists"}  # fmt: skip
        own = [word for name, path in places.items() for word in ("-o", f"Dir::{name}={path}")]
        call(["apt-get", *own, "-q", "update"], work)
        if not shutil.which("dpkg-source"):
            own += ["-o", f"DPkg::Lock::Timeout={LOCK}"]
            call(["apt-get", *own, "install", "-y", "-q", "--no-install-recommends", "dpkg-dev"],
                 work)  # fmt: skip
        call(["apt-get", *own, "-q", "source", "--download-only", source], work / "files")
        described = next((work / "files").glob("*.dsc"), None)
        if described is None:
            raise FetchError(f"apt has no source package {source}")
        # a patched source is newer than its configure, and would ask for autotools
        unpack = ["dpkg-source", "--no-check", "--skip-patches", "-x"]
        call([*unpack, described.name, name], work / "files")
        version = re.search(r"^Version: (\S+)$", described.read_text(), re.MULTILINE)
        folder.mkdir(parents=True, exist_ok=True)
        # all of one time: what seems older than what it was made from is made anew, by autotools
        # again, and upstream's archive of Open MPI 4.1.4 has a few such files
        tar = ["tar", "-C", str(work / "files"), "--mtime=2000-01-01", "-cf"]
        call([*tar, str(folder / f"{name}.tar"), name], work)
        (work / "debs").mkdir()
        shutil.chown(work / "debs", "_apt")
        for package in packages:
            call(["apt-get", *own, "-q", "download", package], work / "debs")
        shutil.rmtree(folder / "packages", ignore_errors=True)
        for deb in (work / "debs").glob("*.deb"):
            call(["dpkg-deb", "-x", str(deb), str(folder / "packages")], work)
        return version[1] if version else "?"


def main(argv: Sequence[str]) -> int:
    if len(argv) < 3:
        print("usage: fetch_source.py FOLDER SOURCE NAME PACKAGE...", file=sys.stderr)  # noqa: T201
        return 2
    os.umask(0o022)
    try:
        print(fetch(Path(argv[0]), argv[1], argv[2], argv[3:]))  # noqa: T201
    except (FetchError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
