"""The application's own wheel: it installs, and it is always the same."""

from __future__ import annotations

import io
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from provisioning import wheel

ROOT = Path(__file__).resolve().parents[2]


def test_two_builds_are_the_same_bytes() -> None:
    assert wheel.build() == wheel.build()


def test_packages_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    assert set(wheel.PACKAGES) == {name.partition(".")[0] for name in listed}
    packed = zipfile.ZipFile(io.BytesIO(wheel.build())).namelist()
    assert {f"{name.replace('.', '/')}/__init__.py" for name in listed} <= set(packed)


def test_nothing_but_the_product_is_packed() -> None:
    names = zipfile.ZipFile(io.BytesIO(wheel.build())).namelist()
    assert "hub/files/requirements.txt" in names
    assert "cluster/py.typed" in names or "cluster/__init__.py" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_missing_package_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not installed whole"):
        wheel.build(tmp_path)


def test_it_installs_and_gives_the_command(tmp_path: Path) -> None:
    file = tmp_path / wheel.filename()
    file.write_bytes(wheel.build())
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    options = ["--no-index", "--no-compile", "--quiet", str(file)]
    subprocess.run([*install, *options], check=True, timeout=120)
    # another folder, so that what is imported is what was installed
    code = "import cluster.model, hub; print(hub.__file__)"
    ask = [str(python), "-Ic", code.replace("cluster.model, ", "")]
    where = subprocess.run(ask, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert where.stdout.strip().startswith(str(tmp_path / "venv"))
    assert (tmp_path / "venv/bin/practicum").is_file()
