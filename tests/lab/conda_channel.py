"""A conda channel for tests: two small packages that stand on an environment that is there."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


def add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def package(folder: Path, name: str, depends: list[str], files: dict[str, bytes | str]) -> None:
    """NAME-1.0-0.tar.bz2; a text is the target of a link."""
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": depends,
             "subdir": folder.name, "platform": "linux", "arch": folder.name[6:]}  # fmt: skip
    paths: list[dict[str, Any]] = []
    with tarfile.open(folder / f"{name}-1.0-0.tar.bz2", "w:bz2", compresslevel=1) as archive:
        for path, data in files.items():
            if isinstance(data, str):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, data
                archive.addfile(entry)
                paths.append({"_path": path, "path_type": "softlink"})
            else:
                add_file(archive, path, data, 0o755 if path.startswith("bin/") else 0o644)
                digest = hashlib.sha256(data).hexdigest()
                paths.append({"_path": path, "path_type": "hardlink", "sha256": digest,
                              "size_in_bytes": len(data)})  # fmt: skip
        add_file(archive, "info/index.json", json.dumps(index).encode())
        listed = json.dumps({"paths": paths, "paths_version": 1}).encode()
        add_file(archive, "info/paths.json", listed)
        add_file(archive, "info/files", "".join(f"{path}\n" for path in files).encode())


def make_channel(channel: Path, version: Path) -> None:
    """``version`` is one of a Python kernel; conda's ipykernel points to its site-packages."""
    arch = next(path.name for path in version.iterdir() if path.name in PLATFORMS)
    folder = channel / PLATFORMS[arch]
    folder.mkdir(parents=True)
    home = version / arch
    (site,) = home.glob("lib/python3*/site-packages")
    inside = site.relative_to(home)
    python = inside.parts[1]
    config = b"home = /usr/bin\ninclude-system-site-packages = false\n"
    package(folder, "python", [], {
        "pyvenv.cfg": config, "bin/python": "/usr/bin/python3", "bin/python3": "python",
        f"{inside.parent}/{python}.txt": b"a venv of the system's\n",
    })  # fmt: skip
    there = f"/nfs/envs/{version.parent.name}/{version.name}/{arch}/{inside}\n"
    package(folder, "ipykernel", ["python"], {f"{inside}/there.pth": there.encode()})
    records = {}
    for path in sorted(folder.glob("*.tar.bz2")):
        with tarfile.open(path) as archive:
            stream = archive.extractfile("info/index.json")
            assert stream is not None
            records[path.name] = {
                **json.load(stream), "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }  # fmt: skip
    repodata = {"info": {"subdir": folder.name}, "packages": records, "packages.conda": {}}
    (folder / "repodata.json").write_text(json.dumps(repodata))
    (channel / "noarch").mkdir()
    empty = {"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": {}}
    (channel / "noarch/repodata.json").write_text(json.dumps(empty))
