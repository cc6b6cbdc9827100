"""The installed application as a wheel: how practicum puts itself onto the login node.

Built from the files that are running now, wherever they were installed from, so the node gets
exactly the version that provisions it. The same files give the same bytes: the wheel's digest
then says whether a node has to be touched.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

NAME = "practicum"
# As in pyproject.toml; sub-packages come with their parents, tests never do.
PACKAGES = (
    "cluster",
    "coursework",
    "hub",
    "kernels",
    "lmod",
    "practicum",
    "provisioning",
    "spawners",
)
# The first moment that a zip file can tell.
EPOCH = (1980, 1, 1, 0, 0, 0)
_WHEEL = b"Wheel-Version: 1.0\nGenerator: practicum\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ROOT = Path(__file__).resolve().parent.parent


def filename() -> str:
    return f"{NAME}-{metadata.version(NAME)}-py3-none-any.whl"


def build(root: Path = ROOT) -> bytes:
    """The wheel's bytes. ``root`` is the folder that holds the packages.

    Raises FileNotFoundError when a package is missing there, and
    importlib.metadata.PackageNotFoundError when practicum itself is not installed.
    """
    distribution = metadata.distribution(NAME)
    info = f"{NAME}-{distribution.version}.dist-info"
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in sources(root)}
    contents[f"{info}/METADATA"] = _metadata(distribution).encode()
    contents[f"{info}/WHEEL"] = _WHEEL
    contents[f"{info}/entry_points.txt"] = _entry_points(distribution).encode()
    return _sealed(contents, info)


def pack(name: str, version: str, contents: Mapping[str, bytes]) -> bytes:
    """Another wheel, of files by their paths, that needs nothing and has no commands."""
    info = f"{name}-{version}.dist-info"
    metadata_text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return _sealed(
        {**contents, f"{info}/METADATA": metadata_text.encode(), f"{info}/WHEEL": _WHEEL}, info
    )


def _sealed(contents: dict[str, bytes], info: str) -> bytes:
    record = f"{info}/RECORD"
    lines = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in sorted(contents.items())]
    return _zip({**contents, record: "\n".join([*lines, f"{record},,", ""]).encode()})


def sources(root: Path) -> Iterator[Path]:
    """The files of all packages: no byte code, no hidden files, no editor's leftovers."""
    for package in PACKAGES:
        folder = root / package
        if not (folder / "__init__.py").is_file():
            raise FileNotFoundError(f"{folder} is not a package: practicum is not installed whole")
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(root).parts
            if path.is_symlink() or not path.is_file() or path.suffix in (".pyc", ".pyo"):
                continue
            if any(part.startswith(".") or part.endswith("~") for part in parts):
                continue
            if "__pycache__" not in parts:
                yield path


def _metadata(distribution: metadata.Distribution) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {NAME}", f"Version: {distribution.version}"]
    pythons = distribution.metadata.get_all("Requires-Python") or []
    lines += [f"Requires-Python: {python}" for python in pythons]
    lines += [f"Provides-Extra: {name}" for name in _extras(distribution)]
    lines += [f"Requires-Dist: {name}" for name in sorted(distribution.requires or [])]
    return "\n".join(lines) + "\n"


def _extras(distribution: metadata.Distribution) -> list[str]:
    return sorted(distribution.metadata.get_all("Provides-Extra") or [])


def _entry_points(distribution: metadata.Distribution) -> str:
    scripts = [point for point in distribution.entry_points if point.group == "console_scripts"]
    lines = sorted(f"{point.name} = {point.value}" for point in scripts)
    return "\n".join(["[console_scripts]", *lines, ""])


def _hash(data: bytes) -> str:
    digest = hashlib.sha256(data).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _zip(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    # RECORD comes last, as the format advises; stored, not deflated, since zlib's output
    # differs between versions and the transport compresses anyway.
    names = sorted(contents, key=lambda name: (name.endswith(".dist-info/RECORD"), name))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, contents[name])
    return buffer.getvalue()
