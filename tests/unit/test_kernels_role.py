"""Kernels: resources, kernelspecs, and the starter run for real."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hub_sample import context, sample

from kernels import kernelspec, role
from kernels.environments import FILES
from provisioning.resources import Command, File

STARTER = FILES / "kernel-start"


def test_server_then_kernels_then_their_kernelspecs() -> None:
    resources = role.environments(context())
    commands = [item.id for item in resources if isinstance(item, Command)]
    assert commands == ["environment-uv", "environment-server", "environment-kernel-python3"]
    keys = [item.key for item in resources]
    spec = "file:/nfs/envs/jupyter/kernels/python3/kernel.json"
    assert keys.index(spec) > keys.index("command:environment-kernel-python3")


def test_spec_files_match_their_commands() -> None:
    """The command's digest is of exactly the files that are declared with it."""
    resources = role.environments(context())
    paths = {item.path for item in resources if isinstance(item, File)}
    for command in resources:
        if isinstance(command, Command):
            assert command.run[4] in paths
            assert command.run[4:] == command.check[4:]


def test_default_kernel_is_the_first_and_the_servers_own_python_is_none() -> None:
    config = json.loads(kernelspec.server_config(sample()))
    assert config["KernelSpecManager"]["ensure_native_kernel"] is False
    assert config["MappingKernelManager"]["default_kernel_name"] == "python3"
    assert "MappingKernelManager" not in json.loads(kernelspec.server_config(sample(kernels=[])))


def test_modules_stand_before_the_dashes() -> None:
    kernels = [{"name": "py", "title": "P", "packages": ["numpy"], "modules": ["gcc/12", "mpi"]}]
    cluster = sample(kernels=kernels)
    argv = json.loads(kernelspec.kernel_json(cluster, cluster.kernels[0]))["argv"]
    assert argv[1:] == ["/nfs/envs/py/current", "gcc/12", "mpi", "--", "-f", "{connection_file}"]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A version with a python that tells how it was called."""
    folder = tmp_path / "v1/bin"
    folder.mkdir(parents=True)
    python = folder / "python"
    python.write_text('#!/bin/sh\necho "$VIRTUAL_ENV" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "current").symlink_to("v1")
    return tmp_path / "current"


def test_the_starter_resolves_the_link_and_passes_the_rest(environment: Path) -> None:
    words = ["bash", str(STARTER), str(environment), "--", "-f", "a file; with $(words)"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    version = environment.resolve()
    assert said == f"{version} -m ipykernel_launcher -f a file; with $(words)"


def test_a_missing_environment_is_said(tmp_path: Path) -> None:
    words = ["bash", str(STARTER), str(tmp_path / "none"), "--", "-f", "x"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "tell your instructor" in done.stderr


def test_pins_name_no_registry() -> None:
    for path in FILES.glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--hash=sha256:" in text
